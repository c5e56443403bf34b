"""What an examination finds out of order, in a service's store and tables."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Finding:
    """One thing out of order; ``subject`` is a resource's path or a key of the store.

    Codes: ``orphan``, ``leftover`` (bytes to clear away), ``corrupt``, ``restored``,
    ``old_signature``, ``secret_retired``. ``mended`` tells whether it is in order now.
    """

    code: str
    subject: str
    detail: str
    mended: bool
