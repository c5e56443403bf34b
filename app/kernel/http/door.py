"""The door before Flask: refuses predictions that there is no place for, as cheaply as can be.

Order of events: a look at the line, before the key, the route and the body cost anything; the body,
which may come slowly and holds a place for bodies only; the place, taken when the body is there and
before it is read as JSON; the view; and here, whatever became of it, the place given back.

The body of what is refused is read as well, unless it is long, or so short that the server has it
already: a server that answers before a body has come ends the connection, and a client that has to
connect anew for each refusal is a greater burden than one that is refused.
"""

import re
from collections.abc import Iterable
from typing import Final
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from app.kernel.admission import TICKET, Admission, Ticket
from app.kernel.http.gate import safe_headers, sound_request_id
from app.kernel.http.problems import CONTENT_TYPE, pause_of, problem_text
from app.kernel.slots import Slots

_HAD_ALREADY: Final = 8192
_LONGEST_READ: Final = 2_000_000


class Door:
    """A WSGI app before another: the POSTs to ``paths`` are let in as ``admission`` says.

    ``body_slots`` are the places for bodies that are read.
    """

    def __init__(
        self,
        app: WSGIApplication,
        admission: Admission,
        paths: re.Pattern[str],
        body_slots: Slots,
    ) -> None:
        self._app = app
        self._admission = admission
        self._paths = paths
        self._body_slots = body_slots

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer a request."""
        if environ["REQUEST_METHOD"] != "POST" or not self._paths.fullmatch(environ["PATH_INFO"]):
            return self._app(environ, start_response)
        ticket = environ[TICKET] = Ticket(self._admission)
        if not ticket.announce():
            return self._refuse(environ, start_response)
        try:
            return self._app(environ, start_response)
        finally:
            ticket.leave()

    def _refuse(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        # Written by hand: of Werkzeug's response the server would make a quarter as many a second,
        # and each takes from those who were let in.
        refusal = self._admission.refusal()
        self._read(environ)
        request_id = sound_request_id(environ.get("HTTP_X_REQUEST_ID"))
        path = environ["PATH_INFO"].encode("latin-1").decode("utf-8", "replace")
        body = problem_text(refusal, path=path, request_id=request_id).encode()
        headers = [
            ("Content-Type", CONTENT_TYPE),
            ("Content-Length", str(len(body))),
            ("Retry-After", pause_of(refusal)),
            *safe_headers(request_id),
        ]
        start_response("503 SERVICE UNAVAILABLE", headers)
        return [body]

    def _read(self, environ: WSGIEnvironment) -> None:
        """Read the body of what is refused, if it is worth it and doesn't keep others waiting."""
        length = environ.get("CONTENT_LENGTH", "")
        if not (length.isascii() and length.isdigit() and len(length) < 8):
            return
        if not _HAD_ALREADY < int(length) <= _LONGEST_READ or not self._body_slots.try_take():
            return
        try:
            environ["wsgi.input"].read(int(length))
        finally:
            self._body_slots.give_back()
