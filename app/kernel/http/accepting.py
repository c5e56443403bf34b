"""Which of the forms of an answer a client accepts."""

from collections.abc import Sequence

from flask import request

from app.kernel.errors import NotAcceptable


def accepted_type(offered: Sequence[str]) -> str:
    """The type that the client likes best, the first where it likes any; raises NotAcceptable."""
    if not request.accept_mimetypes:
        return offered[0]
    found = request.accept_mimetypes.best_match(offered)
    if found is None:
        raise NotAcceptable("It is not offered in that form", extra={"offered": list(offered)})
    return found
