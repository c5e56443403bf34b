"""Reads a client's skops file as a zip of arrays, before anything in it is believed.

A skops file is a zip with ``schema.json``, a tree of nodes that says how to rebuild the object,
and one ``.npy`` file for each array. Sizes and names are checked before anything is expanded; of
each array the header is read, and it must say just as many bytes as there are.
"""

import io
import json
import math
import re
import stat
import struct
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from app.kernel.errors import Invalid, TooLarge

SCHEMA: Final = "schema.json"
_ARRAY_NAME: Final = re.compile(r"[0-9]+\.npy")
_END_OF_DIRECTORY: Final = struct.Struct("<4s4H2LH")
_ENTRY_BYTES: Final = 46 + 64
_LOCATOR_BYTES: Final = 20
_PLAIN_KINDS: Final = "biufcSUmM"


@dataclass(frozen=True)
class ArchiveLimits:
    """How much a file may hold; all in bytes but ``entries``."""

    file: int = 512 << 20
    expanded: int = 2 << 30
    schema: int = 128 << 20
    entries: int = 50_000


@dataclass(frozen=True)
class Archive:
    """A file's schema, parsed, and its arrays in numpy's format, by name."""

    schema: dict[str, Any]
    arrays: Mapping[str, bytes]
    expanded_bytes: int


def refused(code: str, detail: str) -> Invalid:
    """The answer to a file that is not what it should be."""
    return Invalid.at("/file", code, detail)


def read_archive(data: bytes, limits: ArchiveLimits) -> Archive:
    """The content of a skops file; raises Invalid or TooLarge, and expands nothing before."""
    if len(data) > limits.file:
        raise TooLarge(f"The file has more than {limits.file} bytes")
    _check_directory(data, limits)
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            entries = archive.infolist()
            _check_entries(entries, limits)
            schema = archive.read(SCHEMA)
            arrays = {
                entry.filename: archive.read(entry) for entry in entries if entry.filename != SCHEMA
            }
    except (zipfile.BadZipFile, zipfile.LargeZipFile, OSError, EOFError, ValueError) as error:
        raise refused("broken_zip", "The zip archive is broken") from error
    except (NotImplementedError, RuntimeError, struct.error) as error:
        raise refused("broken_zip", "The zip archive uses features that skops does not") from error
    for name, content in arrays.items():
        _check_array(name, content)
    return Archive(_parsed(schema), arrays, sum(entry.file_size for entry in entries))


def write_archive(schema: Mapping[str, Any], arrays: Mapping[str, bytes]) -> io.BytesIO:
    """A skops file of our own making, uncompressed."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in arrays.items():
            archive.writestr(name, content)
        archive.writestr(SCHEMA, json.dumps(schema))
    buffer.seek(0)
    return buffer


def _check_directory(data: bytes, limits: ArchiveLimits) -> None:
    """Look at the end of the zip: how large its directory is, before it is read.

    Python's reader makes an object of every entry, however many there are.
    """
    if not data.startswith(b"PK\x03\x04"):
        raise refused("not_skops", "The file is not a skops zip")
    at = data.rfind(b"PK\x05\x06", max(0, len(data) - _END_OF_DIRECTORY.size - 0xFFFF))
    if at < 0 or len(data) - at < _END_OF_DIRECTORY.size:
        raise refused("broken_zip", "The zip archive has no end")
    _, disk, directory_disk, here, entries, size, _, comment = _END_OF_DIRECTORY.unpack_from(
        data, at
    )
    if data[max(0, at - _LOCATOR_BYTES) :].startswith(b"PK\x06\x07") or entries == 0xFFFF:
        raise refused("too_many_entries", "The zip archive has too many entries")
    appended = len(data) - at - _END_OF_DIRECTORY.size
    if disk or directory_disk or here != entries or comment or appended:
        raise refused("broken_zip", "The zip archive uses features that skops does not")
    if entries > limits.entries or size > limits.entries * _ENTRY_BYTES:
        raise refused("too_many_entries", f"The zip archive has more than {limits.entries} entries")


def _check_entries(entries: list[zipfile.ZipInfo], limits: ArchiveLimits) -> None:
    sizes = {entry.filename: entry.file_size for entry in entries}
    if len(entries) > limits.entries:
        raise refused("too_many_entries", f"The zip archive has more than {limits.entries} entries")
    if len(sizes) != len(entries):
        raise refused("duplicate_entry", "The zip archive has two entries of one name")
    for entry in entries:
        _check_entry(entry)
    if SCHEMA not in sizes:
        raise refused("not_skops", f"The file is not a skops zip: it has no {SCHEMA}")
    if sum(sizes.values()) > limits.expanded:
        raise TooLarge(f"The file expands to more than {limits.expanded} bytes")
    if sizes[SCHEMA] > limits.schema:
        raise TooLarge(f"The file's {SCHEMA} has more than {limits.schema} bytes")


def _check_entry(entry: zipfile.ZipInfo) -> None:
    # The name as it stands in the file: the other one ends at a zero byte.
    name, mode = entry.orig_filename, entry.external_attr >> 16
    if name != SCHEMA and not _ARRAY_NAME.fullmatch(name):
        detail = f"The zip archive has an entry {name[:80]!r}; a model has {SCHEMA} and arrays only"
        raise refused("unknown_entry", detail)
    if entry.flag_bits & 1:
        raise refused("encrypted_entry", "The zip archive is encrypted")
    if stat.S_IFMT(mode) not in {0, stat.S_IFREG}:
        raise refused("unknown_entry", "The zip archive has an entry that is no file")
    if entry.compress_type not in {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}:
        raise refused("broken_zip", "The zip archive uses a compression that skops does not")


def _parsed(schema: bytes) -> dict[str, Any]:
    try:
        parsed = json.loads(schema)
    except (ValueError, RecursionError) as error:
        raise refused("not_skops", f"The file's {SCHEMA} can't be read") from error
    if not isinstance(parsed, dict):
        raise refused("not_skops", f"The file's {SCHEMA} is no object")
    return parsed


def _check_array(name: str, content: bytes) -> None:
    """The header must describe plain values, and exactly as many as follow it."""
    file = io.BytesIO(content)
    try:
        version = np.lib.format.read_magic(file)
        read_header = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }[version]
        shape, _, dtype = read_header(file)
    except (ValueError, KeyError, TypeError, SyntaxError, RecursionError, MemoryError) as error:
        raise refused("broken_array", f"The array {name} can't be read") from error
    if not _is_plain(dtype):
        raise refused("broken_array", f"The array {name} holds objects")
    wanted = math.prod(shape) * dtype.itemsize
    if any(size < 0 for size in shape) or wanted != len(content) - file.tell():
        raise refused("broken_array", f"The array {name} has not the size that it claims")


def _is_plain(dtype: "np.dtype[Any]") -> bool:
    if dtype.fields is not None:
        return all(_is_plain(field[0]) for field in dtype.fields.values())
    return dtype.kind in _PLAIN_KINDS and dtype.subdtype is None
