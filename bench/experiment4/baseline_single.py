"""The chat bridge as first reported: http.server.HTTPServer, one request at a time."""

from http.server import HTTPServer

from simulated_call import arguments, handler, serve

if __name__ == "__main__":
    args = arguments(__doc__)
    serve(HTTPServer(("127.0.0.1", args.port), handler(args.call)))
