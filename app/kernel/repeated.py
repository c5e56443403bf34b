"""A column of values of which few are different, each told once, as categories are."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, overload

import numpy as np
from numpy.typing import NDArray

_TIMES: Final = 4


def are_few(different: int, rows: int) -> bool:
    """Whether so many different values among so many rows are worth telling once each."""
    return different * _TIMES <= rows


@dataclass(frozen=True, eq=False)
class Repeated(Sequence[Any]):
    """The values, and which of them stands in each row."""

    values: Sequence[Any]
    codes: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.codes)

    def __iter__(self) -> Iterator[Any]:
        return map(self.values.__getitem__, self.codes.tolist())

    @overload
    def __getitem__(self, where: int) -> Any: ...
    @overload
    def __getitem__(self, where: slice) -> "Repeated": ...
    def __getitem__(self, where: int | slice) -> Any:
        if isinstance(where, slice):
            return Repeated(self.values, self.codes[where])
        return self.values[self.codes[where]]

    def with_values(self, values: Sequence[Any]) -> "Repeated":
        """The same rows with others for these values."""
        return Repeated(values, self.codes)

    def without(self, missing: NDArray[np.bool_]) -> "Repeated":
        """The same with None in the rows that are missing."""
        return Repeated([*self.values, None], np.where(missing, len(self.values), self.codes))

    def array(self) -> NDArray[Any]:
        """The value of each row, as objects."""
        return np.array(self.values, dtype=object)[self.codes]


def array_of(values: NDArray[Any] | Repeated) -> NDArray[Any]:
    """A column's values, one a row, however they are told."""
    return values.array() if isinstance(values, Repeated) else values
