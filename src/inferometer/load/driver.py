"""When does each byte leave and arrive? The timed path: wait, send, receive, stamp, keep the bytes; decode nothing.

One event loop over non-blocking sockets. Requests come as ready bytes, connections are opened before the clock starts,
and what arrives is kept as it came: its meaning is found out later, elsewhere. llhttp only says where a response ends.
"""

import array
import contextlib
import errno
import select
import socket
import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import cast

import httptools

from inferometer.load.wire import Exchange, Job, Shot, Tick, WireOutcome

_BUFFER_BYTES = 262_144
_TICK_NS = 200_000_000
_STALL_CHECK_NS = 100_000_000
_READ = select.EPOLLIN | select.EPOLLRDHUP
_WRITE = select.EPOLLOUT

monotonic_ns = time.monotonic_ns


class _Connection:
    """One socket and the request on it, if any. llhttp calls the `on_…` methods."""

    __slots__ = (
        "connected_ns",
        "due_ns",
        "fd",
        "finished",
        "keep_alive",
        "opened_ns",
        "parser",
        "reads",
        "resent",
        "sent_ns",
        "served",
        "shot",
        "sock",
        "stamps",
        "unsent",
    )

    def __init__(self, sock: socket.socket, now_ns: int) -> None:
        self.sock = sock
        self.fd = sock.fileno()
        self.opened_ns = now_ns
        self.connected_ns: int | None = None
        self.served = 0
        self.shot: Shot | None = None
        self.due_ns: int | None = None
        self.sent_ns: int | None = None
        self.unsent: memoryview | None = None
        self.resent = 0
        self.finished = False
        self.keep_alive = False
        self.parser = httptools.HttpResponseParser(self)
        self.reads: list[bytes] = []
        self.stamps = array.array("q")

    def on_message_complete(self) -> None:
        if self.parser.get_status_code() >= 200:  # 100 Continue is only a word before the answer
            self.finished = True
            self.keep_alive = self.parser.should_keep_alive()  # llhttp knows it only in this moment


class Driver:
    """Plays the shots of a job against its address and hands each exchange to `deliver` as it ends.

    `keep_going` is asked in every turn of the loop; once it says no, what is under way is cancelled.
    """

    def __init__(
        self,
        job: Job,
        deliver: Callable[[Exchange], None],
        tick: Callable[[Tick], None],
        poll_outside: Callable[[int], None],
        outside_fds: Iterable[int],
    ) -> None:
        self._job = job
        self._deliver = deliver
        self._tick = tick
        self._poll_outside = poll_outside
        self._epoll = select.epoll()
        self._epoll_fd = self._epoll.fileno()
        self._outside = set(outside_fds)
        for fd in self._outside:
            self._epoll.register(fd, select.EPOLLIN)
        self._family, self._address = _resolve(job.host, job.port)
        self._connections: dict[int, _Connection] = {}
        self._idle: list[_Connection] = []
        self._buffer = bytearray(_BUFFER_BYTES)
        self._view = memoryview(self._buffer)
        self._in_flight = 0
        self._ended = 0
        self._reads = 0
        self._may_open_spare = True
        self.stopped = False
        self.worst_lateness_ns = 0

    def watch_writable(self, fd: int, wanted: bool) -> None:
        """Whether `poll_outside` is to be called when the pipe `fd` has room."""
        if wanted and fd not in self._outside:
            self._outside.add(fd)
            self._epoll.register(fd, _WRITE)
        elif not wanted and fd in self._outside:
            self._outside.discard(fd)
            self._epoll.unregister(fd)

    def open_connections(self, count: int) -> None:
        """Opens up to `count` connections and waits until they stand; fewer where the server takes no more."""
        for _ in range(count - len(self._idle)):
            self._idle.append(self._connect())
        deadline_ns = monotonic_ns() + int(self._job.connect_timeout_s * 1e9)
        while any(connection.connected_ns is None for connection in self._idle) and not self.stopped:
            if monotonic_ns() > deadline_ns:
                break
            self._turn(monotonic_ns() + 10_000_000)

    def play(self, shots: tuple[Shot, ...], start_ns: int, concurrency: int | None) -> None:
        """Sends each shot when it is due (`start_ns` + its due time) and returns when all have ended."""
        waiting = deque(shots)
        limit = concurrency if concurrency is not None else len(shots)
        self._ended = 0
        next_tick_ns = next_check_ns = monotonic_ns()
        while (waiting or self._in_flight) and not self.stopped:
            now = monotonic_ns()
            while waiting and self._in_flight < limit:
                due = waiting[0].due_ns
                if start_ns + (due or 0) > now:
                    break
                self._send(waiting.popleft(), None if due is None else start_ns + due)
                now = monotonic_ns()
            wake_ns = min(next_tick_ns, next_check_ns)
            if waiting and self._in_flight < limit:
                wake_ns = min(wake_ns, start_ns + (waiting[0].due_ns or 0))
                if waiting[0].due_ns is not None and not self._idle and self._may_open_spare:
                    self._may_open_spare = False  # one a request: a server that refuses must not be hammered
                    self._idle.append(self._connect())  # so that no due request waits for a handshake
            self._turn(wake_ns)
            now = monotonic_ns()
            if now >= next_tick_ns:
                self._tick(Tick(self._in_flight, self._ended, self._reads))
                next_tick_ns = now + _TICK_NS
            if now >= next_check_ns:
                self._check_timeouts(now)
                next_check_ns = now + _STALL_CHECK_NS
        if self.stopped:
            self._cancel(waiting, start_ns)

    def close(self) -> None:
        for connection in self._connections.values():
            connection.sock.close()
        self._connections.clear()
        self._epoll.close()

    # --- one turn of the loop ---------------------------------------------------------------------

    def _turn(self, wake_ns: int) -> None:
        """Waits for bytes until `wake_ns` and takes in all that came."""
        wait_ns = wake_ns - monotonic_ns()
        if wait_ns <= 0:
            events = self._epoll.poll(0)
        elif wait_ns < 3_000_000:
            # epoll's own timeout counts whole milliseconds; select on the epoll descriptor counts microseconds.
            select.select([self._epoll_fd], (), (), wait_ns / 1e9)
            events = self._epoll.poll(0)
        else:
            events = self._epoll.poll((wait_ns - 2_000_000) / 1e9)
        connections = self._connections
        for fd, mask in events:
            connection = connections.get(fd)
            if connection is not None:
                self._on_event(connection, mask)
            elif fd in self._outside:
                self._poll_outside(fd)

    def _on_event(self, connection: _Connection, mask: int) -> None:
        if mask & _WRITE and (connection.connected_ns is None or connection.unsent is not None):
            self._on_writable(connection)
            return
        try:
            count = connection.sock.recv_into(self._buffer)
        except BlockingIOError:
            return
        except OSError as error:
            self._lost(connection, error)
            return
        stamp = monotonic_ns()
        if count == 0:
            self._lost(connection, None)
            return
        data = bytes(self._view[:count])
        connection.reads.append(data)
        connection.stamps.append(stamp)
        self._reads += 1
        try:
            connection.parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._end(connection, "cut", f"not HTTP: {error}")
            self._drop(connection)
            return
        if connection.finished:
            unasked = connection.shot is None
            if not unasked:
                self._end(connection, "complete")
            if connection.keep_alive and not unasked:
                self._make_idle(connection)
            else:
                self._drop(connection)

    def _on_writable(self, connection: _Connection) -> None:
        if connection.connected_ns is None:
            code = connection.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if code:
                self._lost(connection, OSError(code, errno.errorcode.get(code, str(code))))
                return
            connection.connected_ns = monotonic_ns()
        if connection.shot is None:
            self._epoll.modify(connection.fd, _READ)
        elif connection.unsent is None:
            self._start_sending(connection)
        else:
            self._continue_sending(connection)

    # --- connections ------------------------------------------------------------------------------

    def _connect(self) -> _Connection:
        """A connection that is being opened; it stands when `connected_ns` is set."""
        sock = socket.socket(self._family, socket.SOCK_STREAM)
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection = _Connection(sock, monotonic_ns())
        with contextlib.suppress(BlockingIOError, ConnectionRefusedError):
            sock.connect(self._address)
        self._connections[connection.fd] = connection
        self._epoll.register(connection.fd, _WRITE | select.EPOLLRDHUP)
        return connection

    def _drop(self, connection: _Connection) -> None:
        if self._connections.pop(connection.fd, None) is not None:
            self._epoll.unregister(connection.fd)
        connection.sock.close()
        with contextlib.suppress(ValueError):
            self._idle.remove(connection)

    def _make_idle(self, connection: _Connection) -> None:
        connection.served += 1
        connection.finished = False
        connection.parser = httptools.HttpResponseParser(connection)
        self._idle.append(connection)

    def _lost(self, connection: _Connection, error: OSError | None) -> None:
        """The peer closed or broke the connection: silently if idle, again elsewhere if stale, else a failure."""
        shot = connection.shot
        if shot is None:
            self._drop(connection)
            return
        said = "" if error is None else str(error.strerror or error)
        stale = not connection.reads and connection.served > 0 and connection.resent == 0
        if stale:  # it was closed by the server while it lay idle; nothing of this request was answered
            self._drop(connection)
            fresh = self._connect()
            fresh.shot, fresh.due_ns, fresh.resent = shot, connection.due_ns, 1
            return
        if connection.connected_ns is None:
            outcome: WireOutcome = "refused"
        else:
            outcome = "eof" if error is None and connection.reads else "cut"
        self._end(connection, outcome, said or ("" if connection.reads else "the server closed without an answer"))
        self._drop(connection)

    # --- requests ---------------------------------------------------------------------------------

    def _send(self, shot: Shot, due_ns: int | None) -> None:
        connection = self._idle.pop() if self._idle else self._connect()
        connection.shot, connection.due_ns, connection.resent = shot, due_ns, 0
        connection.reads, connection.stamps = [], array.array("q")
        self._in_flight += 1
        self._may_open_spare = True
        if connection.connected_ns is not None:
            self._start_sending(connection)

    def _start_sending(self, connection: _Connection) -> None:
        shot = cast("Shot", connection.shot)  # set by every caller
        connection.unsent = memoryview(shot.payload)
        connection.sent_ns = monotonic_ns()
        if connection.due_ns is not None:
            self.worst_lateness_ns = max(self.worst_lateness_ns, connection.sent_ns - connection.due_ns)
        self._continue_sending(connection)

    def _continue_sending(self, connection: _Connection) -> None:
        unsent = cast("memoryview", connection.unsent)  # set by _start_sending
        try:
            sent = connection.sock.send(unsent)
        except BlockingIOError:
            sent = 0
        except OSError as error:
            self._lost(connection, error)
            return
        if sent < len(unsent):
            connection.unsent = unsent[sent:]
            self._epoll.modify(connection.fd, _READ | _WRITE)
            return
        connection.unsent = None
        self._epoll.modify(connection.fd, _READ)

    def _end(self, connection: _Connection, outcome: WireOutcome, error: str = "") -> None:
        """Hands over what came of the request and frees the connection of it."""
        shot = cast("Shot", connection.shot)  # only called with a request under way
        done_ns = connection.stamps[-1] if outcome == "complete" else monotonic_ns()
        self._deliver(
            Exchange(
                index=shot.index,
                outcome=outcome,
                due_ns=connection.due_ns,
                connected_ns=connection.connected_ns,
                sent_ns=connection.sent_ns,
                done_ns=done_ns,
                raw=b"".join(connection.reads),
                lengths=array.array("I", map(len, connection.reads)).tobytes(),
                stamps=connection.stamps.tobytes(),
                resent=connection.resent,
                error=error,
            )
        )
        connection.shot, connection.sent_ns, connection.unsent = None, None, None
        connection.reads = []
        self._in_flight -= 1
        self._ended += 1

    def _check_timeouts(self, now_ns: int) -> None:
        for connection in list(self._connections.values()):
            if connection.shot is None:
                continue
            if connection.connected_ns is None:
                limit_s, since_ns, what = self._job.connect_timeout_s, connection.opened_ns, "to connect"
            else:
                limit_s, since_ns, what = self._job.request_timeout_s, connection.sent_ns or now_ns, "for the answer"
            if now_ns - since_ns > limit_s * 1e9:
                self._end(connection, "timeout", f"waited {limit_s:g} s {what}")
                self._drop(connection)

    def _cancel(self, waiting: Iterable[Shot], start_ns: int) -> None:
        """What is under way and what was never sent end as `cancelled`: no request may just vanish."""
        for connection in list(self._connections.values()):
            if connection.shot is not None:
                self._end(connection, "cancelled")
                self._drop(connection)
        for shot in waiting:
            due_ns = None if shot.due_ns is None else start_ns + shot.due_ns
            self._deliver(Exchange(shot.index, "cancelled", due_ns, None, None, monotonic_ns()))


def _resolve(host: str, port: int) -> tuple[int, tuple[str, int]]:
    """Address family and numeric address; IPv4 first where a name has both, as servers on `localhost` listen there."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    found.sort(key=lambda entry: entry[0] != socket.AF_INET)
    family, _, _, _, address = found[0]
    return family, cast("tuple[str, int]", address)
