"""Kernel receive time stamps by SO_TIMESTAMPING, checked before they are trusted.

The kernel stamps a segment when it arrives, no matter how late we read it, so our own load does not affect the
measurement. The stamp uses the wall clock: we track its offset to the monotonic clock and detect steps.
Source of the constants: Linux, include/uapi/asm-generic/socket.h and include/uapi/linux/net_tstamp.h.
"""

import socket
import sys
import time

SO_TIMESTAMPING = 37
_RX_SOFTWARE = 1 << 3
_SOFTWARE = 1 << 4
ANCILLARY_BYTES = 128
STAMP_BYTES = 16
NO_STAMP = b"\0" * STAMP_BYTES
STEP_NS = 200_000
"""A larger change of the offset is a step of the wall clock. Two readings of both clocks differ by less than a
microsecond; taking the narrowest of several readings removes those that were interrupted in between."""
_TRIES = 100
_PAUSE_S = 0.002
"""The kernel starts stamping some time after the first socket of the system requests it: a work queue switches it on
(net_enable_timestamp in net/core/dev.c). On a busy machine, segments that arrive before that have no stamp."""


def enable(sock: socket.socket) -> None:
    """Request stamps for what `sock` receives from now on. Raises OSError if the system has none."""
    sock.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPING, _RX_SOFTWARE | _SOFTWARE)


def unavailable_reason() -> str:
    """Try stamps on a loopback connection: "" if they work, else the reason why not."""
    if sys.platform != "linux":
        return f"{sys.platform} has no SO_TIMESTAMPING"
    try:
        with (
            socket.create_server(("127.0.0.1", 0)) as server,
            socket.create_connection(server.getsockname(), timeout=1) as client,
        ):
            enable(client)
            peer, _ = server.accept()
            with peer:
                for _ in range(_TRIES):
                    before_ns = time.time_ns()
                    peer.send(b"x")
                    data, ancillary, _, _ = client.recvmsg(1, ANCILLARY_BYTES)
                    after_ns = time.time_ns()
                    if ancillary:
                        break
                    time.sleep(_PAUSE_S)
                else:
                    return "the kernel gave no stamp"
    except OSError as error:
        return f"SO_TIMESTAMPING was refused: {error.strerror}"
    if data != b"x":
        return "our own connection over loopback does not work"
    at_ns = wall_ns(ancillary[0][2])
    if not before_ns - STEP_NS <= at_ns <= after_ns + STEP_NS:
        return f"the kernel's stamp is {(at_ns - after_ns) / 1e6:.3f} ms off the clock"
    return ""


def wall_ns(stamp: bytes) -> int:
    """Wall-clock time of a kernel stamp (two 64-bit integers: seconds, ns), in ns."""
    return int.from_bytes(stamp[:8], sys.byteorder) * 1_000_000_000 + int.from_bytes(stamp[8:16], sys.byteorder)


def wall_minus_monotonic_ns() -> int:
    """The current offset of the two clocks: one clock read between two readings of the other, narrowest of several."""
    best_width, best = 1 << 62, 0
    for _ in range(5):
        before = time.monotonic_ns()
        wall = time.time_ns()
        after = time.monotonic_ns()
        if after - before < best_width:
            best_width, best = after - before, wall - (before + after) // 2
    return best
