"""The frame of an API that a test gives to the command: a handler that answers in JSON, and the server. See cli_api.sh."""
import http.server, json, os, sys

work = sys.argv[1]


class Server(http.server.ThreadingHTTPServer):
    def handle_error(self, *_):
        pass  # the command went away when it had seen enough


class Handler(http.server.BaseHTTPRequestHandler):
    def answer(self, body, status=200):
        self.send_response(status)
        self.end_headers()
        self.wfile.write(json.dumps(body).encode())

    def log_message(self, *_):
        pass


def serve(handler):
    server = Server(("127.0.0.1", 0), handler)
    with open(work + "/port.new", "w") as f:
        f.write(str(server.server_port))
    os.rename(work + "/port.new", work + "/port")
    server.serve_forever()
