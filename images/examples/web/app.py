"""An HTTP service as an app image holds it: `/` says its version, `/healthz` whether it is well, `/greeting` what the
secret of that name is.

Environment: PORT (8080), APP_VERSION, HEALTHY (0 makes /healthz answer 503).
"""

import os
import signal
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

VERSION = os.environ.get("APP_VERSION", "unknown")
HEALTHY = os.environ.get("HEALTHY", "1") != "0"
GREETING = "/run/secrets/greeting"


class Handler(BaseHTTPRequestHandler):
    """Answers GET."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        if self.path == "/":
            python = ".".join(map(str, sys.version_info[:3]))
            self.reply(200, f"web version {VERSION} on Python {python}\n")
        elif self.path == "/healthz":
            self.reply(*((200, "ok\n") if HEALTHY else (503, "this version is not well\n")))
        elif self.path == "/greeting" and os.path.exists(GREETING):
            with open(GREETING, encoding="utf-8") as secret:
                self.reply(200, secret.read())
        else:
            self.reply(404, "not found\n")

    def reply(self, status, text):
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", "text/plain; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def main():
    server = ThreadingHTTPServer(("", int(os.environ.get("PORT", "8080"))), Handler)
    # As process 1 of a container it has no default action for SIGTERM.
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    print(f"web {VERSION} listens on port {server.server_port}", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
