"""Merges of a batch model's answer with a learner's."""

import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.streams.learning.merges import Hedge, averaged, blended, mixed

_SHARES = st.floats(0, 1).map(lambda share: {"no": 1.0 - share, "yes": share})


@given(_SHARES, _SHARES)
def test_a_blend_lies_between_both_and_sums_to_one(batch, speed):
    told = blended(batch, speed)
    assert math.isclose(sum(told.values()), 1.0)
    low, high = sorted([batch["yes"], speed["yes"]])
    assert low - 1e-8 <= told["yes"] <= high + 1e-8
    assert told == blended(speed, batch)


def test_a_blend_is_the_mean_of_the_logits():
    told = blended({"no": 0.1, "yes": 0.9}, {"no": 0.6, "yes": 0.4})
    logit = (math.log(9) + math.log(4 / 6)) / 2
    assert told["yes"] == pytest.approx(1 / (1 + math.exp(-logit)))


def test_a_label_that_one_layer_does_not_know_is_unlikely_but_there():
    told = blended({"a": 0.5, "b": 0.5}, {"a": 0.4, "b": 0.4, "c": 0.2})
    assert list(told) == ["a", "b", "c"]
    assert 0 < told["c"] < 0.001


def test_numbers_are_averaged():
    assert blended(1.0, 4.0) == 2.5
    assert mixed(1.0, 4.0, 0.75) == 1.75
    assert averaged([1.0, 4.0], [3.0, 1.0]) == 1.75


@given(st.lists(_SHARES, min_size=1, max_size=4))
def test_the_average_of_equals_is_each_of_them(answers):
    told = averaged([answers[0]] * len(answers), [1.0] * len(answers))
    assert told["yes"] == pytest.approx(answers[0]["yes"], abs=1e-6)


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**32), st.floats(0.05, 0.95), st.floats(0.05, 0.95))
def test_a_hedge_is_hardly_worse_than_the_better_layer(seed, batch_share, speed_share):
    """The bound of the exponential weights with a fixed share, for mixtures under log-loss."""
    chance, hedge = random.Random(seed), Hedge()
    losses = {"batch": 0.0, "speed": 0.0, "hedge": 0.0}
    for _ in range(300):
        label = "yes" if chance.random() < 0.5 else "no"
        batch = {"no": 1 - batch_share, "yes": batch_share}
        speed = {"no": 1 - speed_share, "yes": speed_share}
        told = mixed(batch, speed, hedge.weight)
        for name, answer in (("batch", batch), ("speed", speed), ("hedge", told)):
            losses[name] -= math.log(answer[label])
        hedge.learn(-math.log(batch[label]), -math.log(speed[label]))
    allowed = math.log(2) - 300 * math.log(1 - 0.001)
    assert losses["hedge"] <= min(losses["batch"], losses["speed"]) + allowed + 1e-6


def test_a_hedge_comes_back_to_a_layer_that_has_become_better():
    hedge = Hedge()
    for _ in range(2000):
        hedge.learn(0.1, 1.0)
    assert hedge.weight > 0.99
    for _ in range(30):
        hedge.learn(1.0, 0.1)
    assert hedge.weight < 0.01


def test_a_hedge_survives_losses_of_any_size():
    hedge = Hedge()
    for losses in [(1e300, 0.0), (0.0, 1e300), (1e300, 1e300)] * 5:
        hedge.learn(*losses)
        assert 0 < hedge.weight < 1
