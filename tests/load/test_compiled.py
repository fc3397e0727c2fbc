"""The compiled part of the load path: what it reads, what it leaves to Python, and how it is built."""

import array
import contextlib
import importlib.util
import itertools
import os
import select
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from httptools import HttpParserError
from hypothesis import given
from hypothesis import strategies as st

from inferometer.core.record import KINDS, Events
from inferometer.load import answer_decoding, compiled
from inferometer.load.arrivals import Arrivals
from inferometer.load.compiled import Kept
from inferometer.load.in_flight import InFlight
from inferometer.load.kernel_stamps import enable, unavailable_reason, wall_minus_monotonic_ns, wall_ns
from inferometer.load.polling import READ, EpollPoller
from inferometer.load.wire import Exchange, WireRequest

ROOT = Path(__file__).parents[2]
LIMIT = 1000

needs_compiled = pytest.mark.skipif(compiled.receive is None, reason="the compiled part of the load path is not built")


class Stream:
    """A connection, and what was read of it."""

    def __init__(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as server:
            self.ours = socket.create_connection(server.getsockname())
            self.server, _ = server.accept()
        self.ours.setblocking(False)
        self.kept: Kept = (bytearray(), bytearray(), bytearray(), bytearray())
        self.poller = EpollPoller()
        self.poller.register(self.ours.fileno(), READ)

    def follow(self, stamps: bool = False) -> None:
        assert compiled.follow is not None
        compiled.follow(self.ours.fileno(), self.kept, stamps)

    def read(self, wait_ns: int = 0) -> tuple[list[int], list[tuple[int, int]], int]:
        assert compiled.receive is not None and compiled.hand_over_quiet is not None
        fd = self.ours.fileno()
        others, ended, closed, reads = compiled.receive(self.poller.fd or 0, time.monotonic_ns() + wait_ns, 0, LIMIT)
        assert others == []
        compiled.hand_over_quiet(time.monotonic_ns())
        return [one - fd for one in ended], [(one - fd, code) for one, code in closed], reads


@pytest.fixture
def stream() -> Iterator[Stream]:
    made = Stream()
    with made.ours, made.server:
        yield made
        assert compiled.unfollow is not None
        compiled.unfollow(made.ours.fileno())
        made.poller.close()


@needs_compiled
def test_each_read_is_kept_with_its_length_and_time(stream: Stream):
    before_ns = time.monotonic_ns()
    stream.follow()
    for piece in (b"abc", b"de"):
        stream.server.sendall(piece)
        assert stream.read() == ([], [], 1)
    raw, lengths, read_ns, kernel = stream.kept
    assert (bytes(raw), memoryview(lengths).cast("I").tolist(), bytes(kernel)) == (b"abcde", [3, 2], b"")
    first_ns, second_ns = memoryview(read_ns).cast("q")
    assert before_ns <= first_ns < second_ns <= time.monotonic_ns()


@needs_compiled
def test_what_an_active_socket_gave_waits(stream: Stream):
    assert compiled.receive is not None and compiled.hand_over_quiet is not None
    stream.follow()
    before_ns = time.monotonic_ns()
    stream.server.sendall(b"abc")
    compiled.receive(stream.poller.fd or 0, time.monotonic_ns(), 0, LIMIT)
    compiled.hand_over_quiet(before_ns)
    assert stream.kept[0] == b""
    compiled.hand_over_quiet(time.monotonic_ns())
    assert stream.kept[0] == b"abc"


@needs_compiled
@pytest.mark.skipif(unavailable_reason() != "", reason="no kernel stamps here")
def test_the_kernels_stamp_of_a_read_is_kept(stream: Stream):
    enable(stream.ours)
    time.sleep(0.1)  # the kernel begins to stamp a moment after the first socket of the machine asks for it
    stream.follow(stamps=True)
    before_ns = time.monotonic_ns()
    stream.server.sendall(b"abc")
    time.sleep(0.02)
    stream.read()
    stamp_ns = wall_ns(bytes(stream.kept[3])) - wall_minus_monotonic_ns()
    (read_ns,) = memoryview(stream.kept[2]).cast("q")
    assert len(stream.kept[3]) == 16
    assert before_ns - 1_000_000 <= stamp_ns <= read_ns - 10_000_000


@needs_compiled
@pytest.mark.parametrize(
    ("sent", "ended"), [(b"1\r\nx\r\n", []), (b"0\r\n\r\n", [0]), (b"x" * (LIMIT + 1), [0]), (b"x" * LIMIT, [])]
)
def test_a_possible_end_is_reported(stream: Stream, sent: bytes, ended: list[int]):
    stream.follow()
    stream.server.sendall(sent)
    assert stream.read() == (ended, [], 1)


@needs_compiled
def test_an_end_that_arrives_in_two_reads_is_reported(stream: Stream):
    stream.kept[0].extend(b"0")
    stream.follow()
    for piece, ended in ((b"\r\n\r", []), (b"\n", [0])):
        stream.server.sendall(piece)
        assert stream.read()[0] == ended


@needs_compiled
@pytest.mark.parametrize(("linger", "reason"), [(b"", ""), (b"\1\0\0\0\0\0\0\0", "Connection reset by peer")])
def test_the_end_of_a_connection_is_reported_with_its_error(stream: Stream, linger: bytes, reason: str):
    stream.follow()
    assert stream.read() == ([], [], 0)  # nothing to read
    if linger:
        stream.server.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    stream.server.close()
    ended, ((_, code),), reads = stream.read()
    assert (ended, code and os.strerror(code), reads, bytes(stream.kept[0])) == ([], reason or 0, 0, b"")


@needs_compiled
def test_it_returns_at_the_wake_time_or_when_python_has_something_to_do(stream: Stream):
    stream.follow()
    stream.server.sendall(b"abc")
    before_ns = time.monotonic_ns()
    assert stream.read(wait_ns=20_000_000) == ([], [], 1)
    assert time.monotonic_ns() - before_ns >= 20_000_000
    stream.server.sendall(b"0\r\n\r\n")
    assert stream.read(wait_ns=600_000_000_000) == ([0], [], 1)


@needs_compiled
def test_a_socket_that_is_not_followed_is_left_to_python(stream: Stream):
    assert compiled.receive is not None
    stream.server.sendall(b"abc")
    ready = [(stream.ours.fileno(), select.EPOLLIN)]
    assert compiled.receive(stream.poller.fd or 0, 0, 0, LIMIT) == (ready, [], [], 0)
    assert stream.ours.recv(10) == b"abc"


HEAD = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
WHOLE = HEAD + b"1\r\nx\r\n0\r\n\r\n"


@needs_compiled
@pytest.mark.parametrize(
    ("sent", "ended"),
    [
        (HEAD + b"1\r\nx\r\n", []),
        (WHOLE, [0]),
        (HEAD[:-1], [0]),
        (HEAD.replace(b"200", b"500"), [0]),
        (HEAD.replace(b"Transfer-Encoding: chunked", b"Content-Length: 9"), [0]),
    ],
)
def test_an_answer_that_does_not_begin_as_a_stream_is_left_to_python(stream: Stream, sent: bytes, ended: list[int]):
    assert compiled.follow is not None
    compiled.follow(stream.ours.fileno(), stream.kept, False, True)
    stream.server.sendall(sent)
    assert stream.read() == (ended, [], 1)


@pytest.mark.skipif(compiled.is_whole_stream is None, reason="the compiled part of the load path is not built")
@given(st.data())
def test_an_answer_is_whole_only_where_llhttp_ends_it_and_keeps_the_connection(data: st.DataObject):
    assert compiled.is_whole_stream is not None
    assert compiled.is_whole_stream(WHOLE)
    parts = st.sampled_from([*PARTS, b"", b"\r\n", b" ", b"0", b"1", b"\n"])
    at = data.draw(st.integers(0, len(WHOLE)))
    cut = data.draw(st.integers(at, len(WHOLE)))
    answer = WHOLE[:at] + b"".join(data.draw(st.lists(parts, max_size=3))) + WHOLE[cut:]
    in_flight = InFlight(WireRequest(0, None, b""), None, 0)
    in_flight.raw += answer
    with contextlib.suppress(HttpParserError):
        in_flight.feed()
    assert not compiled.is_whole_stream(answer) or (in_flight.finished and in_flight.keep_alive)


PARTS = (
    b"Connection: close\r\n",
    b"Connection: keep-alive\r\n",
    b"Content-Length: 1\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Trailer: x\r\n",
    b"1\r\ny\r\n",
    b"00\r\n",
    b"1;a=b\r\nz\r\n",
)


@needs_compiled
@given(st.lists(st.integers(1, 5), min_size=1), st.lists(st.integers(0, 60)), st.integers(-9, 9))
def test_event_times_are_those_of_python(lengths: list[int], ends: list[int], zero_ns: int):
    exchange = Exchange(1, "complete", None, None, None, 0, lengths=array.array("I", lengths).tobytes())
    arrived = Arrivals(np.arange(len(lengths)) * 10, np.zeros(0, np.int64), 0)
    offsets = array.array("q", sorted(end for end in ends if 0 < end <= sum(lengths)))
    found = answer_decoding._event_times(exchange, arrived, offsets, zero_ns)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compiled, "event_times", None)
        assert answer_decoding._event_times(exchange, arrived, offsets, zero_ns) == found


@needs_compiled
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, len(KINDS) - 1), st.integers(0, 2))))
def test_output_times_are_those_of_python(rows: list[tuple[int, int, int]]):
    steps, kinds, chars = zip(*rows, strict=True) if rows else ((), (), ())
    at_ns = array.array("q", itertools.accumulate(steps))
    events = [Events(at_ns, bytes(kinds), array.array("I", chars), "x" * sum(chars)) for _ in range(2)]
    found = answer_decoding._note_outputs(events[0])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compiled, "output_times", None)
        assert answer_decoding._note_outputs(events[1]) == found
    assert events[0].outputs_ns().tolist() == events[1].outputs_ns().tolist()


def test_without_a_compiler_the_hook_gives_the_reason_and_leaves_no_module(tmp_path: Path, monkeypatch):
    spec = importlib.util.spec_from_file_location("hatch_build", ROOT / "hatch_build.py")
    assert spec is not None and spec.loader is not None
    hook = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(hook)
    monkeypatch.setenv("CC", "no-such-compiler")
    assert "no-such-compiler" in hook.compile_module(ROOT / hook.SOURCE, tmp_path / "_compiled.abi3.so")
    (tmp_path / "broken.c").write_text("int main(")
    monkeypatch.setenv("CC", f"{sys.executable} -c pass")  # a compiler that writes nothing
    assert hook.compile_module(tmp_path / "broken.c", tmp_path / "_compiled.abi3.so") != ""
    assert not list(tmp_path.glob("*.so"))


def test_the_compiled_part_can_be_switched_off():
    code = "from inferometer.load import compiled; print(compiled.receive, compiled.arrivals, compiled.similar_chunks)"
    environment = os.environ | {"INFEROMETER_COMPILED": "0"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["None"] * 3
