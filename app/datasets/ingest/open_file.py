"""What has a file open while a block works with it."""

from types import TracebackType
from typing import IO, Any, Self


class HoldsFile:
    """Closes ``_file``, where there is one, at the end of the block."""

    _file: IO[Any] | None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._file is not None:
            self._file.close()
