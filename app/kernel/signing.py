"""Signatures that only this installation can make: artifact MACs, page tokens, peer tokens.

Every key is derived from ``MODELYARD_SECRET`` by HKDF-SHA256 (RFC 5869) and its purpose, so a
signature made for one purpose is worth nothing for another. A signature reads
``<key id>.<mac>``: the key id tells which secret made it, so secrets can be rotated by putting the
new one first and keeping the old one until nothing is signed with it any more.
"""

import hmac
import json
import re
from base64 import urlsafe_b64encode
from collections.abc import Mapping, Sequence
from typing import Any

MIN_SECRET = 32
_SALT = b"modelyard/1"
_SIGNATURE = re.compile(r"([0-9a-f]{12})\.([A-Za-z0-9_-]{43})")


def canonical_json(identity: Mapping[str, Any]) -> bytes:
    """The one spelling of a JSON object that is signed: sorted keys, no spaces, UTF-8.

    Raises ValueError for NaN and infinities, TypeError for what JSON can't hold.
    """
    return json.dumps(
        identity, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    ).encode()


class KeyRing:
    """The secrets of an installation: the first signs, all verify."""

    def __init__(self, secrets: Sequence[str]) -> None:
        if not secrets:
            raise ValueError("a key ring needs a secret")
        if any(len(secret) < MIN_SECRET for secret in secrets):
            raise ValueError(f"a secret needs at least {MIN_SECRET} characters")
        extracted = [hmac.digest(_SALT, secret.encode(), "sha256") for secret in secrets]
        self._keys = {_expand(key, b"key id").hex()[:12]: key for key in extracted}
        self._signing_id = next(iter(self._keys))

    @classmethod
    def from_text(cls, text: str) -> "KeyRing":
        """The ring of a setting's text: secrets separated by commas."""
        return cls([part.strip() for part in text.split(",") if part.strip()])

    def sign(self, purpose: str, payload: bytes) -> str:
        """The signature of ``payload`` for ``purpose``, with the first secret."""
        return f"{self._signing_id}.{self._mac(self._signing_id, purpose, payload)}"

    def verify(self, purpose: str, payload: bytes, signature: str) -> bool:
        """Whether a secret of the ring signed exactly this payload for this purpose."""
        match = _SIGNATURE.fullmatch(signature)
        if match is None or match[1] not in self._keys:
            return False
        return hmac.compare_digest(match[2], self._mac(match[1], purpose, payload))

    def knows(self, signature: str) -> bool:
        """Whether the secret that a signature names is in the ring.

        Tells a retired secret (False: sign again, or put the secret back) from a forgery.
        """
        return signature.partition(".")[0] in self._keys

    def _mac(self, key_id: str, purpose: str, payload: bytes) -> str:
        key = _expand(self._keys[key_id], b"sign " + purpose.encode())
        return urlsafe_b64encode(hmac.digest(key, payload, "sha256")).rstrip(b"=").decode()


def _expand(key: bytes, info: bytes) -> bytes:
    """HKDF-Expand to one block of 32 bytes."""
    return hmac.digest(key, info + b"\x01", "sha256")
