"""Packed answers: the same after unpacking, in the compiled part and in Python, for any reads."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferometer.load import compiled, packing
from inferometer.load.wire import Exchange

needs_compiled = pytest.mark.skipif(compiled.pack is None, reason="the compiled part of the load path is not built")

HEAD = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


def chunk(text: str, form: bytes = b"%x") -> bytes:
    data = b'data: {"id":"chatcmpl-1","choices":[{"delta":{"content":"%b"}}]}\n\n' % text.encode()
    return form % len(data) + b"\r\n" + data + b"\r\n"


def exchange(reads: list[bytes], times: list[int], stamps: list[int] | None) -> Exchange:
    """`stamps`: the kernel's, ns; 0: that read has none."""
    kernel = b"" if stamps is None else b"".join(struct.pack("=2q", *divmod(one, 10**9)) for one in stamps)
    lengths = struct.pack(f"={len(reads)}I", *map(len, reads))
    read_ns = struct.pack(f"={len(reads)}q", *times)
    return Exchange(1, "complete", None, 1, 2, 3, b"".join(reads), lengths, read_ns, kernel, error="e")


_READS = st.lists(
    st.one_of(
        st.binary(min_size=1, max_size=40),
        st.builds(chunk, st.text(max_size=20), st.sampled_from([b"%x", b"%X", b"0%x"])),
        st.sampled_from([HEAD, b"0\r\n\r\n", b"ff\r\n", b"1\r\nx\r\n", b"12345\r\n", chunk("x" * 5000)]),
    ),
    min_size=1,
    max_size=30,
)


@needs_compiled
@given(_READS, st.data())
def test_an_answer_is_the_same_after_packing(reads: list[bytes], data: st.DataObject):
    times = [data.draw(st.integers(0, 2**60)) for _ in reads]
    stamps = data.draw(st.sampled_from([None, [0] * len(reads), [10**18 + at for at in range(len(reads))]]))
    whole = exchange(reads, times, stamps)
    small = packing.packed(whole)
    assert (small.raw, small.lengths, small.read_ns, small.kernel) == (b"", b"", b"", b"")
    assert packing.unpacked(small) == whole
    assert packing.unpack(small.packed) == (whole.raw, whole.lengths, whole.read_ns, whole.kernel)


@needs_compiled
def test_a_usual_stream_takes_a_tenth_of_its_bytes():
    reads = [HEAD, *(chunk(f" token {number}") for number in range(1000)), b"0\r\n\r\n"]
    times = [10_000_000 * number + 777 * (number % 13) for number in range(len(reads))]
    whole = exchange(reads, times, [10**18 + at - 50_000 for at in times])
    kept = sum(map(len, (whole.raw, whole.lengths, whole.read_ns, whole.kernel)))
    assert len(packing.packed(whole).packed) * 5 < kept


@needs_compiled
@given(_READS, st.data())
def test_damaged_bytes_are_refused_or_give_some_answer_and_both_ways_agree(reads: list[bytes], data: st.DataObject):
    assert compiled.unpack is not None
    whole = exchange(reads, list(range(len(reads))), [10**18] * len(reads))
    damaged = bytearray(packing.packed(whole).packed)
    damaged[data.draw(st.integers(0, len(damaged) - 1))] ^= data.draw(st.integers(1, 255))
    del damaged[data.draw(st.integers(0, 2 * len(damaged))) :]
    results: list[object] = []
    for way in (compiled.unpack, packing.unpack):
        try:
            results.append(way(bytes(damaged)))
        except ValueError:
            results.append(None)
    assert results[0] == results[1]


@needs_compiled
def test_columns_that_do_not_fit_together_are_sent_as_they_are():
    whole = Exchange(1, "complete", None, 1, 2, 3, b"abc", struct.pack("=I", 4), struct.pack("=q", 1))
    assert packing.packed(whole) is whole


def test_an_answer_without_bytes_has_nothing_to_pack():
    whole = Exchange(1, "refused", None, None, None, 3)
    assert packing.packed(whole) is whole
    assert packing.unpacked(whole) is whole
