"""Scores become probabilities with scikit-learn's own roundings where an ensemble may depend on it.

The bug: a voter of naive Bayes that was sure to the last bit but one lost to another that was as
sure of another class, where scikit-learn sees a tie and takes the first class.
"""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from scipy.special import logsumexp
from sklearn.naive_bayes import ComplementNB

from app.scoring.cores import likelihoods

SHAPES = array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=12)
USUAL = st.floats(-1e4, 1e4, allow_subnormal=False)
# Small whole numbers give rows of several equal, greatest scores.
EQUAL = st.integers(-3, 3).map(float)


@given(arrays(np.float64, SHAPES, elements=st.one_of(USUAL, EQUAL)))
def test_likelihoods_are_those_of_scipy_to_the_last_bit(scores):
    expected = np.exp(scores - logsumexp(scores, axis=1, keepdims=True))
    assert likelihoods(scores).tobytes() == expected.tobytes()


def test_likelihoods_are_those_of_naive_bayes_to_the_last_bit():
    random = np.random.default_rng(0)
    counts = random.integers(0, 40, (300, 20)).astype(float)
    model = ComplementNB().fit(counts, random.integers(0, 7, 300))
    told = likelihoods(model.predict_joint_log_proba(counts))
    assert told.tobytes() == model.predict_proba(counts).tobytes()
