"""What a request's rows may hold is what the signature's types say, as tables understand them."""

import math

import pytest

from app.kernel.errors import Invalid
from app.predictions.inputs import read_rows

INTEGER = [{"name": "count", "type": "integer", "nullable": False}]
NUMBER = [{"name": "count", "type": "number", "nullable": False}]


def read(inputs, value):
    return read_rows({"inputs": [{"count": value}]}, inputs, 10)[0]["count"][0]


@pytest.mark.parametrize("value", [0, -3, 2**53, 5.0, -0.0, 1e15])
def test_whole_numbers_are_integers_however_they_are_written(value):
    """The bug: a table's column of 5.0 and 6.0 was read as integers, and then 5.0 was refused."""
    assert read(INTEGER, value) == value


@pytest.mark.parametrize("value", [0.5, 1e-9, math.inf, math.nan, True, "5"])
def test_nothing_else_is_an_integer(value):
    with pytest.raises(Invalid) as refused:
        read(INTEGER, value)
    assert refused.value.errors[0].pointer == "/inputs/0/count"


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan, True, "5.5"])
def test_only_finite_numbers_are_numbers(value):
    assert read(NUMBER, 5.5) == 5.5
    with pytest.raises(Invalid):
        read(NUMBER, value)
