"""Columns out of arrays as lists of what JSON and msgpack know: None, numbers, booleans, texts."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from app.scoring.frame import Column


def plain_values(columns: Mapping[str, Column]) -> dict[str, list[Any]]:
    """The same columns; moments become texts in UTC."""
    return {name: _plain(column) for name, column in columns.items()}


def _plain(column: Column) -> list[Any]:
    if not isinstance(column, np.ndarray):
        return list(column)
    values = np.ma.getdata(column)
    if values.dtype.kind == "M":
        values = np.datetime_as_string(values, unit="us", timezone="UTC")
    plain: list[Any] = values.tolist()
    if not np.ma.is_masked(column):
        return plain
    missing = np.ma.getmaskarray(column).tolist()
    return [None if gone else value for value, gone in zip(plain, missing, strict=True)]
