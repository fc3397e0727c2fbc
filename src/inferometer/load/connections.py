"""Connections of one load worker: opening, sending, reading and closing sockets, each read with its time stamp.

Part of the timed path. It stores the bytes of an answer as they arrive and decodes nothing.
"""

import contextlib
import errno
import os
import socket
import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, cast

import httptools

from inferometer.base.units import bytes_text
from inferometer.load import compiled
from inferometer.load.channel import Channel, ChannelFailed, Channels
from inferometer.load.in_flight import InFlight
from inferometer.load.kernel_stamps import (
    ANCILLARY_BYTES,
    NO_STAMP,
    STAMP_BYTES,
    STEP_NS,
    enable,
    wall_minus_monotonic_ns,
)
from inferometer.load.polling import READ, WRITE, WRITE_BITS, poller
from inferometer.load.wire import Job, WireOutcome, WireRequest
from inferometer.net.target import Target, Tcp

_BUFFER_BYTES = 262_144
_MOST_ENDS = 32
"""Many answers may end at once. After this many are ended, and their successors sent, everything is read again: a first
token that waits until the next one arrives has the time stamp of that one."""
_IDLE_CLOSE_NS = 20_000_000
"""The longest time from sending to the end of the connection that can mean: the server had closed it while it was idle.

Then the server's kernel answers the first bytes with a reset, one round trip later. 20 ms, and the time that opening
the connection took (at least one round trip), leave room for a busy machine. No server works for less than that and
then drops the connection; one that does has failed the request."""

monotonic_ns = time.monotonic_ns


class Connection:
    """One socket and the request in flight on it, if any."""

    __slots__ = (
        "awaits_writable",
        "channel",
        "connected_ns",
        "fd",
        "in_flight",
        "opened_ns",
        "served",
        "sock",
        "unsent",
    )

    def __init__(self, sock: socket.socket, channel: Channel | None, now_ns: int) -> None:
        self.sock = sock
        self.fd = sock.fileno()
        self.channel = channel
        self.opened_ns = now_ns
        self.connected_ns: int | None = None
        self.in_flight: InFlight | None = None
        self.served = 0
        self.unsent = memoryview(b"")
        self.awaits_writable = True  # a new socket becomes writable once it is connected


class Connections:
    """All connections to the target of a job. Requests that have ended collect in `completed`.

    `poll_outside` is called when one of `outside_fds` can be read (or written, see `watch_writable`). The public
    attributes are read by the schedule loop on every turn, so they are plain attributes.
    """

    def __init__(
        self, job: Job, poll_outside: Callable[[int], None], outside_fds: Iterable[int], kernel_stamps: bool
    ) -> None:
        self._max_head_bytes = job.max_head_bytes
        self._max_answer_bytes = job.max_answer_bytes
        self._poll_outside = poll_outside
        self._poller = poller()
        self._outside = set(outside_fds)
        for fd in self._outside:
            self._poller.register(fd, READ)
        self._channels = Channels(job.target)
        self._family, self._address = _resolve(job.target)
        self._by_fd: dict[int, Connection] = {}
        self._followed: set[int] = set()  # the connections that `compiled.receive` reads
        self._possible_ends: deque[tuple[Connection, InFlight]] = deque()
        self._refused: list[tuple[Connection, OSError]] = []  # refused during connect(), as Unix sockets do
        self._buffers = (bytearray(_BUFFER_BYTES),)
        self._view = memoryview(self._buffers[0])
        self._last_poll_ns = 0
        self._wall_offset_ns = wall_minus_monotonic_ns()
        self.stamps = kernel_stamps and isinstance(job.target.connect_to, Tcp)
        self.idle: list[Connection] = []
        self.completed: deque[InFlight] = deque()
        self.under_way = 0  # requests sent or waiting for their connection
        self.ended = 0
        self.reads = 0
        self.pause_ns = 0  # the least time between two polls of the sockets
        self.clock_steps = 0

    def watch_writable(self, fd: int, wanted: bool) -> None:
        """Choose whether `poll_outside` is called when the pipe `fd` can be written."""
        if wanted and fd not in self._outside:
            self._outside.add(fd)
            self._poller.register(fd, WRITE)
        elif not wanted and fd in self._outside:
            self._outside.discard(fd)
            self._poller.unregister(fd)

    def with_request(self, quiet_since_ns: int) -> list[tuple[Connection, InFlight]]:
        """The connections that carry a request, in a list that may be kept while connections end. What was read of
        those that gave something after `quiet_since_ns` may be missing in their requests. Without those whose end is
        looked for next."""
        if compiled.hand_over_quiet is not None:
            compiled.hand_over_quiet(quiet_since_ns)
        ending = {connection.fd for connection, _ in self._possible_ends}
        return [
            (one, one.in_flight) for fd, one in self._by_fd.items() if one.in_flight is not None and fd not in ending
        ]

    def close(self) -> None:
        for connection in self._by_fd.values():
            self._unfollow(connection)
            connection.sock.close()
        self._by_fd.clear()
        self._poller.close()

    # --- polling and reading ----------------------------------------------------------------------

    def poll_once(self, wake_ns: int) -> None:
        """Wait for bytes until `wake_ns` and read all that arrived."""
        while self._refused:
            self._on_closed(*self._refused.pop())
        if compiled.receive is not None and self._poller.fd is not None:
            self._receive(compiled.receive, self._poller.fd, wake_ns)
            return
        now = monotonic_ns()
        if self.pause_ns:
            pause_ns = min(self._last_poll_ns + self.pause_ns, wake_ns) - now
            if pause_ns > 0:
                time.sleep(pause_ns / 1e9)
                now = monotonic_ns()
            self._last_poll_ns = now
        self._read_ready(self._poller.wait(wake_ns - now))

    def _receive(self, receive: compiled.Receive, epoll_fd: int, wake_ns: int) -> None:
        until_ns = 0 if self._possible_ends else wake_ns
        others, ended, closed, reads = receive(epoll_fd, until_ns, self.pause_ns, self._max_answer_bytes)
        self.reads += reads
        for fd in ended:
            connection = self._by_fd[fd]
            self._possible_ends.append((connection, cast("InFlight", connection.in_flight)))
        self.find_ends(None if closed else _MOST_ENDS)
        for fd, code in closed:
            if fd in self._by_fd:
                self._on_closed(self._by_fd[fd], OSError(code, os.strerror(code)) if code else None)
        self._read_ready(others)

    def find_ends(self, most: int | None = None) -> None:
        """End the requests whose answers may be complete and are, at most this many; None: all."""
        waiting = len(self._possible_ends)
        for _ in range(waiting if most is None else min(most, waiting)):
            connection, in_flight = self._possible_ends.popleft()
            if connection.in_flight is in_flight:  # it was not ended since, by a timeout for example
                self._find_end(connection, in_flight)

    def _follow(self, connection: Connection, in_flight: InFlight) -> None:
        """Let the compiled part read it: plain bytes, once the whole request is sent."""
        if compiled.follow is None or connection.channel is not None or connection.unsent:
            return
        if connection.fd not in self._followed:
            self._followed.add(connection.fd)
            compiled.follow(connection.fd, in_flight.kept, self.stamps, not in_flight.raw)

    def _unfollow(self, connection: Connection) -> None:
        if compiled.unfollow is not None and connection.fd in self._followed:
            self._followed.discard(connection.fd)
            compiled.unfollow(connection.fd)

    def _read_ready(self, ready: list[tuple[int, int]]) -> None:
        by_fd, buffers, view, stamps = self._by_fd, self._buffers, self._view, self.stamps
        for fd, mask in ready:
            connection = by_fd.get(fd)
            if connection is None:
                if fd in self._outside:
                    self._poll_outside(fd)
                continue
            if mask & WRITE_BITS and connection.awaits_writable:
                self._on_writable(connection)
                if not mask & READ or fd not in by_fd:
                    continue
            try:
                if stamps:
                    count, ancillary, _, _ = connection.sock.recvmsg_into(buffers, ANCILLARY_BYTES)
                else:
                    count, ancillary = connection.sock.recv_into(buffers[0]), ()
            except OSError as error:
                if not isinstance(error, BlockingIOError):
                    self._on_closed(connection, error)
                continue
            read_ns = monotonic_ns()
            data = view[:count]
            if count == 0:
                self._on_closed(connection, None)
            elif connection.channel is not None and not (data := self._decrypt(connection, data)):
                pass
            elif (in_flight := connection.in_flight) is None:  # bytes that no request asked for
                self.drop(connection)
            else:
                stamp = b"" if not stamps else ancillary[0][2][:STAMP_BYTES] if ancillary else NO_STAMP
                in_flight.add_read(data, read_ns, stamp)
                self.reads += 1
                raw = in_flight.raw
                # In chunks, an answer ends where a read ends with an empty line: only then is the parser fed, at once.
                if not in_flight.in_chunks or raw.endswith(b"\r\n\r\n") or len(raw) > self._max_answer_bytes:
                    self._find_end(connection, in_flight)

    def _find_end(self, connection: Connection, in_flight: InFlight) -> None:
        """End the request if its answer is complete, too large, or not HTTP."""
        if len(in_flight.raw) > self._max_answer_bytes:
            self._too_large(connection, f"its answer is larger than {bytes_text(self._max_answer_bytes)}")
            return
        try:
            in_flight.find_end()
        except httptools.HttpParserError as error:
            self._fail(connection, f"not HTTP: {error}")
            return
        if in_flight.finished:
            self._on_answer_complete(connection, in_flight)
            return
        if in_flight.in_chunks and not in_flight.in_head:
            self._follow(connection, in_flight)
        else:
            self._unfollow(connection)
        if in_flight.in_head and len(in_flight.raw) > self._max_head_bytes:
            self._too_large(connection, f"the headers are larger than {bytes_text(self._max_head_bytes)}")
        elif connection.channel is not None and connection.channel.closed:
            self._on_closed(connection, None)

    def ended_between_reads(self, connection: Connection, in_flight: InFlight) -> bool:
        """Whether the answer ended inside a read, because the server went on sending after it; then end the request."""
        if in_flight.fed == len(in_flight.raw):
            return False
        try:
            in_flight.feed()
        except httptools.HttpParserError as error:
            self._fail(connection, f"not HTTP: {error}")
            return True
        if in_flight.finished:
            self._on_answer_complete(connection, in_flight)
        return in_flight.finished

    def _decrypt(self, connection: Connection, data: memoryview) -> memoryview:
        """The plaintext in `data`; empty if `data` completes none, or if the connection failed."""
        channel = cast("Channel", connection.channel)
        try:
            plaintext = channel.receive(data)
        except ChannelFailed as error:
            with contextlib.suppress(OSError):
                connection.sock.send(channel.pending_out())
            self._fail(connection, str(error))
            return memoryview(b"")
        pending = channel.pending_out()
        if pending:
            self._send_bytes(connection, pending)
        if channel.ready and connection.connected_ns is None:
            self._on_connected(connection)
        if channel.closed and not plaintext:
            self._on_closed(connection, None)
        return memoryview(plaintext)

    # --- opening and closing ----------------------------------------------------------------------

    def connect(self) -> Connection:
        """A new connection that is being opened; requests can be sent once `connected_ns` is set."""
        sock = socket.socket(self._family, socket.SOCK_STREAM)
        sock.setblocking(False)
        if self._family != getattr(socket, "AF_UNIX", None):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self.stamps:
            enable(sock)
        connection = Connection(sock, self._channels.open(), monotonic_ns())
        code = sock.connect_ex(self._address)
        self._by_fd[connection.fd] = connection
        self._poller.register(connection.fd, WRITE)
        if code not in (0, errno.EINPROGRESS):
            self._refused.append((connection, OSError(code, os.strerror(code))))
        return connection

    def _on_writable(self, connection: Connection) -> None:
        if connection.unsent:
            self._flush(connection)
            return
        code = connection.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code:
            self._on_closed(connection, OSError(code, os.strerror(code)))
            return
        connection.awaits_writable = False
        self._poller.modify(connection.fd, READ)
        if connection.channel is None:
            self._on_connected(connection)
            return
        try:
            self._send_bytes(connection, connection.channel.start())
        except ChannelFailed as error:
            self._fail(connection, str(error))

    def _on_connected(self, connection: Connection) -> None:
        connection.connected_ns = monotonic_ns()
        if connection.in_flight is not None:
            self._start_sending(connection, connection.in_flight)

    def drop(self, connection: Connection) -> None:
        """Close the connection and forget it."""
        self._unfollow(connection)
        if self._by_fd.pop(connection.fd, None) is not None:
            self._poller.unregister(connection.fd)
        connection.sock.close()
        with contextlib.suppress(ValueError):
            self.idle.remove(connection)

    def _fail(self, connection: Connection, reason: str) -> None:
        """The connection cannot be used any more."""
        if connection.in_flight is not None:
            self.end(connection, "cut" if connection.connected_ns is not None else "refused", reason)
        self.drop(connection)

    def _too_large(self, connection: Connection, reason: str) -> None:
        """The server sends more than any valid answer has; the rest is not read."""
        self.end(connection, "too_large", reason)
        self.drop(connection)

    def _on_closed(self, connection: Connection, error: OSError | None) -> None:
        """The peer closed or reset the connection.

        An idle connection is dropped. A request on a connection that was closed while it was idle is sent again, once,
        on a new one: the server cannot have worked on it. Otherwise the request has failed.
        """
        in_flight = connection.in_flight
        if in_flight is None:
            self.drop(connection)
            return
        if in_flight.resent == 0 and _was_closed_idle(connection, in_flight):
            self._send_again(connection, in_flight)
            return
        reason = "" if error is None else str(error.strerror or error)
        if connection.connected_ns is None:
            waiting_for = connection.channel.waiting_for if connection.channel is not None else ""
            outcome: WireOutcome = "refused"
            reason = f"{reason or 'the connection was closed'} during {waiting_for}" if waiting_for else reason
        else:
            outcome = "eof" if error is None and in_flight.raw else "cut"
        self.end(connection, outcome, reason or ("" if in_flight.raw else "the server closed without an answer"))
        self.drop(connection)

    def _send_again(self, connection: Connection, in_flight: InFlight) -> None:
        """On a new connection."""
        self.drop(connection)
        self.connect().in_flight = in_flight.again()

    # --- requests ---------------------------------------------------------------------------------

    def send(self, wire_request: WireRequest, due_ns: int | None) -> None:
        """Send on an idle connection, or on a new one as soon as it is open."""
        connection = self._idle_connection() or self.connect()
        in_flight = connection.in_flight = InFlight(wire_request, due_ns, self.clock_steps)
        self.under_way += 1
        if connection.connected_ns is not None:
            self._start_sending(connection, in_flight)

    def _idle_connection(self) -> Connection | None:
        """An idle connection that the server has not closed; closed ones are dropped before anything is sent."""
        while self.idle:
            connection = self.idle.pop()
            if connection.connected_ns is None or not _is_closed(connection):
                return connection
            self.drop(connection)
        return None

    def _start_sending(self, connection: Connection, in_flight: InFlight) -> None:
        payload = in_flight.wire_request.payload
        if connection.channel is not None:
            payload = connection.channel.send(payload)
        if in_flight.sent_ns is None:
            in_flight.sent_ns = monotonic_ns()
        self._send_bytes(connection, payload)
        self._follow(connection, in_flight)

    def _send_bytes(self, connection: Connection, data: bytes) -> None:
        """Send what the socket takes now, and the rest once it is writable."""
        waiting = bytes(connection.unsent) if connection.unsent else b""
        connection.unsent = memoryview(waiting + data if waiting else data)
        self._flush(connection)

    def _flush(self, connection: Connection) -> None:
        try:
            while connection.unsent:
                connection.unsent = connection.unsent[connection.sock.send(connection.unsent) :]
        except BlockingIOError:
            if not connection.awaits_writable:
                connection.awaits_writable = True
                self._poller.modify(connection.fd, READ | WRITE)
            return
        except OSError:
            # The server may have answered before it closed: the answer is read first, and that read finds the end.
            connection.unsent = memoryview(b"")
        if connection.awaits_writable:
            connection.awaits_writable = False
            self._poller.modify(connection.fd, READ)

    def _on_answer_complete(self, connection: Connection, in_flight: InFlight) -> None:
        if in_flight.is_timeout and connection.served and in_flight.resent == 0:
            self._send_again(connection, in_flight)  # the 408 was sent before the request came (RFC 9110, 15.5.9)
            return
        self.end(connection, "complete")
        if in_flight.keep_alive and not connection.unsent:
            connection.served += 1
            self.idle.append(connection)
        else:
            self.drop(connection)

    def end(self, connection: Connection, outcome: WireOutcome, error: str = "") -> None:
        """End the request on `connection` and put it into `completed`."""
        in_flight = cast("InFlight", connection.in_flight)  # only called with a request under way
        self._unfollow(connection)
        in_flight.outcome, in_flight.error = outcome, error
        in_flight.done_ns, in_flight.connected_ns = monotonic_ns(), connection.connected_ns
        in_flight.steps, in_flight.offset_ns = self.clock_steps - in_flight.steps, self._wall_offset_ns
        # It and the request refer to each other: with the collector off, nothing would free them.
        in_flight.parser = None
        connection.in_flight = None
        self.completed.append(in_flight)
        self.under_way -= 1
        self.ended += 1

    def check_wall_clock(self) -> None:
        """Track the wall clock's offset. A jump counts as a step, which voids kernel stamps of requests under way."""
        offset_ns = wall_minus_monotonic_ns()
        if abs(offset_ns - self._wall_offset_ns) > STEP_NS:
            self.clock_steps += 1
        self._wall_offset_ns = offset_ns


def _is_closed(connection: Connection) -> bool:
    """Whether the end of an idle connection has arrived, or bytes that no request asked for (a 408, say)."""
    try:
        data = connection.sock.recv(1, socket.MSG_PEEK)
    except BlockingIOError:
        return False
    except OSError:
        return True
    return not data or connection.channel is None  # TLS sends bytes that are not an answer


def _was_closed_idle(connection: Connection, in_flight: InFlight) -> bool:
    """Whether the connection ended so soon after the sending that the server cannot have worked on the request."""
    if in_flight.raw or not connection.served or in_flight.sent_ns is None or connection.connected_ns is None:
        return False
    handshake_ns = connection.connected_ns - connection.opened_ns
    return monotonic_ns() - in_flight.sent_ns <= _IDLE_CLOSE_NS + handshake_ns


def _resolve(target: Target) -> tuple[int, Any]:
    """Address family and address as sockets take it; IPv4 first where a name has both: most servers listen there."""
    where = target.connect_to
    if not isinstance(where, Tcp):
        return socket.AF_UNIX, where.path
    found = socket.getaddrinfo(where.host, where.port, type=socket.SOCK_STREAM)
    found.sort(key=lambda entry: entry[0] != socket.AF_INET)
    family, _, _, _, address = found[0]
    return family, address
