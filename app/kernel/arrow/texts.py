"""The texts of Arrow's columns, as far as there is room for them."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.kernel.arrow.flatbuffer import broken
from app.kernel.errors import TooLarge
from app.kernel.repeated import Repeated, are_few

_INLINE = 12
_WORD = 8
_KEPT = np.array([(1 << 8 * size) - 1 for size in range(_WORD + 1)], np.uint64)
Missing = NDArray[np.bool_]


class Room:
    """How many bytes of text there may be: views and dictionaries let a few stand for many."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._left = most

    def take(self, count: int) -> None:
        """Take some; raises TooLarge when there is no room for them."""
        self._left -= count
        if self._left < 0:
            raise TooLarge(
                f"The texts, written out, may have {self._most} bytes", extra={"limit": self._most}
            )


def read_texts(offsets: NDArray[Any], data: memoryview, room: Room) -> list[str] | Repeated:
    """The texts between offsets; raises Malformed, TooLarge."""
    if not len(offsets):
        return []
    first, last = int(offsets[0]), int(offsets[-1])
    if first < 0 or last > len(data) or bool((offsets[1:] < offsets[:-1]).any()):
        raise broken("a text lies outside of its buffer")
    room.take(last - first)
    used = bytes(data[first:last])
    repeated = _repeated(used, offsets - first)
    if repeated is not None:
        return repeated
    bounds = (offsets - first).tolist()
    pairs = zip(bounds, bounds[1:], strict=False)  # noqa: RUF007 (half the time of pairwise)
    if used.isascii():
        text = used.decode("ascii")
        return [text[start:end] for start, end in pairs]
    return [_decoded(used[start:end]) for start, end in pairs]


def _repeated(data: bytes, bounds: NDArray[Any]) -> Repeated | None:
    """The texts between bounds, if all are short and few are different, as categories are: then
    each is a number, and read once."""
    lengths = np.diff(bounds)
    if b"\0" in data or lengths.max(initial=0) > _WORD:
        return None
    words = np.ndarray((len(data) + 1,), "<u8", data + bytes(_WORD), strides=(1,))[bounds[:-1]]
    words &= _KEPT[lengths]
    different, codes = np.unique(words, return_inverse=True)
    if not are_few(len(different), len(codes)):
        return None
    found = [word.to_bytes(_WORD, "little").rstrip(b"\0") for word in different.tolist()]
    return Repeated([_decoded(text) for text in found], codes)


def read_views(
    views: bytes, buffers: list[memoryview], missing: Missing | None, room: Room
) -> list[str]:
    """The texts that views show, ``''`` where one is missing; raises Malformed, TooLarge."""
    numbers = np.frombuffer(views, dtype="<i4").reshape(-1, 4)
    lengths = numbers[:, 0].astype(np.int64)
    if missing is not None:
        lengths[missing] = 0
    if bool((lengths < 0).any()):
        raise broken("a text of negative length")
    room.take(int(lengths.sum()))
    texts = []
    for row, length in enumerate(lengths.tolist()):
        if length <= _INLINE:
            texts.append(_decoded(views[16 * row + 4 : 16 * row + 4 + length]))
            continue
        number, start = numbers[row, 2:].tolist()
        if not 0 <= number < len(buffers) or not 0 <= start <= len(buffers[number]) - length:
            raise broken("a text lies outside of its buffer")
        texts.append(_decoded(buffers[number][start : start + length]))
    return texts


def _decoded(text: bytes | memoryview) -> str:
    try:
        return str(text, "utf-8")
    except UnicodeDecodeError as error:
        raise broken("a text is not UTF-8") from error
