"""The headers of W3C trace context are taken when they keep its rules, and only then."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.kernel.tracing.contexts import Trace, sound_trace, trace_in

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
PARENT = f"00-{TRACE}-{SPAN}-01"


@pytest.mark.parametrize(
    ("sent", "taken"),
    [
        (PARENT, PARENT),
        (f"00-{TRACE}-{SPAN}-00", f"00-{TRACE}-{SPAN}-00"),
        # Sampled and random are known; what other bits mean, we don't know.
        (f"00-{TRACE}-{SPAN}-ff", f"00-{TRACE}-{SPAN}-03"),
        # Of a later version only what we understand is carried on, as ours.
        (f"cc-{TRACE}-{SPAN}-01", PARENT),
        (f"cc-{TRACE}-{SPAN}-03-what-ever", PARENT),
        (None, None),
        ("", None),
        (PARENT + "-more", None),
        (PARENT.upper(), None),
        (f"ff-{TRACE}-{SPAN}-01", None),
        (f"00-{'0' * 32}-{SPAN}-01", None),
        (f"00-{TRACE}-{'0' * 16}-01", None),
        (f"00-{TRACE[:-1]}-{SPAN}-01", None),
        (f"00-{TRACE}-{SPAN}-1", None),
        (f"cc-{TRACE}-{SPAN}-01.more", None),
        (f"{PARENT},{PARENT}", None),
        (f" {PARENT}", None),
        (PARENT + "\n", None),
        ("0" * 60_000, None),
    ],
)
def test_a_traceparent_is_taken_by_the_rules(sent, taken):
    found = sound_trace(sent)
    assert (found.traceparent if found else None) == taken


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        ("rojo=00f067aa0ba902b7,congo=t61rcWkgMzE", "rojo=00f067aa0ba902b7,congo=t61rcWkgMzE"),
        (" rojo=1 ,\t, congo=2 ", "rojo=1,congo=2"),
        ("fw529a3039@dt=FfAAAAA,a*/_-b= x", "fw529a3039@dt=FfAAAAA,a*/_-b= x"),
        (None, ""),
        ("rojo", ""),
        ("ROJO=1", ""),
        ("rojo=1,rojo=2", ""),
        ("rojo=a=b", ""),
        ("rojo=é", ""),
        (",".join(f"k{number}=v" for number in range(33)), ""),
        ("k=" + "v" * 600, ""),
    ],
)
def test_a_tracestate_is_kept_whole_or_not_at_all(sent, kept):
    found = sound_trace(PARENT, sent)
    assert found == Trace(PARENT, kept)
    assert sound_trace("nonsense", sent) is None


def test_records_name_their_trace_in_headers():
    headers = {"traceparent": PARENT, "tracestate": "a=1", "ce_traceparent": "nonsense"}
    assert trace_in(headers) == Trace(PARENT, "a=1")
    assert trace_in(headers, "ce_") is None
    assert trace_in({}) is None
    assert Trace(PARENT, "a=1").headers == {"traceparent": PARENT, "tracestate": "a=1"}
    assert Trace(PARENT).headers == {"traceparent": PARENT}


@given(st.text(max_size=80), st.text(max_size=80))
def test_whatever_is_sent_is_taken_as_it_would_be_again_or_not_at_all(parent, state):
    found = sound_trace(parent, state)
    assert found is None or sound_trace(*found) == found
    again = sound_trace(PARENT, state)
    assert again is not None
    assert sound_trace(*again) == again
