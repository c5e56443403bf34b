"""W3C trace context: the two headers that carry a trace from one process to the next.

What comes from outside is examined by the rules of the recommendation, and is good for tracing
only: it says which trace something belongs to, and nothing about who asks.
"""

import re
from collections.abc import Mapping
from typing import Final, NamedTuple

TRACEPARENT: Final = "traceparent"
TRACESTATE: Final = "tracestate"
LONGEST_STATE: Final = 512
_MOST_MEMBERS: Final = 32
# Version 00 ends here; of a later one that goes on, what we understand comes first.
_PARENT: Final = re.compile(
    r"(?!ff)(?P<version>[0-9a-f]{2})-(?P<trace>(?!0{32})[0-9a-f]{32})-(?P<span>(?!0{16})[0-9a-f]{16})"
    r"-(?P<flags>[0-9a-f]{2})(?P<more>-[!-~]*)?"
)
_MEMBER: Final = re.compile(
    r"(?P<key>[a-z][a-z0-9_*/-]{0,255}|[a-z0-9][a-z0-9_*/-]{0,240}@[a-z][a-z0-9_*/-]{0,13})"
    r"=[ -+\--<>-~]{0,255}[!-+\--<>-~]"
)
_SAMPLED: Final = 1
_KNOWN_FLAGS: Final = 3


class Trace(NamedTuple):
    """A place in a trace: what follows from it is beneath it."""

    traceparent: str
    tracestate: str = ""

    @property
    def headers(self) -> dict[str, str]:
        """As it is carried on."""
        state = {TRACESTATE: self.tracestate} if self.tracestate else {}
        return {TRACEPARENT: self.traceparent, **state}


def sound_trace(traceparent: str | None, tracestate: str | None = None) -> Trace | None:
    """The trace that two headers name, None where they name none.

    A state that is malformed or longer than all must be able to carry is dropped alone.
    """
    found = None if traceparent is None else _PARENT.fullmatch(traceparent)
    if found is None or (found["version"] == "00" and found["more"]):
        return None
    known = _KNOWN_FLAGS if found["version"] == "00" else _SAMPLED
    flags = int(found["flags"], 16) & known
    parent = f"00-{found['trace']}-{found['span']}-{flags:02x}"
    return Trace(parent, _sound_state(tracestate) if tracestate else "")


def trace_in(headers: Mapping[str, str], prefix: str = "") -> Trace | None:
    """The trace that headers in lower case name."""
    parent = headers.get(prefix + TRACEPARENT)
    return None if parent is None else sound_trace(parent, headers.get(prefix + TRACESTATE))


def _sound_state(sent: str) -> str:
    if len(sent) > LONGEST_STATE:
        return ""
    members = [member.strip(" \t") for member in sent.split(",")]
    matches = [_MEMBER.fullmatch(member) for member in members if member]
    found = [match for match in matches if match is not None]
    keys = {match["key"] for match in found}
    if len(found) != len(matches) or len(keys) != len(found) or len(found) > _MOST_MEMBERS:
        return ""
    return ",".join(match[0] for match in found)
