"""Texts of many rows put together at once: each from pieces of one, two, four or eight bytes,
of which those that are zero are left out."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from app.datasets.ingest.regular.text_blocks import Words

_WORD = 8
Piece = np.ndarray[Any, Any]


def joined(pieces: Sequence[Piece | bytes], rows: int) -> bytearray:
    """Row by row, the bytes of all pieces that aren't zero; a text is the same in every row."""
    sizes = [len(piece) if isinstance(piece, bytes) else piece.itemsize for piece in pieces]
    width = sum(sizes)
    memory = bytearray(rows * width)
    table = np.frombuffer(memory, np.uint8).reshape(rows, width)
    place = 0
    for piece, size in zip(pieces, sizes, strict=True):
        if isinstance(piece, bytes):
            table[:, place : place + size] = np.frombuffer(piece, np.uint8)
        else:
            np.ndarray((rows,), piece.dtype, memory, place, (width,))[...] = piece
        place += size
    return memory.translate(None, b"\0")


def narrow(word: Words, longest: int) -> Piece:
    """The last bytes of words, as few as hold texts of that length."""
    for size, type_ in ((1, np.uint8), (2, np.uint16), (4, np.uint32)):
        if longest <= size:
            return word.view(type_)[_WORD // size - 1 :: _WORD // size]
    return word
