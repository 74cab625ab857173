"""The chat bridge as first remedied: a thread per request.

`--backlog 5` is what the standard library listens with, and so what the remedy had as written.
"""

from http.server import ThreadingHTTPServer

from simulated_call import arguments, handler, serve

if __name__ == "__main__":
    args = arguments(__doc__, backlog=ThreadingHTTPServer.request_queue_size)
    ThreadingHTTPServer.request_queue_size = args.backlog
    ThreadingHTTPServer.daemon_threads = True
    serve(ThreadingHTTPServer(("127.0.0.1", args.port), handler(args.call)))
