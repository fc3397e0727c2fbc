"""Kernel receive stamps on a real connection."""

import socket
import struct
import sys
import time

import pytest

from inferometer.load.kernel_stamps import (
    ANCILLARY_BYTES,
    STAMP_BYTES,
    STEP_NS,
    enable,
    unavailable_reason,
    wall_minus_monotonic_ns,
    wall_ns,
)


@pytest.mark.skipif(sys.platform != "linux" or unavailable_reason() != "", reason="this system gives no kernel stamps")
def test_the_stamp_lies_between_send_and_read_though_the_reader_slept():
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.create_connection(server.getsockname(), timeout=5) as client,
    ):
        enable(client)
        peer, _ = server.accept()
        with peer:
            before_ns, ancillary = 0, []
            while not ancillary:  # the kernel begins to stamp when it comes to it
                before_ns = time.monotonic_ns()
                peer.sendall(b"x")
                time.sleep(0.02)
                _, ancillary, _, _ = client.recvmsg(1, ANCILLARY_BYTES)
            read_ns = time.monotonic_ns()
    stamp = ancillary[0][2][:STAMP_BYTES]
    at_ns = wall_ns(stamp) - wall_minus_monotonic_ns()
    assert before_ns - STEP_NS <= at_ns <= read_ns
    assert (
        read_ns - at_ns >= 10_000_000
    )  # of the sleep's 20: loopback delivers at once, or soon after on a busy machine


def test_a_stamp_is_two_integers_of_64_bits_seconds_and_ns():
    assert wall_ns(struct.pack("qq", 1_700_000_000, 123_456_789)) == 1_700_000_000_123_456_789


def test_the_offset_of_the_clocks_is_what_both_say_now():
    before_ns = time.time_ns() - time.monotonic_ns()
    assert abs(wall_minus_monotonic_ns() - before_ns) < 50_000_000
    assert abs(wall_minus_monotonic_ns() - wall_minus_monotonic_ns()) < STEP_NS
