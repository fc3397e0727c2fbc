"""Arrival times of reads: the kernel's stamp where it can be true, our own clock where it cannot."""

import struct
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferometer.load.arrivals import TOLERANCE_NS, arrivals
from inferometer.load.wire import Exchange

pytestmark = pytest.mark.usefixtures("way")

OFFSET_NS = 1_700_000_000_000_000_000  # wall minus monotonic
SENT_NS = 5_000_000_000
MS = 1_000_000


def an_exchange(read_ns: Sequence[int], kernel_ns: Sequence[int | None] | None, stepped: bool = False) -> Exchange:
    """`kernel_ns` on the monotonic clock, None for a read without a stamp; None: no stamps at all."""
    stamps = b""
    for at_ns in kernel_ns or []:
        stamps += b"\0" * 16 if at_ns is None else struct.pack("qq", *divmod(at_ns + OFFSET_NS, 1_000_000_000))
    return Exchange(
        index=0,
        outcome="complete",
        due_ns=None,
        connected_ns=0,
        sent_ns=SENT_NS,
        done_ns=SENT_NS + 100 * MS,
        raw=b"x" * len(read_ns),
        lengths=np.ones(len(read_ns), np.uint32).tobytes(),
        read_ns=np.array(read_ns, np.int64).tobytes(),
        kernel=stamps,
        wall_offset_ns=OFFSET_NS,
        clock_stepped=stepped,
    )


def after(*ms: float) -> list[int]:
    return [SENT_NS + round(value * MS) for value in ms]


def test_a_read_gets_the_kernel_s_time_and_its_lag_is_known():
    found = arrivals(an_exchange(after(10, 30), after(4, 29)))
    assert list(found.at_ns) == after(4, 29)
    assert list(found.lag_ns) == [6 * MS, 1 * MS]
    assert found.errors == 0


def test_a_stamp_before_the_send_is_an_error_and_the_read_gets_its_own_time():
    found = arrivals(an_exchange(after(10, 30), after(-1, 29)))
    assert list(found.at_ns) == after(10, 29)
    assert list(found.lag_ns) == [1 * MS]
    assert found.errors == 1


def test_a_stamp_after_the_read_is_an_error_and_the_read_gets_its_own_time():
    found = arrivals(an_exchange(after(10, 30), after(4, 31)))
    assert list(found.at_ns) == after(4, 30)
    assert list(found.lag_ns) == [6 * MS]
    assert found.errors == 1


def test_what_the_comparison_of_two_clocks_may_be_off_is_no_error_and_is_clipped():
    just = TOLERANCE_NS // 2
    found = arrivals(an_exchange(after(10, 30), [SENT_NS - just, SENT_NS + 30 * MS + just]))
    assert list(found.at_ns) == after(0, 30)
    assert found.errors == 0
    assert min(found.lag_ns) >= 0


def test_a_read_without_a_stamp_gets_its_own_time_and_is_no_error():
    found = arrivals(an_exchange(after(10, 30), [None, *after(29)]))
    assert list(found.at_ns) == after(10, 29)
    assert list(found.lag_ns) == [1 * MS]
    assert found.errors == 0


def test_no_stamps_at_all_is_no_error_and_tells_no_lag():
    found = arrivals(an_exchange(after(10, 30), None))
    assert list(found.at_ns) == after(10, 30)
    assert len(found.lag_ns) == 0
    assert found.errors == 0


def test_after_a_step_of_the_wall_clock_no_stamp_of_the_request_is_used():
    found = arrivals(an_exchange(after(10, 30), after(4, 29), stepped=True))
    assert list(found.at_ns) == after(10, 30)
    assert len(found.lag_ns) == 0
    assert found.errors == 0


def test_nothing_came():
    found = arrivals(an_exchange([], []))
    assert (list(found.at_ns), list(found.lag_ns), found.errors) == ([], [], 0)


READS = st.lists(
    st.tuples(st.integers(0, 50 * MS), st.none() | st.integers(-20 * MS, 80 * MS)), min_size=1, max_size=20
)


@given(READS)
def test_times_never_decrease_and_lie_between_sending_and_reading(reads: list[tuple[int, int | None]]):
    read_ns = np.cumsum([gap for gap, _ in reads]) + SENT_NS
    kernel_ns = [None if ago is None else int(at) - ago for at, (_, ago) in zip(read_ns, reads, strict=True)]
    found = arrivals(an_exchange(read_ns.tolist(), kernel_ns))
    assert len(found.at_ns) == len(reads)
    assert np.all(np.diff(found.at_ns) >= 0)
    assert np.all(found.at_ns >= SENT_NS)
    assert np.all(found.at_ns <= read_ns)
    assert np.all(found.lag_ns >= 0)
