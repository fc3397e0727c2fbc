"""Waiting for sockets until an exact time: epoll on Linux, `selectors` elsewhere."""

import select
import selectors
import sys
import time
from typing import Protocol

READ = 1
WRITE = 2

_LAST_NS = 120_000
"""A sleeping thread wakes 50 to 150 µs late, so the loop polls without sleeping for this long before the due time."""
_PRECISE_NS = 3_000_000
_MARGIN_NS = 2_000_000


class Poller(Protocol):
    """Watches descriptors for READ and WRITE. `wait` returns (descriptor, mask) pairs; an error or hang-up is both."""

    def register(self, fd: int, mask: int) -> None: ...

    def modify(self, fd: int, mask: int) -> None: ...

    def unregister(self, fd: int) -> None: ...

    def wait(self, timeout_ns: int) -> list[tuple[int, int]]: ...

    def close(self) -> None: ...

    @property
    def fd(self) -> int | None:
        """The descriptor of an epoll; None for anything else."""
        ...


class EpollPoller:
    """epoll. Its own timeout counts whole milliseconds. The last milliseconds before a due time are waited for by
    select() on the epoll descriptor, which counts microseconds, and the last 0.12 ms by polling repeatedly: that costs
    little CPU time at any rate that one loop can send. Unlike a timerfd this needs no system call per turn to set it,
    and no foreign function before Python 3.13."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self.fd: int | None = self._epoll.fileno()
        self._poll = self._epoll.poll

    def register(self, fd: int, mask: int) -> None:
        self._epoll.register(fd, _to_epoll(mask))

    def modify(self, fd: int, mask: int) -> None:
        self._epoll.modify(fd, _to_epoll(mask))

    def unregister(self, fd: int) -> None:
        self._epoll.unregister(fd)

    def wait(self, timeout_ns: int) -> list[tuple[int, int]]:
        if timeout_ns > _PRECISE_NS:
            return self._poll((timeout_ns - _MARGIN_NS) / 1e9)
        if timeout_ns <= 0:
            return self._poll(0)
        until_ns = time.monotonic_ns() + timeout_ns
        if timeout_ns > _LAST_NS:
            select.select((self._epoll,), (), (), (timeout_ns - _LAST_NS) / 1e9)
        events = self._poll(0)
        while not events and time.monotonic_ns() < until_ns:
            events = self._poll(0)
        return events

    def close(self) -> None:
        self._epoll.close()


class SelectorsPoller:
    """The best selector of the system: kqueue on macOS, whose timeout is in nanoseconds."""

    fd: int | None = None

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()

    def register(self, fd: int, mask: int) -> None:
        self._selector.register(fd, _to_selectors(mask))

    def modify(self, fd: int, mask: int) -> None:
        self._selector.modify(fd, _to_selectors(mask))

    def unregister(self, fd: int) -> None:
        self._selector.unregister(fd)

    def wait(self, timeout_ns: int) -> list[tuple[int, int]]:
        ready = self._selector.select(max(0, timeout_ns) / 1e9)
        return [(key.fd, _from_selectors(mask)) for key, mask in ready]

    def close(self) -> None:
        self._selector.close()


def poller() -> Poller:
    """The poller for this system."""
    return EpollPoller() if sys.platform == "linux" else SelectorsPoller()


if sys.platform == "linux":
    # EPOLLIN is 1, EPOLLOUT 4, an error 8, a hang-up 16: mapped when registering; results are used unmapped.
    _READ_BITS = select.EPOLLIN | select.EPOLLRDHUP
    WRITE_BITS = select.EPOLLOUT

    def _to_epoll(mask: int) -> int:
        return (_READ_BITS if mask & READ else 0) | (WRITE_BITS if mask & WRITE else 0)

else:
    WRITE_BITS = WRITE

    def _to_epoll(mask: int) -> int:
        return mask


def _to_selectors(mask: int) -> int:
    return (selectors.EVENT_READ if mask & READ else 0) | (selectors.EVENT_WRITE if mask & WRITE else 0)


def _from_selectors(mask: int) -> int:
    return (READ if mask & selectors.EVENT_READ else 0) | (WRITE_BITS if mask & selectors.EVENT_WRITE else 0)
