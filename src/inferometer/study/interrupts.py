"""Interrupts of a study: what Ctrl-C, and a signal that stands for it, does while a study runs.

Python delivers signals to the main thread. There, the first interrupt raises KeyboardInterrupt and the next one raises
SecondInterrupt, except where the code has asked to hold interrupts. A held interrupt is only counted. Code that holds
interrupts, and every other thread, looks at the count and ends by itself (`check`).
"""

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Literal

from inferometer.base.errors import Interrupted, SecondInterrupt

STOPPING_NOTICE = "interrupted: cancelling requests and keeping the results; Ctrl-C again stops at once"

_Held = Literal["none", "first", "all"]


class Interrupts:
    """The interrupts of one study. `announce` is called by the signal handler when an interrupt is about to be raised;
    a held interrupt is announced by the code that holds it."""

    def __init__(self, announce: Callable[[], None] | None = None) -> None:
        self.announce = announce
        self._count = 0
        self._urgent_since_s = 0.0
        self._held: _Held = "none"
        self._is_announced = False

    @property
    def requested(self) -> bool:
        """Whether the user has interrupted the study."""
        return self._count > 0

    @property
    def urgent(self) -> bool:
        """Whether the user has interrupted the study more than once: nothing is waited for any more."""
        return self._count > 1

    @property
    def urgent_for_s(self) -> float:
        """Seconds since the second interrupt; 0 where there was none."""
        return time.monotonic() - self._urgent_since_s if self.urgent else 0.0

    def request(self) -> None:
        """An interrupt without a signal, for threads whose results nobody reads any more."""
        self._count = max(1, self._count)

    def check(self) -> None:
        """Raises KeyboardInterrupt after one interrupt, SecondInterrupt after more. For code that holds interrupts and
        for threads."""
        if self.urgent:
            raise SecondInterrupt
        if self.requested:
            raise KeyboardInterrupt

    def first_to_announce(self) -> bool:
        """Whether the caller should show STOPPING_NOTICE: there is an interrupt, and nobody has announced it yet."""
        if not self.requested or self._is_announced:
            return False
        self._is_announced = True
        return True

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        """Handles SIGINT until the block ends. Does nothing outside the main thread, which cannot handle signals."""
        if not _in_main_thread():
            yield
            return
        before = signal.signal(signal.SIGINT, self._on_signal)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)

    def holding_first(self) -> contextlib.AbstractContextManager[None]:
        """Until the block ends, the first interrupt is only counted; the second one is raised."""
        return self._holding("first")

    def holding_all(self) -> contextlib.AbstractContextManager[None]:
        """Until the block ends, every interrupt is only counted."""
        return self._holding("all")

    @contextlib.contextmanager
    def _holding(self, held: _Held) -> Iterator[None]:
        if not _in_main_thread():
            yield
            return
        before, self._held = self._held, held
        try:
            yield
        finally:
            self._held = before

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self._count += 1
        if self._count == 2:
            self._urgent_since_s = time.monotonic()
        if self._held == "all" or (self._held == "first" and not self.urgent):
            return
        if self.announce is not None and self.first_to_announce():
            self.announce()
        self.check()


def treat_termination_as_interrupt() -> None:
    """From now on SIGTERM and SIGHUP act as Ctrl-C, so that engines end too. Ignored signals (nohup) stay ignored."""
    for name in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(name) != signal.SIG_IGN:
            signal.signal(name, _raise_interrupt)


def exit_at_next_interrupt() -> None:
    """From now on Ctrl-C ends the program at once. For the time after a study: its engines have ended and its results
    are stored, so nothing can be lost."""
    if _in_main_thread():
        signal.signal(signal.SIGINT, lambda number, frame: os._exit(Interrupted.exit_code))


def _raise_interrupt(number: int, frame: FrameType | None) -> None:
    """Works as Ctrl-C also where SIGINT is ignored, as in a program that a script starts in the background."""
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        raise KeyboardInterrupt
    signal.raise_signal(signal.SIGINT)


def _in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()
