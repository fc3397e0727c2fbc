"""When does each byte leave and arrive? The timed path: wait, send, receive, stamp, keep the bytes; decode nothing.

One event loop over non-blocking sockets. Requests come as ready bytes, connections are opened before the clock starts,
and what arrives is kept as it came: its meaning is found out later, elsewhere. llhttp only says where a response ends.
"""

import array
import contextlib
import errno
import os
import re
import socket
import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, cast

import httptools

from inferometer.base.units import bytes_text
from inferometer.load.channel import Channel, ChannelFailed, Channels
from inferometer.load.kernel_stamps import (
    ANCILLARY_BYTES,
    NO_STAMP,
    STAMP_BYTES,
    STEP_NS,
    enable,
    wall_minus_monotonic_ns,
)
from inferometer.load.polling import READ, WRITE, WRITE_BITS, poller
from inferometer.load.timeouts import TokenWatch, too_long
from inferometer.load.wire import Exchange, Job, Tick, WireOutcome, WireRequest
from inferometer.net.target import Target, Tcp

_BUFFER_BYTES = 262_144
_TICK_NS = 200_000_000
_STAND_S = 10.0  # for connections that are opened ahead, where nothing limits the wait
_REST_NS = 1_000_000
_BUSY_READS_PER_S = 4_000
"""Above this the loop rests `_REST_NS` between two looks at its sockets: where the kernel stamps what arrives, waking
for every chunk costs twice what reading it does and improves nothing."""

monotonic_ns = time.monotonic_ns


class InFlight:
    """A request under way and what has come of it so far. llhttp calls the `on_…` method."""

    __slots__ = (
        "connected_ns",
        "done_ns",
        "due_ns",
        "error",
        "fed",
        "finished",
        "in_chunks",
        "in_head",
        "keep_alive",
        "kernel",
        "lengths",
        "offset_ns",
        "outcome",
        "parser",
        "raw",
        "read_ns",
        "resent",
        "sent_ns",
        "shot",
        "steps",
        "tokens",
    )

    def __init__(self, shot: WireRequest, due_ns: int | None, steps: int) -> None:
        self.shot = shot
        self.due_ns = due_ns
        self.steps = steps  # of the wall clock, before it was sent; after its end: while it was under way
        self.offset_ns = 0
        self.connected_ns: int | None = None
        self.sent_ns: int | None = None
        self.done_ns = 0
        self.outcome: WireOutcome = "cancelled"
        self.error = ""
        self.resent = 0
        self.finished = False
        self.in_chunks = False
        self.in_head = True
        self.keep_alive = False
        self.fed = 0
        self.parser = httptools.HttpResponseParser(self)
        self.raw = bytearray()
        self.lengths = array.array("I")
        self.read_ns = array.array("q")
        self.kernel = bytearray()
        self.tokens = TokenWatch()

    def feed(self) -> None:
        """Shows the parser what it has not seen. Raises HttpParserError."""
        fed, self.fed = self.fed, len(self.raw)
        self.parser.feed_data(bytes(memoryview(self.raw)[fed:]))

    def on_header(self, name: bytes, value: bytes) -> None:
        if name.lower() == b"transfer-encoding":
            self.in_chunks = b"chunked" in value.lower()

    def on_headers_complete(self) -> None:
        self.in_head = self.parser.get_status_code() < 200

    def on_message_complete(self) -> None:
        if self.parser.get_status_code() >= 200:  # 100 Continue is only a word before the answer
            self.finished = True
            self.keep_alive = self.parser.should_keep_alive()  # llhttp knows it only in this moment

    def exchange(self) -> Exchange:
        return Exchange(
            index=self.shot.index,
            outcome=self.outcome,
            due_ns=self.due_ns,
            connected_ns=self.connected_ns,
            sent_ns=self.sent_ns,
            done_ns=self.done_ns,
            raw=bytes(self.raw),
            lengths=self.lengths.tobytes(),
            read_ns=self.read_ns.tobytes(),
            kernel=bytes(self.kernel),
            wall_offset_ns=self.offset_ns,
            clock_stepped=self.steps > 0,
            resent=self.resent,
            error=self.error,
        )


class _Connection:
    """One socket and the request on it, if any."""

    __slots__ = ("channel", "connected_ns", "fd", "flight", "opened_ns", "served", "sock", "unsent", "waits_for_room")

    def __init__(self, sock: socket.socket, channel: Channel | None, now_ns: int) -> None:
        self.sock = sock
        self.fd = sock.fileno()
        self.channel = channel
        self.opened_ns = now_ns
        self.connected_ns: int | None = None
        self.flight: InFlight | None = None
        self.served = 0
        self.unsent = memoryview(b"")
        self.waits_for_room = True  # a new socket is watched for being connected


class Driver:
    """Plays the shots of a job against its target and hands each exchange to `deliver` as it ends.

    `poll_outside` is called when one of `outside_fds` can be read (or written, see `watch_writable`). Once `stopped` is
    set, what is under way is cancelled.
    """

    def __init__(
        self,
        job: Job,
        deliver: Callable[[Exchange], None],
        tick: Callable[[Tick], None],
        poll_outside: Callable[[int], None],
        outside_fds: Iterable[int],
        kernel_stamps: bool,
    ) -> None:
        self._job = job
        self._most_answer_bytes = job.most_answer_bytes
        self._deliver = deliver
        self._tick = tick
        self._poll_outside = poll_outside
        self._poller = poller()
        self._outside = set(outside_fds)
        for fd in self._outside:
            self._poller.register(fd, READ)
        self._channels = Channels(job.target)
        self._limits = job.timeouts
        self._watches_tokens = job.timeouts.first_token_s is not None or job.timeouts.between_tokens_s is not None
        self._output = re.compile(job.output_pattern)
        self._family, self._address = _resolve(job.target)
        self._connections: dict[int, _Connection] = {}
        self._idle: list[_Connection] = []
        self._refused: list[tuple[_Connection, OSError]] = []  # refused at once, as Unix sockets do
        self._buffer = bytearray(_BUFFER_BYTES)
        self._view = memoryview(self._buffer)
        self._stamps = kernel_stamps and isinstance(job.target.connect_to, Tcp)
        self._wall_offset_ns = wall_minus_monotonic_ns()
        self._landed: deque[InFlight] = deque()
        self._in_flight = 0
        self._ended = 0
        self._reads = 0
        self._may_open_spare = True
        self._rest_ns = 0
        self._looked_ns = 0
        self.clock_steps = 0
        self.stopped = False

    def watch_writable(self, fd: int, wanted: bool) -> None:
        """Whether `poll_outside` is to be called when the pipe `fd` has room."""
        if wanted and fd not in self._outside:
            self._outside.add(fd)
            self._poller.register(fd, WRITE)
        elif not wanted and fd in self._outside:
            self._outside.discard(fd)
            self._poller.unregister(fd)

    def open_connections(self, count: int) -> None:
        """Opens up to `count` connections and waits until they stand; fewer where the server takes no more."""
        for _ in range(count - len(self._idle)):
            self._idle.append(self._connect())
        deadline_ns = monotonic_ns() + int((self._limits.connect_s or _STAND_S) * 1e9)
        while any(connection.connected_ns is None for connection in self._idle) and not self.stopped:
            if monotonic_ns() > deadline_ns:
                break
            self._turn(monotonic_ns() + 10_000_000)

    def play(self, shots: tuple[WireRequest, ...], start_ns: int, concurrency: int | None) -> None:
        """Sends each shot when it is due (`start_ns` + its due time) and returns when all have ended."""
        waiting = deque(shots)
        limit = concurrency if concurrency is not None else len(shots)
        self._ended = 0
        next_tick_ns = monotonic_ns()
        reads_before, ticked_ns = self._reads, next_tick_ns
        while (waiting or self._in_flight) and not self.stopped:
            now = monotonic_ns()
            while waiting and self._in_flight < limit:
                due = waiting[0].due_ns
                if start_ns + (due or 0) > now:
                    break
                self._send(waiting.popleft(), None if due is None else start_ns + due)
                now = monotonic_ns()
            if self._landed:  # one a turn: what is due and what arrives comes first
                self._deliver(self._landed.popleft().exchange())
            wake_ns = next_tick_ns
            if waiting and self._in_flight < limit:
                wake_ns = min(wake_ns, start_ns + (waiting[0].due_ns or 0))
                if waiting[0].due_ns is not None and not self._idle and self._may_open_spare:
                    self._may_open_spare = False  # one a request: a server that refuses must not be hammered
                    self._idle.append(self._connect())  # so that no due request waits for a handshake
            self._turn(now if self._landed else wake_ns)
            now = monotonic_ns()
            if now >= next_tick_ns:
                self._tick(Tick(self._in_flight, self._ended, self._reads))
                self._check_timeouts(now)
                self._check_wall_clock()
                busy = (self._reads - reads_before) * 1e9 > _BUSY_READS_PER_S * max(1, now - ticked_ns)
                self._rest_ns = _REST_NS if busy and self._stamps else 0
                reads_before, ticked_ns, next_tick_ns = self._reads, now, now + _TICK_NS
        if self.stopped:
            self._cancel(waiting, start_ns)
        while self._landed:
            self._deliver(self._landed.popleft().exchange())

    def close(self) -> None:
        for connection in self._connections.values():
            connection.sock.close()
        self._connections.clear()
        self._poller.close()

    # --- one turn of the loop ---------------------------------------------------------------------

    def _turn(self, wake_ns: int) -> None:
        """Waits for bytes until `wake_ns` and takes in all that came."""
        while self._refused:
            self._lost(*self._refused.pop())
        now = monotonic_ns()
        if self._rest_ns:
            rest_ns = min(self._looked_ns + self._rest_ns, wake_ns) - now
            if rest_ns > 0:
                time.sleep(rest_ns / 1e9)
                now = monotonic_ns()
            self._looked_ns = now
        connections = self._connections
        buffer, view, stamps = self._buffer, self._view, self._stamps
        buffers = (buffer,)
        for fd, mask in self._poller.wait(wake_ns - now):
            connection = connections.get(fd)
            if connection is None:
                if fd in self._outside:
                    self._poll_outside(fd)
                continue
            if mask & WRITE_BITS and connection.waits_for_room:
                self._on_writable(connection)
                if not mask & READ or fd not in connections:
                    continue
            try:
                if stamps:
                    count, ancillary, _, _ = connection.sock.recvmsg_into(buffers, ANCILLARY_BYTES)
                else:
                    count, ancillary = connection.sock.recv_into(buffer), ()
            except BlockingIOError:
                continue
            except OSError as error:
                self._lost(connection, error)
                continue
            read_ns = monotonic_ns()
            if count == 0:
                self._lost(connection, None)
                continue
            data = view[:count]
            if connection.channel is not None:
                data = self._deciphered(connection, data)
                if not data:
                    continue
            flight = connection.flight
            if flight is None:  # nobody asked
                self._drop(connection)
                continue
            flight.raw += data
            flight.lengths.append(len(data))
            flight.read_ns.append(read_ns)
            if stamps:
                flight.kernel += ancillary[0][2][:STAMP_BYTES] if ancillary else NO_STAMP
            self._reads += 1
            if len(flight.raw) > self._most_answer_bytes:
                self._too_large(connection, f"its answer is larger than {bytes_text(self._most_answer_bytes)}")
                continue
            # In chunks, an answer ends where a read ends with an empty line: only then is the parser fed, all at once.
            if flight.in_chunks and not flight.raw.endswith(b"\r\n\r\n"):
                continue
            try:
                flight.feed()
            except httptools.HttpParserError as error:
                self._broken(connection, f"not HTTP: {error}")
                continue
            if flight.finished:
                self._answered(connection, flight)
            elif flight.in_head and len(flight.raw) > self._job.most_head_bytes:
                self._too_large(connection, f"the headers are larger than {bytes_text(self._job.most_head_bytes)}")
            elif connection.channel is not None and connection.channel.closed:
                self._lost(connection, None)

    def _on_writable(self, connection: _Connection) -> None:
        if connection.unsent:
            self._flush(connection)
            return
        code = connection.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code:
            self._lost(connection, OSError(code, os.strerror(code)))
            return
        connection.waits_for_room = False
        self._poller.modify(connection.fd, READ)
        if connection.channel is None:
            self._stands(connection)
            return
        try:
            self._put(connection, connection.channel.start())
        except ChannelFailed as error:
            self._broken(connection, str(error))

    def _deciphered(self, connection: _Connection, data: memoryview) -> memoryview:
        """The plaintext in what came; empty where there is none, or where the connection is gone by now."""
        channel = cast("Channel", connection.channel)
        try:
            plaintext = channel.receive(data)
        except ChannelFailed as error:
            with contextlib.suppress(OSError):
                connection.sock.send(channel.pending_out())
            self._broken(connection, str(error))
            return memoryview(b"")
        pending = channel.pending_out()
        if pending:
            self._put(connection, pending)
        if channel.ready and connection.connected_ns is None:
            self._stands(connection)
        if channel.closed and not plaintext:
            self._lost(connection, None)
        return memoryview(plaintext)

    def _answered(self, connection: _Connection, flight: InFlight) -> None:
        self._end(connection, "complete")
        if flight.keep_alive and not connection.unsent:
            connection.served += 1
            self._idle.append(connection)
        else:
            self._drop(connection)

    # --- connections ------------------------------------------------------------------------------

    def _connect(self) -> _Connection:
        """A connection that is being opened; it stands when `connected_ns` is set."""
        sock = socket.socket(self._family, socket.SOCK_STREAM)
        sock.setblocking(False)
        if self._family != getattr(socket, "AF_UNIX", None):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self._stamps:
            enable(sock)
        connection = _Connection(sock, self._channels.open(), monotonic_ns())
        code = sock.connect_ex(self._address)
        self._connections[connection.fd] = connection
        self._poller.register(connection.fd, WRITE)
        if code not in (0, errno.EINPROGRESS):
            self._refused.append((connection, OSError(code, os.strerror(code))))
        return connection

    def _stands(self, connection: _Connection) -> None:
        connection.connected_ns = monotonic_ns()
        if connection.flight is not None:
            self._start_sending(connection, connection.flight)

    def _drop(self, connection: _Connection) -> None:
        if self._connections.pop(connection.fd, None) is not None:
            self._poller.unregister(connection.fd)
        connection.sock.close()
        with contextlib.suppress(ValueError):
            self._idle.remove(connection)

    def _broken(self, connection: _Connection, why: str) -> None:
        """The connection cannot be used any more."""
        if connection.flight is not None:
            self._end(connection, "cut" if connection.connected_ns is not None else "refused", why)
        self._drop(connection)

    def _too_large(self, connection: _Connection, why: str) -> None:
        """The server sends more than any answer has; what it goes on to send is not even read."""
        self._end(connection, "too_large", why)
        self._drop(connection)

    def _lost(self, connection: _Connection, error: OSError | None) -> None:
        """The peer closed or broke the connection: silently if idle, again elsewhere if stale, else a failure."""
        flight = connection.flight
        if flight is None:
            self._drop(connection)
            return
        stale = not flight.raw and connection.served > 0 and flight.resent == 0
        if stale:  # it was closed by the server while it lay idle; nothing of this request was answered
            self._drop(connection)
            flight.resent, flight.sent_ns = 1, None
            self._connect().flight = flight
            return
        said = "" if error is None else str(error.strerror or error)
        if connection.connected_ns is None:
            waiting_for = connection.channel.waiting_for if connection.channel is not None else ""
            outcome: WireOutcome = "refused"
            said = f"{said or 'the connection was closed'} during {waiting_for}" if waiting_for else said
        else:
            outcome = "eof" if error is None and flight.raw else "cut"
        self._end(connection, outcome, said or ("" if flight.raw else "the server closed without an answer"))
        self._drop(connection)

    # --- requests ---------------------------------------------------------------------------------

    def _send(self, shot: WireRequest, due_ns: int | None) -> None:
        connection = self._idle.pop() if self._idle else self._connect()
        flight = connection.flight = InFlight(shot, due_ns, self.clock_steps)
        self._in_flight += 1
        self._may_open_spare = True
        if connection.connected_ns is not None:
            self._start_sending(connection, flight)

    def _start_sending(self, connection: _Connection, flight: InFlight) -> None:
        payload = flight.shot.payload
        if connection.channel is not None:
            payload = connection.channel.send(payload)
        flight.sent_ns = monotonic_ns()
        self._put(connection, payload)

    def _put(self, connection: _Connection, data: bytes) -> None:
        """Sends now what the socket takes, the rest when it has room."""
        waiting = bytes(connection.unsent) if connection.unsent else b""
        connection.unsent = memoryview(waiting + data if waiting else data)
        self._flush(connection)

    def _flush(self, connection: _Connection) -> None:
        try:
            while connection.unsent:
                connection.unsent = connection.unsent[connection.sock.send(connection.unsent) :]
        except BlockingIOError:
            if not connection.waits_for_room:
                connection.waits_for_room = True
                self._poller.modify(connection.fd, READ | WRITE)
            return
        except OSError:
            # The server may have answered before it broke off: what it said is read first, and the end found then.
            connection.unsent = memoryview(b"")
        if connection.waits_for_room:
            connection.waits_for_room = False
            self._poller.modify(connection.fd, READ)

    def _end(self, connection: _Connection, outcome: WireOutcome, error: str = "") -> None:
        """The request on `connection` is over; what came of it is handed over when nothing else is due."""
        flight = cast("InFlight", connection.flight)  # only called with a request under way
        flight.outcome, flight.error = outcome, error
        flight.done_ns, flight.connected_ns = monotonic_ns(), connection.connected_ns
        flight.steps, flight.offset_ns = self.clock_steps - flight.steps, self._wall_offset_ns
        del flight.parser  # it holds the flight: a ring that nobody would collect, as the collector is off
        connection.flight = None
        self._landed.append(flight)
        self._in_flight -= 1
        self._ended += 1

    def _check_timeouts(self, now_ns: int) -> None:
        for connection in list(self._connections.values()):
            if connection.flight is None or self._ended_late(connection, connection.flight):
                continue
            flight, connected = connection.flight, connection.connected_ns is not None
            if self._watches_tokens and flight.read_ns:
                flight.tokens.look(self._output, flight.raw, flight.read_ns[-1])
            opened_ns = connection.opened_ns
            said = too_long(self._limits, now_ns, opened_ns, connected, flight.sent_ns, flight.tokens.last_ns)
            if said:
                self._end(connection, "timeout", said)
                self._drop(connection)

    def _ended_late(self, connection: _Connection, flight: InFlight) -> bool:
        """Whether an answer is over whose end was not a read's end: a server that goes on talking after it."""
        if flight.fed == len(flight.raw):
            return False
        try:
            flight.feed()
        except httptools.HttpParserError as error:
            self._broken(connection, f"not HTTP: {error}")
            return True
        if flight.finished:
            self._answered(connection, flight)
        return flight.finished

    def _check_wall_clock(self) -> None:
        """Follows the offset of the two clocks. A jump is a step; what is under way then has no valid kernel stamps."""
        offset_ns = wall_minus_monotonic_ns()
        if abs(offset_ns - self._wall_offset_ns) > STEP_NS:
            self.clock_steps += 1
        self._wall_offset_ns = offset_ns

    def _cancel(self, waiting: Iterable[WireRequest], start_ns: int) -> None:
        """What is under way and what was never sent end as `cancelled`: no request may just vanish."""
        for connection in list(self._connections.values()):
            if connection.flight is not None:
                self._end(connection, "cancelled")
                self._drop(connection)
        for shot in waiting:
            due_ns = None if shot.due_ns is None else start_ns + shot.due_ns
            self._deliver(Exchange(shot.index, "cancelled", due_ns, None, None, monotonic_ns()))


def _resolve(target: Target) -> tuple[int, Any]:
    """Address family and address as sockets take it; IPv4 first where a name has both: most servers listen there."""
    where = target.connect_to
    if not isinstance(where, Tcp):
        return socket.AF_UNIX, where.path
    found = socket.getaddrinfo(where.host, where.port, type=socket.SOCK_STREAM)
    found.sort(key=lambda entry: entry[0] != socket.AF_INET)
    family, _, _, _, address = found[0]
    return family, address
