"""How do several trials run at once? A thread each, one stream of progress, and one Ctrl-C for all of them."""

import contextlib
import ctypes
import queue
import signal
import threading
from collections.abc import Iterator, Sequence
from types import FrameType
from typing import Generic, Protocol, TypeVar

T_co = TypeVar("T_co", covariant=True)
_T = TypeVar("_T")

_LISTEN_S = 0.25
"""Between two looks for a signal: one that comes just before a wait is not heard in it."""


class TrialTask(Protocol[T_co]):
    """One that is played in a thread. `can_end`: it looks at `interrupts` itself and ends when there is one."""

    interrupts: list[int]
    can_end: bool

    def run(self) -> Iterator[T_co]: ...


def at_once(runs: Sequence[TrialTask[_T]]) -> Iterator[_T]:
    """What the runs yield, as it comes. Main thread only.

    The first Ctrl-C is noted for those that can end by themselves and raised in the others, the second is raised in
    all; it rises here when all have ended. What else one raises rises then too, the others being played to their end.
    """
    arrived: queue.SimpleQueue[_T | _Player[_T]] = queue.SimpleQueue()
    players = [_Player(run, arrived) for run in runs]
    with _interrupts_to(players):
        try:
            for player in players:
                player.thread.start()
            living = len(players)
            while living:
                try:
                    one = arrived.get(timeout=_LISTEN_S)
                except queue.Empty:
                    continue
                if isinstance(one, _Player):
                    living -= 1
                else:
                    yield one
        except BaseException:  # nobody listens any more
            for player in players:
                player.interrupt()
            raise
        finally:
            for player in players:
                player.thread.join()
    errors = sorted((p.error for p in players if p.error), key=lambda error: not isinstance(error, KeyboardInterrupt))
    if errors:
        raise errors[0]


class _Player(Generic[_T]):
    """Plays one run in its thread; puts itself into `arrived` when that is over."""

    def __init__(self, run: TrialTask[_T], arrived: "queue.SimpleQueue[_T | _Player[_T]]") -> None:
        self.thread = threading.Thread(target=self._play, daemon=True)
        self.error: BaseException | None = None
        self._run = run
        self._arrived = arrived

    def _play(self) -> None:
        try:
            for progress in self._run.run():
                self._arrived.put(progress)
        except BaseException as error:  # noqa: BLE001 # it is raised in the main thread
            self.error = error
        self._arrived.put(self)

    def interrupt(self) -> None:
        first = not self._run.interrupts
        self._run.interrupts.append(signal.SIGINT)
        if self.thread.ident is not None and not (first and self._run.can_end):
            kind, number = ctypes.py_object(KeyboardInterrupt), ctypes.c_ulong(self.thread.ident)
            ctypes.pythonapi.PyThreadState_SetAsyncExc(number, kind)


@contextlib.contextmanager
def _interrupts_to(players: Sequence[_Player[_T]]) -> Iterator[None]:
    """A Ctrl-C is each player's own, and not the main thread's, which waits for them."""

    def pass_on(number: int, frame: FrameType | None) -> None:
        for player in players:
            player.interrupt()

    before = signal.signal(signal.SIGINT, pass_on)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
