"""A request's body on its way into a file of this disk: raw, or as the part ``file`` of a form."""

import re
from base64 import b64decode
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from flask import request

from app.kernel.errors import Invalid, UnsupportedMediaType
from app.kernel.http.api import held_key
from app.kernel.http.bodies import content_coding
from app.kernel.http.multipart import Form, FormReader
from app.kernel.http.uploads import Body, Promise, Spool, plain_filename, throttled
from app.kernel.slots import Slots
from app.kernel.work_folders import work_folder

FORM = "multipart/form-data"
_DIGEST = re.compile(r"(?:^|,)\s*sha-256=:([A-Za-z0-9+/]{43}=):\s*(?:,|$)")
_RENEWAL_SECONDS = 15.0
_UNLIMITED = 2**62


@dataclass(frozen=True)
class Intake:
    """Where uploads are taken in: so many at once, of so many bytes, below this folder."""

    slots: Slots
    work: Path
    most: int


@dataclass(frozen=True)
class ReceivedFile:
    """A whole file of a client's. ``filename`` is shown, and never used as a path.

    ``texts`` are what else a form held.
    """

    path: Path
    bytes: int
    digest: str
    filename: str | None
    texts: Mapping[str, str]


@contextmanager
def received_file(
    intake: Intake, types: Collection[str], texts: frozenset[str]
) -> Iterator[ReceivedFile]:
    """Take the body in; the file is gone when the block ends.

    ``types`` are the content types of a raw body, ``texts`` the names that a form's texts may have.
    Raises UnsupportedMediaType, Unavailable when too many uploads are under way, LengthRequired,
    TooLarge, Malformed, Invalid, StorageFull.
    """
    _refuse_type(types)
    request.max_content_length = _UNLIMITED  # Body counts, and says more when it is too much.
    promise = Promise(request.content_length, promised_digest())
    with intake.slots.hold():
        promise.check(intake.most)
        with work_folder(intake.work, promise.length or 0) as folder:
            spool = Spool(folder / "source")
            try:
                body = Body(request.stream.read, promise, most=intake.most, beat=keeper())
                form = _take(body, spool, texts)
                body.verify()
            finally:
                spool.close()
            yield ReceivedFile(
                path=spool.path,
                bytes=spool.bytes,
                digest=spool.digest,
                filename=plain_filename(form.filename) if form else None,
                texts=form.texts if form else {},
            )


def _refuse_type(types: Collection[str]) -> None:
    if request.mimetype != FORM and request.mimetype not in types:
        raise UnsupportedMediaType("Send a file", extra={"accepted": [*types, FORM]})
    if content_coding(request) != "identity":
        raise UnsupportedMediaType(
            "This Content-Encoding is not offered here", extra={"accepted": ["identity"]}
        )


def _take(body: Body, spool: Spool, texts: frozenset[str]) -> Form | None:
    if request.mimetype == FORM:
        boundary = request.mimetype_params.get("boundary")
        return FormReader(texts, spool.write).read(body, boundary)
    for piece in body:
        spool.write(piece)
    return None


def keeper() -> Callable[..., None]:
    """A function to call often: it holds the request's Idempotency-Key while that is needed."""
    held = held_key()
    return throttled(_RENEWAL_SECONDS, held.renew if held is not None else lambda: None)


def promised_digest() -> bytes | None:
    """SHA-256 by the request's Content-Digest (RFC 9530); raises Invalid for another form."""
    sent = request.headers.get("Content-Digest")
    if sent is None:
        return None
    found = _DIGEST.search(sent)
    if found is None:
        raise Invalid.at("Content-Digest", "invalid", "Send `sha-256=:<base64>:` (RFC 9530)")
    return b64decode(found[1])
