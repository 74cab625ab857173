"""What both baselines share: the bridge's contract, and a model call of fixed duration."""

import argparse
import json
import time
from http.server import BaseHTTPRequestHandler


def arguments(description, **more):
    """Reads --port and --call, and the flags in `more` (name to default)."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--port", type=int, default=9200, help="port on 127.0.0.1; 0 takes a free one")
    parser.add_argument("--call", type=float, default=5.0, help="seconds that a model call takes")
    for name, default in more.items():
        parser.add_argument("--" + name, type=type(default), default=default)
    return parser.parse_args()


def handler(call_seconds):
    """A handler of POST /bridge/chat whose model answers after `call_seconds`."""

    class Bridge(BaseHTTPRequestHandler):
        def do_POST(self):
            length = int(self.headers.get("Content-Length", 0))
            message = json.loads(self.rfile.read(length))
            if self.path != "/bridge/chat":
                self.send_error(404)
                return
            time.sleep(call_seconds)  # the model at work
            answer = json.dumps({"response": "Simulated answer to " + message["username"]}).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_):
            pass

    return Bridge


def serve(server):
    """Says where it listens, in one line, and serves until it is ended."""
    print(f"http://127.0.0.1:{server.server_address[1]}", flush=True)
    server.serve_forever()
