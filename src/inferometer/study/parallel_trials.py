"""Parallel trials: each runs in its own thread, with one stream of progress and one Ctrl-C for all of them."""

import queue
import threading
from collections.abc import Iterator, Sequence
from typing import Generic, Protocol, TypeVar

from inferometer.study.interrupts import Interrupts

T_co = TypeVar("T_co", covariant=True)
_T = TypeVar("_T")

_POLL_S = 0.25
_GIVE_UP_AFTER_S = 10.0
"""After a second interrupt, for how long threads may still need to kill their engines. A thread that waits longer waits
for a server that is not ours."""


class ParallelTrial(Protocol[T_co]):
    """A trial that runs in a thread. When the user interrupts the study, `run` ends by itself with KeyboardInterrupt,
    and `stop_engine_on_interrupt`, called from another thread again and again, ends whatever `run` waits for."""

    def run(self) -> Iterator[T_co]: ...

    def stop_engine_on_interrupt(self) -> None: ...


def run_in_parallel(trials: Sequence[ParallelTrial[_T]], interrupts: Interrupts) -> Iterator[_T]:
    """The progress of all trials, as it arrives. Main thread only.

    After an interrupt all trials end, and KeyboardInterrupt is raised when the last one has ended. When a trial raises
    another error, the others run to their end, and then the error is raised.
    """
    arrived: queue.SimpleQueue[_T | _TrialThread[_T]] = queue.SimpleQueue()
    threads = [_TrialThread(trial, arrived) for trial in trials]
    with interrupts.holding_all():
        try:
            for thread in threads:
                thread.thread.start()
            yield from _progress_until_all_ended(threads, arrived, interrupts)
        except BaseException:  # nobody reads the progress any more
            interrupts.request()
            raise
        finally:
            _join(threads, interrupts)
    errors = [thread.error for thread in threads if thread.error is not None]
    errors.sort(key=lambda error: not isinstance(error, KeyboardInterrupt))
    interrupts.check()
    if errors:
        raise errors[0]


class _TrialThread(Generic[_T]):
    """Runs one trial in a thread; puts its progress into `arrived`, and itself when the trial has ended."""

    def __init__(self, trial: ParallelTrial[_T], arrived: "queue.SimpleQueue[_T | _TrialThread[_T]]") -> None:
        self.trial = trial
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.error: BaseException | None = None
        self._arrived = arrived

    def _run(self) -> None:
        try:
            for progress in self.trial.run():
                self._arrived.put(progress)
        except BaseException as error:  # noqa: BLE001 # it is raised in the main thread
            self.error = error
        self._arrived.put(self)


def _progress_until_all_ended(
    threads: Sequence[_TrialThread[_T]], arrived: "queue.SimpleQueue[_T | _TrialThread[_T]]", interrupts: Interrupts
) -> Iterator[_T]:
    running = len(threads)
    while running and interrupts.urgent_for_s < _GIVE_UP_AFTER_S:
        if interrupts.requested:
            _stop_engines(threads)
        try:
            one = arrived.get(timeout=_POLL_S)
        except queue.Empty:
            continue
        if isinstance(one, _TrialThread):
            running -= 1
        else:
            yield one


def _join(threads: Sequence[_TrialThread[_T]], interrupts: Interrupts) -> None:
    while any(thread.thread.is_alive() for thread in threads) and interrupts.urgent_for_s < _GIVE_UP_AFTER_S:
        if interrupts.requested:
            _stop_engines(threads)
        for thread in threads:
            thread.thread.join(_POLL_S)


def _stop_engines(threads: Sequence[_TrialThread[_T]]) -> None:
    for thread in threads:
        if thread.thread.is_alive():
            thread.trial.stop_engine_on_interrupt()
