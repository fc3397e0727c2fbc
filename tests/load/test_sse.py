"""Server-sent events: what the standard allows, cut anywhere."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferometer.load.sse import events


def data_of(stream: bytes, cuts: list[int] | None = None) -> list[bytes]:
    edges = sorted({0, len(stream), *(cut % (len(stream) + 1) for cut in cuts or [])})
    pieces = [(n, stream[a:b]) for n, (a, b) in enumerate(itertools.pairwise(edges))]
    return [data for _, _, data in events(pieces)]


@pytest.mark.parametrize(
    ("stream", "expected"),
    [
        (b"data: a\n\ndata: b\n\n", [b"a", b"b"]),
        (b"data: a\r\n\r\ndata: b\r\n\r\n", [b"a", b"b"]),
        (b"data: a\r\rdata: b\r\r", [b"a", b"b"]),
        (b": ping\n\ndata: a\n\n", [b"a"]),
        (b"data: a\ndata: b\n\n", [b"a\nb"]),
        (b"event: token\nid: 3\ndata: a\n\n", [b"a"]),
        (b"data:a\n\n", [b"a"]),
        (b"data:  a\n\n", [b" a"]),
        (b"data: a\n\ndata: b", [b"a", b"b"]),
        (b"data:\n\ndata: \n\ndata: a\n\n", [b"a"]),
        (b"error: x\n\n", [b"x"]),
        (b"\n\n\n", []),
        (b"", []),
    ],
)
@given(cuts=st.lists(st.integers(0, 60), max_size=8))
def test_events_are_the_same_wherever_the_network_cuts_them(stream: bytes, expected: list[bytes], cuts: list[int]):
    assert data_of(stream) == expected
    assert data_of(stream, cuts) == expected


def test_an_event_has_the_stamp_of_the_piece_that_completed_it():
    pieces = [(10, b"data: a\n"), (20, b"\ndata: b\n\ndata: c"), (30, b"\n\n")]
    assert [(stamp, data) for stamp, _, data in events(pieces)] == [(20, b"a"), (20, b"b"), (30, b"c")]


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_an_event_has_the_name_that_its_lines_give_and_the_next_has_none(end: bytes):
    stream = b"event: error|data: a||data: b||error: c||event:token|data: d||event: lost||data: e|event: late||"
    named = [(name, data) for _, name, data in events([(1, stream.replace(b"|", end))])]
    assert named == [(b"error", b"a"), (b"", b"b"), (b"error", b"c"), (b"token", b"d"), (b"late", b"e")]
