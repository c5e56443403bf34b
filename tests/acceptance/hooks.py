"""How schemathesis is to send what it doesn't know, and one check more than it has.

A request that fits the schema may be refused: what it names is not there, or not so. But not for
its shape: then the schema would say less than the server asks. The check tells the two apart by
the code of the refusal.
"""

import itertools
import os
import re
from typing import Any

import schemathesis

# What no schema can say, by the codes that the refusals have.
_MEANINGS = {
    "a name or a number that isn't there": (
        *("unknown_column", "unknown_dataset", "unknown_model", "unknown_project"),
        *("unknown_version", "invalid_position", "not_here", "unknown_topic"),
        *("no_such_partition",),
    ),
    "two places that don't go together": (
        *("contradiction", "conflict", "duplicate", "length", "wrong_length", "out_of_order"),
    ),
    "what the task, the table or the model asks for": ("missing", "type", "no_rows"),
    "an encoding, or how to read a file that isn't there": ("not_offered",),
    "a time that has to be still to come": ("in_the_past",),
    "a processor that would read what it writes, or is of another kind, or has folded already": (
        *("own_input", "other_kind", "immutable"),
    ),
    "where webhooks may go, which the operator says": ("not_allowed",),
    "a partition named twice": ("repeated",),
    "a group of a view that can't be, by what the view is grouped by": ("not_a_key",),
    "an alias that reads like a version": ("reserved",),
    "the Idempotency-Key was used for something else": ("key_reused",),
    "the digest is not that of the body": ("mismatch",),
    "a limit that the operator sets, or an integer past 64 bits in free JSON": ("out_of_range",),
    "NUL and lone surrogates, that no string may hold": ("invalid_text",),
}
_CODES = {code for codes in _MEANINGS.values() for code in codes}
# What is wrong with a file, other than which parts its form has.
_OF_A_FORM = ("unknown_field", "twice", "required")
# The same code serves the shape, too: here it is told by the words.
_WORDS = {
    "Not a valid integer.": "1.0 is an integer to JSON Schema, and a number to us",
    "Give key or key_base64, not both.": "what is excluded but for one pair is told of values only",
    "A partition stands there twice.": "the members of an array are told apart as a whole only",
    "Give a version or an alias, not both.": "parameters of a query can't exclude one another",
    "The model has no such column": "the columns of the model",
    "The column ": "the columns of the model",
    "raining saw no": "where the model knows no missing values",
    "Name what to delete by a filter": "a query can't ask for one of several parameters",
    "The body is not JSON": "JSON within a header or a part of a form",
    "This Content-Encoding is not offered here": "a form is never compressed",
    "Send JSON as it is, not compressed": "nor is a dataset's JSON",
    "An upload with Idempotency-Key needs Content-Digest": "only an upload does",
    "The id can't be the target.": "the names of two fields differ",
    "doesn't tell the format": "only where the type or name of the file doesn't tell it",
    "tells its format": "only where the type or name of the file doesn't tell it",
}
_WAITS = {str(seconds) for seconds in range(2, 31)}
_SECONDS = re.compile(r"[0-9.]+")
_NO_KEY = "00000000"
_requests = itertools.count(1)


@schemathesis.serializer(
    "application/x-skops", "application/x-ndjson", "application/vnd.apache.parquet", "text/csv"
)
def raw(_context: Any, value: Any) -> bytes:
    """Bytes as they are, anything else as its text."""
    return value if isinstance(value, bytes) else str(value).encode()


@schemathesis.hook
def before_call(_context: Any, case: Any, _options: Any) -> None:
    """Let most requests that are called valid get to what they are about.

    A run must not revoke its own key: all that follows would be 401. The coverage phase sends ``0``
    where a header has a pattern, and calls it valid. What comes second under an Idempotency-Key is
    refused for that alone, and so is a made-up place in a list.
    """
    if case.path_parameters.get("key_id") == os.environ["FUZZ_KEY_ID"]:
        case.path_parameters["key_id"] = _NO_KEY
    _give_time(case)
    if not _fits(case):
        return
    for parameter in case.operation.headers:
        value = case.headers.get(parameter.name)
        pattern = parameter.definition.get("schema", {}).get("pattern")
        if value is not None and pattern is not None and not re.search(pattern, value):
            del case.headers[parameter.name]
    number = next(_requests)
    if number % 4 == 0:
        return
    if "Idempotency-Key" in case.headers:
        case.headers["Idempotency-Key"] = f"request-{number}"
    for place in ("page_token", "after"):
        if isinstance(case.query.get(place), str):
            del case.query[place]


def _give_time(case: Any) -> None:
    """That waiting waits, and that a deadline ends what takes too long, is tested elsewhere."""
    if str(case.query.get("wait")) in _WAITS:
        case.query["wait"] = 1
    if _SECONDS.fullmatch(str(case.headers.get("X-Request-Timeout"))):
        case.headers["X-Request-Timeout"] = "3600"
    if case.operation.path.endswith("/records/stream"):
        case.headers["X-Request-Timeout"] = "1"


@schemathesis.check
def refused_for_its_meaning(_context: Any, response: Any, case: Any) -> None:
    """What fits the schema is not refused for its shape."""
    if not _fits(case) or response.status_code not in (400, 415, 422):
        return
    problem = response.json()
    if response.status_code == 400:
        found = [problem["detail"]] if "page_token" not in problem["detail"] else []
    else:
        found = [
            error for error in problem.get("errors", [problem]) if not _of_meaning(case, error)
        ]
    assert not found, f"A valid request was refused for its shape: {found}"


def _fits(case: Any) -> bool:
    return case.meta is not None and case.meta.generation.mode.is_positive


def _of_meaning(case: Any, error: dict[str, Any]) -> bool:
    pointer, code, told = (error.get(name, "") for name in ("pointer", "code", "detail"))
    in_body = not pointer or pointer.startswith("/")
    if in_body and code not in _OF_A_FORM and _takes_a_file(case):
        return True
    # The parameters of an estimator have a schema of their own, at GET /estimators.
    if pointer.startswith("/estimator"):
        return True
    return code in _CODES or any(words in told for words in _WORDS)


def _takes_a_file(case: Any) -> bool:
    return any(body.media_type == "multipart/form-data" for body in case.operation.body)
