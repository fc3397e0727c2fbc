"""What passes between the program and a load worker? Frames of msgpack, each with its length before it."""

import struct
from collections.abc import Iterator
from typing import Literal

import msgspec

from inferometer.core.spec import Timeouts
from inferometer.net.target import Target

_LENGTH = struct.Struct("<I")


class WireRequest(msgspec.Struct, frozen=True, array_like=True):
    """One request as bytes: head and body. `due_ns` from the plan's start; None: as soon as a slot is free."""

    index: int
    due_ns: int | None
    payload: bytes


class Job(msgspec.Struct, frozen=True):
    """Everything a worker needs: `warmups` are answered before it reports `Warm`, `shots` are played after `Go`.

    `concurrency` None: no limit. `output_pattern`: what the bytes of an event with output match; looked for only where
    `timeouts` limit the wait for a token. `kernel_stamps` False: not even tried. `most_head_bytes`,
    `most_answer_bytes`: of one answer; a larger one is given up.
    """

    target: Target
    warmups: tuple[WireRequest, ...]
    shots: tuple[WireRequest, ...]
    concurrency: int | None
    timeouts: Timeouts = Timeouts()
    output_pattern: bytes = b""
    kernel_stamps: bool = True
    most_head_bytes: int = 64 * 1024
    most_answer_bytes: int = 64 * 1024**2


class Go(msgspec.Struct, frozen=True, tag="go"):
    """Start the plan's clock: at `start_ns` of the monotonic clock for a worker on this host; for one on another host,
    whose clock is another, None: `in_ns` after this word arrives."""

    start_ns: int | None
    in_ns: int = 0


WireOutcome = Literal["complete", "eof", "refused", "cut", "timeout", "cancelled", "too_large"]
"""`complete`: the framing says the response ended; `eof`: the server closed after a part of it; `too_large`: it was
given up, as it went on past the job's bounds."""


class Exchange(msgspec.Struct, frozen=True, tag="exchange"):
    """One request and all that came back: `raw` bytes as read, cut into reads of `lengths` (u32).

    `read_ns` (i64 each): when each read was made. `kernel` (two i64 each: seconds, ns of the wall clock; zeros where
    there was none): when the kernel got it; b"" without kernel stamps. `wall_offset_ns`: wall minus monotonic clock;
    `clock_stepped`: the wall clock was set meanwhile, so that the kernel's stamps mean nothing.
    All other times are ns of the worker's monotonic clock.
    """

    index: int
    outcome: WireOutcome
    due_ns: int | None
    connected_ns: int | None
    sent_ns: int | None
    done_ns: int
    raw: bytes = b""
    lengths: bytes = b""
    read_ns: bytes = b""
    kernel: bytes = b""
    wall_offset_ns: int = 0
    clock_stepped: bool = False
    resent: int = 0
    error: str = ""


class Warm(msgspec.Struct, frozen=True, tag="warm"):
    """The warm-ups are over and the connections are open; the worker waits for `Go`. `stamps`: "" where the kernel's
    stamps are in use, else why not."""

    stamps: str


class Begun(msgspec.Struct, frozen=True, tag="begun"):
    """The plan's clock starts at `start_ns` of the worker's monotonic clock."""

    start_ns: int


class Tick(msgspec.Struct, frozen=True, tag="tick"):
    """How it goes, several times a second: requests under way, ended, and reads so far (about one a token)."""

    in_flight: int
    ended: int
    reads: int


class Finished(msgspec.Struct, frozen=True, tag="finished"):
    """The last word: the worker's CPU time and the wall time since the plan's start, and how often the wall clock was
    set meanwhile."""

    cpu_ns: int
    wall_ns: int
    clock_steps: int


class Broken(msgspec.Struct, frozen=True, tag="broken"):
    """The worker cannot go on."""

    message: str


FromWorker = Exchange | Warm | Begun | Tick | Finished | Broken

_encoder = msgspec.msgpack.Encoder()
decode_from_worker = msgspec.msgpack.Decoder(FromWorker).decode
decode_job = msgspec.msgpack.Decoder(Job).decode
decode_go = msgspec.msgpack.Decoder(Go).decode


def frame(message: Job | Go | FromWorker) -> bytes:
    """One message as it goes through the pipe."""
    payload = _encoder.encode(message)
    return _LENGTH.pack(len(payload)) + payload


class Frames:
    """Cuts a byte stream back into payloads; feed it what was read, in any pieces."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[bytes]:
        self._buffer += data
        start = 0
        while len(self._buffer) - start >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(self._buffer, start)
            end = start + _LENGTH.size + length
            if len(self._buffer) < end:
                break
            yield bytes(self._buffer[start + _LENGTH.size : end])
            start = end
        del self._buffer[:start]
