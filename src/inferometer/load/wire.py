"""Messages between the program and a load worker: msgpack frames, each preceded by its length. Pure."""

import struct
from collections.abc import Iterator
from typing import Literal

import msgspec

from inferometer.core.spec import Timeouts
from inferometer.net.target import Target

_LENGTH = struct.Struct("<I")
_LANE = struct.Struct("<H")


class WireRequest(msgspec.Struct, frozen=True, array_like=True):
    """One HTTP request as bytes: head and body. `due_ns` from the plan's start; None: as soon as a slot is free."""

    index: int
    due_ns: int | None
    payload: bytes


class Job(msgspec.Struct, frozen=True):
    """Everything a worker needs: `warmups` are answered before it sends `WarmedUp`, `requests` are played after
    `StartPlan`.

    `concurrency` None: no limit. `output_pattern`: matches the bytes of an event with output; used only if `timeouts`
    limit the wait for a token. `kernel_stamps` False: not tried. `max_head_bytes`, `max_answer_bytes`: limits for one
    answer; a larger one is abandoned.
    """

    target: Target
    warmups: tuple[WireRequest, ...]
    requests: tuple[WireRequest, ...]
    concurrency: int | None
    timeouts: Timeouts = Timeouts()
    output_pattern: bytes = b""
    kernel_stamps: bool = True
    max_head_bytes: int = 64 * 1024
    max_answer_bytes: int = 64 * 1024**2


class StartPlan(msgspec.Struct, frozen=True, tag="start"):
    """Start the plan's clock: at `start_ns` of the monotonic clock for a worker on this host. A worker on another host
    has a different clock: for it `start_ns` is None, and the plan starts `in_ns` after this message arrives."""

    start_ns: int | None
    in_ns: int = 0


WireOutcome = Literal["complete", "eof", "refused", "cut", "timeout", "cancelled", "too_large"]
"""`complete`: the HTTP framing shows the end of the response. `eof`: the server closed after a part of it. `too_large`:
it was abandoned, because it exceeded the job's limits."""


class Exchange(msgspec.Struct, frozen=True, tag="exchange"):
    """One request and the bytes of its answer: `raw` as read, in reads of `lengths` (u32).

    `read_ns` (i64 each): when each read was made. `kernel` (two i64 each: seconds and ns of the wall clock; zeros for a
    read without a stamp): when the kernel received it; b"" without kernel stamps. `wall_offset_ns`: wall clock minus
    monotonic clock. `clock_stepped`: the wall clock was set in between, so the kernel's stamps are invalid.
    `packed`: these four columns as `packing` packs them; then they are b"".
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
    packed: bytes = b""


class WarmedUp(msgspec.Struct, frozen=True, tag="warmed_up"):
    """The warm-ups have ended and the connections are open; the worker waits for `StartPlan`. `stamps`: "" if kernel
    stamps are in use, else why not."""

    stamps: str


class PlanStarted(msgspec.Struct, frozen=True, tag="plan_started"):
    """The plan's clock starts at `start_ns` of the worker's monotonic clock."""

    start_ns: int


class Tick(msgspec.Struct, frozen=True, tag="tick"):
    """Progress, several times per second: requests under way, ended, and reads so far (about one per token)."""

    in_flight: int
    ended: int
    reads: int


class Finished(msgspec.Struct, frozen=True, tag="finished"):
    """The worker's last message: its CPU time and the wall time since the plan's start, and how often the wall clock
    was set in between."""

    cpu_ns: int
    wall_ns: int
    clock_steps: int


class WorkerFailed(msgspec.Struct, frozen=True, tag="worker_failed"):
    """The worker cannot continue."""

    message: str


class TurnEnded(msgspec.Struct, frozen=True, tag="turn"):
    """One arm's turn in an interleaved round: from just before its block of requests was sent to the end of the block's
    last answer, ns of the worker's monotonic clock."""

    start_ns: int
    end_ns: int


class Interleaving(msgspec.Struct, frozen=True):
    """How one worker plays the plans of several arms, each in its own lane. Block by block, every lane plays the same
    requests. Each of `orders` holds for an equal run of blocks. A block holds `block_requests`, and all that are due
    within `block_ns` of its first one."""

    lanes: int
    orders: tuple[tuple[int, ...], ...]
    block_requests: int | None
    block_ns: int | None = None

    def order_of(self, block: int, blocks: int) -> tuple[int, ...]:
        """The order of the lanes in a block, from 0.

        Two lanes alternate strictly (AB AB AB, then BA BA BA): a time in which the machine is slow meets at most one
        block more of one lane than of the other, or two in the middle of the plan. If the order changed with each block
        (AB BA AB), one lane would often work twice in a row, and the difference would often be two."""
        return self.orders[block * len(self.orders) // blocks]


FromWorker = Exchange | WarmedUp | PlanStarted | Tick | TurnEnded | Finished | WorkerFailed

_encoder = msgspec.msgpack.Encoder()
decode_from_worker = msgspec.msgpack.Decoder(FromWorker).decode
decode_job = msgspec.msgpack.Decoder(Job).decode
decode_start = msgspec.msgpack.Decoder(StartPlan).decode
decode_interleaving = msgspec.msgpack.Decoder(Interleaving).decode


def frame(message: Job | StartPlan | Interleaving | FromWorker) -> bytes:
    """One message as bytes for the pipe."""
    return _framed(_encoder.encode(message))


def lane_frame(lane: int, message_frame: bytes = b"") -> bytes:
    """The frame of a message for one lane, or from it. Without a message: nobody plays this lane any more."""
    return _framed(_LANE.pack(lane) + message_frame[_LENGTH.size :])


def lane_of(payload: bytes) -> tuple[int, bytes]:
    """The lane and the message of a `lane_frame`'s payload."""
    (lane,) = _LANE.unpack_from(payload)
    return lane, payload[_LANE.size :]


def _framed(payload: bytes) -> bytes:
    return _LENGTH.pack(len(payload)) + payload


class Frames:
    """Cuts a byte stream back into payloads. The bytes may be fed in any pieces."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[bytes]:
        self._buffer += data
        start = 0
        with memoryview(self._buffer) as buffer:
            while len(buffer) - start >= _LENGTH.size:
                (length,) = _LENGTH.unpack_from(buffer, start)
                end = start + _LENGTH.size + length
                if len(buffer) < end:
                    break
                yield bytes(buffer[start + _LENGTH.size : end])
                start = end
        del self._buffer[:start]
