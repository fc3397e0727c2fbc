"""The schedule loop of a load worker: sends each request when it is due and hands over the answers' bytes.

The timed path waits, sends, receives, stamps and stores bytes. It decodes nothing: requests come as ready bytes, the
connections are opened before the clock starts, and answers leave as they arrived. One event loop over non-blocking
sockets does all of it.
"""

import re
from collections import deque
from collections.abc import Callable, Iterable

from inferometer.load.connections import Connections, monotonic_ns
from inferometer.load.timeouts import expired_timeout
from inferometer.load.wire import Exchange, Job, Tick, WireRequest

_TICK_NS = 200_000_000
_OPEN_LIMIT_S = 10.0  # for connections that are opened ahead, if no timeout is set
_PAUSE_NS = 1_000_000
_BUSY_READS_PER_S = 4_000
"""Above this rate the loop pauses `_PAUSE_NS` between two polls of its sockets: where the kernel stamps what arrives,
waking for every chunk costs twice what reading it does and improves nothing."""


class Driver:
    """Plays the requests of a job against its target and hands each exchange to `deliver` as it ends.

    `poll_outside` is called when one of `outside_fds` can be read (or written, see `watch_writable`). Once `stopped` is
    set, the requests under way are cancelled.
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
        self._deliver = deliver
        self._tick = tick
        self._timeouts = job.timeouts
        self._watches_tokens = job.timeouts.first_token_s is not None or job.timeouts.between_tokens_s is not None
        self._output_pattern = re.compile(job.output_pattern)
        self._connections = Connections(job, poll_outside, outside_fds, kernel_stamps)
        self.stopped = False

    @property
    def clock_steps(self) -> int:
        """How often the wall clock was set."""
        return self._connections.clock_steps

    def watch_writable(self, fd: int, wanted: bool) -> None:
        """Choose whether `poll_outside` is called when the pipe `fd` can be written."""
        self._connections.watch_writable(fd, wanted)

    def open_connections(self, count: int) -> None:
        """Open up to `count` connections and wait until they are open; fewer if the server accepts no more."""
        connections = self._connections
        for _ in range(count - len(connections.idle)):
            connections.idle.append(connections.connect())
        deadline_ns = monotonic_ns() + int((self._timeouts.connect_s or _OPEN_LIMIT_S) * 1e9)
        while any(connection.connected_ns is None for connection in connections.idle) and not self.stopped:
            if monotonic_ns() > deadline_ns:
                break
            connections.poll_once(monotonic_ns() + 10_000_000)

    def drop_closed(self) -> None:
        """Find the idle connections that the server has closed, so that no request is sent on one."""
        self._connections.poll_once(monotonic_ns())

    def drop_idle(self) -> None:
        """Close the connections without a request."""
        for connection in tuple(self._connections.idle):
            self._connections.drop(connection)

    def play(self, requests: tuple[WireRequest, ...], start_ns: int, concurrency: int | None) -> None:
        """Send each request when it is due (`start_ns` + its due time) and return when all have ended."""
        connections, completed = self._connections, self._connections.completed
        waiting = deque(requests)
        limit = concurrency if concurrency is not None else len(requests)
        connections.ended = 0
        may_open_spare = True
        next_tick_ns = monotonic_ns()
        reads_before, ticked_ns = connections.reads, next_tick_ns
        while (waiting or connections.under_way) and not self.stopped:
            now = monotonic_ns()
            while waiting and connections.under_way < limit:
                due = waiting[0].due_ns
                if start_ns + (due or 0) > now:
                    break
                connections.send(waiting.popleft(), None if due is None else start_ns + due)
                may_open_spare = True
                now = monotonic_ns()
            if completed:  # one a turn: sending and reading come first
                self._deliver(completed.popleft().exchange())
            wake_ns = next_tick_ns
            if waiting and connections.under_way < limit:
                wake_ns = min(wake_ns, start_ns + (waiting[0].due_ns or 0))
                if waiting[0].due_ns is not None and not connections.idle and may_open_spare:
                    may_open_spare = False  # one per request: a server that refuses must not be hammered
                    connections.idle.append(connections.connect())  # so that no due request waits for a handshake
            connections.poll_once(now if completed else wake_ns)
            now = monotonic_ns()
            if now >= next_tick_ns:
                self._housekeep(now, connections.reads - reads_before, now - ticked_ns)
                reads_before, ticked_ns, next_tick_ns = connections.reads, now, now + _TICK_NS
        if self.stopped:
            self._cancel(waiting, start_ns)
        while completed:
            self._deliver(completed.popleft().exchange())

    def close(self) -> None:
        self._connections.close()

    def _housekeep(self, now: int, new_reads: int, since_ns: int) -> None:
        """What is done several times a second: the tick, timeouts, the wall clock, and the choice to pause."""
        connections = self._connections
        self._tick(Tick(connections.under_way, connections.ended, connections.reads))
        self._check_timeouts(now)
        connections.check_wall_clock()
        busy = new_reads * 1e9 > _BUSY_READS_PER_S * max(1, since_ns)
        connections.pause_ns = _PAUSE_NS if busy and connections.stamps else 0

    def _check_timeouts(self, now_ns: int) -> None:
        """Looks at the answers that were quiet since the last tick: one that ended inside a read, or stalls, is quiet.
        To look at all of them at each tick would stop the reading for longer than a token takes."""
        connections = self._connections
        for connection, in_flight in connections.with_request(now_ns - (0 if self._watches_tokens else _TICK_NS)):
            if connections.ended_between_reads(connection, in_flight):
                continue
            if self._watches_tokens and (read_ns := in_flight.last_read_ns) is not None:
                in_flight.tokens.update(self._output_pattern, in_flight.raw, read_ns)
            expired = expired_timeout(
                self._timeouts,
                now_ns,
                connection.opened_ns,
                connection.connected_ns is not None,
                in_flight.sent_ns,
                in_flight.tokens.last_ns,
            )
            if expired:
                connections.end(connection, "timeout", expired)
                connections.drop(connection)

    def _cancel(self, waiting: Iterable[WireRequest], start_ns: int) -> None:
        """End requests under way and requests not yet sent as `cancelled`: every request gets an outcome."""
        connections = self._connections
        connections.find_ends()
        for connection, _ in connections.with_request(monotonic_ns()):
            connections.end(connection, "cancelled")
            connections.drop(connection)
        for one in waiting:
            due_ns = None if one.due_ns is None else start_ns + one.due_ns
            self._deliver(Exchange(one.index, "cancelled", due_ns, None, None, monotonic_ns()))
