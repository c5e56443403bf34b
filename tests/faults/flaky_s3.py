"""A proxy before a stand-in for S3: it hands requests on, or does to them what a test says."""

import http.client
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Lock, Thread
from urllib.parse import urlsplit


class FlakyS3(ThreadingHTTPServer):
    """``fault`` is asked for each request, by its number from 1 on, and says what befalls it:

    ``500`` and the like, ``drop`` (before it is done), ``forget`` (the answer, after it is done),
    ``hang`` (until ``heal``), or nothing.
    """

    daemon_threads = True

    def __init__(self, upstream):
        super().__init__(("127.0.0.1", 0), _Requests)
        self.upstream = urlsplit(upstream).netloc
        self.count, self.seen, self._lock = 0, [], Lock()
        self.healed = Event()
        self.heal()
        Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()

    @property
    def url(self):
        """Where it listens."""
        return f"http://127.0.0.1:{self.server_port}"

    def heal(self):
        """From now on hand everything on."""
        self.fault = lambda _number, _command: ""
        self.healed.set()

    def break_(self, fault):
        """From now on do what ``fault`` says of each request; counting begins anew."""
        self.count, self.seen = 0, []
        self.healed.clear()
        self.fault = fault

    def next_fault(self, command):
        """What befalls this request."""
        with self._lock:
            self.count += 1
            self.seen.append(command)
            return self.fault(self.count, command)

    def handle_error(self, _request, _address):
        """Clients hang up; that is no news here."""


class _Requests(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def _serve(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        fault = self.server.next_fault(self.command)
        if fault == "hang":
            self.server.healed.wait(60)
        if fault in ("hang", "drop"):
            self.close_connection = True
            return
        if fault.isdigit():
            self._answer(int(fault), {}, b"<Error><Code>Fault</Code></Error>")
            return
        with closing(http.client.HTTPConnection(self.server.upstream, timeout=60)) as upstream:
            upstream.request(self.command, self.path, body, dict(self.headers))
            answer = upstream.getresponse()
            content = answer.read()
        if fault == "forget":
            self.close_connection = True
            return
        self._answer(answer.status, dict(answer.getheaders()), content)

    def _answer(self, status, headers, content):
        self.send_response_only(status)
        size = (
            headers.pop("Content-Length", len(content)) if self.command == "HEAD" else len(content)
        )
        for name, value in headers.items():
            if name.lower() not in ("content-length", "connection", "transfer-encoding"):
                self.send_header(name, value)
        self.send_header("Content-Length", str(size))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    do_GET = do_PUT = do_HEAD = do_POST = do_DELETE = _serve  # noqa: N815 - the server's names

    def log_message(self, *_):
        """Say nothing."""


@contextmanager
def flaky_s3(upstream):
    """Such a proxy."""
    server = FlakyS3(upstream)
    try:
        yield server
    finally:
        server.heal()
        server.shutdown()
        server.server_close()


def nth(number, fault):
    """The same fault for the n-th request and no other."""
    return lambda count, _command: fault if count == number else ""


def the_first(times, command, fault):
    """The same fault for the first requests of one method, and no other."""
    left = [fault] * times
    return lambda _count, asked: left.pop() if asked == command and left else ""
