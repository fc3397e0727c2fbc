"""When did these bytes reach the kernel? Receive time stamps by SO_TIMESTAMPING, checked before they are trusted.

The kernel stamps a segment when it comes in, however late we read it, so our own load leaves the measurement alone. Its
stamp is of the wall clock: the offset to the monotonic clock is kept, and a step of the wall clock is noticed.
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
"""A change of the offset above this is a step of the wall clock. Reading both clocks one after the other differs by
less than a microsecond; being interrupted in between is caught by taking the narrowest of several readings."""
_TRIES = 100
_PAUSE_S = 0.002
"""The kernel begins to stamp some time after the first socket of the whole system asked for it: it leaves the switch to
a work queue (net_enable_timestamp in net/core/dev.c). On a busy machine, what comes meanwhile has no stamp."""


def enable(sock: socket.socket) -> None:
    """Asks for stamps on what `sock` receives from now on. Raises OSError where the system has none."""
    sock.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPING, _RX_SOFTWARE | _SOFTWARE)


def why_not() -> str:
    """Tries stamps on a connection of our own over loopback: "" if they work, else the reason that they do not."""
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
    """The wall clock's ns of a kernel stamp (two 64-bit integers: seconds, ns)."""
    return int.from_bytes(stamp[:8], sys.byteorder) * 1_000_000_000 + int.from_bytes(stamp[8:16], sys.byteorder)


def wall_minus_monotonic_ns() -> int:
    """The offset of the two clocks now: the narrowest of several readings of one between two of the other."""
    best_width, best = 1 << 62, 0
    for _ in range(5):
        before = time.monotonic_ns()
        wall = time.time_ns()
        after = time.monotonic_ns()
        if after - before < best_width:
            best_width, best = after - before, wall - (before + after) // 2
    return best
