"""How a webhook's receiver knows that a delivery is ours: the Standard Webhooks scheme.

The secret reads ``whsec_`` and base64 of 24 to 68 bytes. Three headers go with each delivery:
``webhook-id``, the same at each try of one delivery; ``webhook-timestamp``, the seconds since 1970
of this try; ``webhook-signature``, ``v1,`` and the base64 HMAC-SHA256 of
``<id>.<timestamp>.<body>``.
"""

import hmac
import re
from base64 import b64decode, b64encode
from typing import Final

PREFIX: Final = "whsec_"
_DIGIT: Final = "[A-Za-z0-9+/]"
PATTERN: Final = f"whsec_({_DIGIT}{{4}}){{8,22}}({_DIGIT}{{2}}==|{_DIGIT}{{3}}=)?"
"""24 bytes at least, and no more than need be."""


def key_of(secret: str) -> bytes:
    """The key of a secret; raises ValueError for what is none."""
    if re.fullmatch(PATTERN, secret) is None:
        raise ValueError("a secret is whsec_ and the base64 of 24 to 68 bytes")
    return b64decode(secret.removeprefix(PREFIX))


def headers(secret: str, delivery: str, timestamp: int, body: bytes) -> dict[str, str]:
    """The three headers of one try."""
    signed = f"{delivery}.{timestamp}.".encode() + body
    signature = b64encode(hmac.digest(key_of(secret), signed, "sha256")).decode()
    return {
        "webhook-id": delivery,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": f"v1,{signature}",
    }
