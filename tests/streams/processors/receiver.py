"""Where webhooks of tests go."""

import http.server
import json
import threading
import time
from typing import Any


class Receiver:
    """A server that answers what it is told, after a pause, and remembers what it was sent."""

    def __init__(self, pause: float = 0.0) -> None:
        self.answers: list[int] = []
        self.seen: list[tuple[str, dict[str, str], bytes]] = []
        receiver = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                receiver.seen.append((self.path, dict(self.headers), body))
                time.sleep(pause)
                status = receiver.answers.pop(0) if receiver.answers else 204
                self.send_response(status)
                if status in (301, 302, 307, 308):
                    self.send_header("Location", "/elsewhere")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Nothing is printed."""

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self._server.server_port
        self.allowed = (f"localhost:{self.port}", "127.0.0.0/8", "::1/128")
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    @property
    def bodies(self) -> list[Any]:
        """What it was sent, decoded."""
        return [json.loads(body) for _, _, body in self.seen]

    def close(self) -> None:
        """Listen no more."""
        self._server.shutdown()
        self._server.server_close()
