"""How schemathesis sends the media types that it doesn't know: as the bytes that they are."""

import schemathesis


@schemathesis.serializer(
    "application/x-skops", "application/x-ndjson", "application/vnd.apache.parquet", "text/csv"
)
def raw(_context, value):
    """Bytes as they are, anything else as its text."""
    return value if isinstance(value, bytes) else str(value).encode()
