"""An interleaved round: the engines of all arms run at once, and their requests take turns.

Each trial runs in its own thread, as parallel trials do. The engines start one after the other, because engines that
measure the free memory when they start would disturb each other, and because the first one shows whether all of them
fit. The load worker of the round (`load.interleaved`) begins when all of them are ready.
"""

import threading
from collections.abc import Iterator, Mapping, Sequence
from functools import partial

import msgspec

from inferometer.core import quantities
from inferometer.core.interleaving import block_length, block_orders
from inferometer.core.record import Fact
from inferometer.core.spec import Arm, Spec
from inferometer.load.interleaved import InterleavedLoad
from inferometer.probes.free_memory import FreeMemory, free_memory
from inferometer.study.engine_pool import engine_names
from inferometer.study.interrupts import Interrupts
from inferometer.study.memory_fit import why_too_little
from inferometer.study.parallel_trials import run_in_parallel
from inferometer.study.progress import EngineReady, FindingRaised, OrderChosen, Progress, TrialBegan
from inferometer.study.trial import RunningTrial, TrialTask

_POLL_S = 0.25
_WHOLE_PLAN = 1 << 30


class StudyOrder:
    """The order of a study's trials: `order` is "" as long as `auto` is undecided."""

    def __init__(self, spec: Spec, arms: Mapping[str, Arm], order: str = "", why: str = "") -> None:
        self.order = order
        self.why = why
        self._arms = arms
        self._asked = spec.order
        self._engine_names = engine_names(arms, keeps=spec.restart == "never")
        self._is_checked = False

    @property
    def may_interleave(self) -> bool:
        return self.order != "trials"

    @property
    def is_open(self) -> bool:
        """Whether the next engine that starts shows something about memory that is not known yet."""
        return not self._is_checked and self.order != "trials"

    def facts(self) -> list[Fact]:
        facts = [Fact(quantities.ORDER, self.order, "the study")]
        return [*facts, Fact(quantities.ORDER_WHY, self.why, "the study")] if self.why else facts

    def decide(
        self, first: str, before: Mapping[str, FreeMemory], after: Mapping[str, FreeMemory]
    ) -> Iterator[Progress]:
        """Decides `auto` by the memory that the engine of `first` took; warns where `requests` was asked for."""
        self._is_checked = True
        one_each = {self._engine_names[name]: arm for name, arm in self._arms.items()}
        too_little = why_too_little(self._engine_names[first], one_each, before, after)
        if self._asked == "requests":
            if too_little:
                yield FindingRaised(f"order: requests starts the engines of all arms, and {too_little}.")
        elif not self.order:
            self.order = "trials" if too_little else "requests"
            self.why = too_little or "the engines of all arms fit into memory at once"
            yield OrderChosen(self.order, self.why)


class InterleavedRound:
    """The trials of one round. `ended`, after `run`: the trials that began."""

    def __init__(self, tasks: Sequence[TrialTask], began: Sequence[TrialBegan], order: StudyOrder) -> None:
        self._tasks = tasks
        self._began = began
        self._order = order
        self._trials: list[_TurnTrial] = []

    @property
    def ended(self) -> list[RunningTrial]:
        return [one.trial for one in self._trials if one.trial is not None]

    def run(self) -> Iterator[Progress]:
        study = self._tasks[0].study
        arms = list(study.spec.arms)
        starts = _Starts(study.interrupts)
        orders = block_orders(len(arms), self._tasks[0].number)
        with InterleavedLoad(len(arms)) as load:
            if self._order.order:
                load.configure(orders, block_length(study.spec))
            for absent in set(range(len(arms))) - {arms.index(task.arm_name) for task in self._tasks}:
                load.give_up(absent)  # its engine did not start in an earlier round
            for place, (task, began) in enumerate(zip(self._tasks, self._began, strict=True)):
                lane = _Lane(load, arms.index(task.arm_name), orders, block_length(study.spec))
                task = msgspec.structs.replace(task, pool=partial(load.pool, lane.number))
                self._trials.append(_TurnTrial(place, task, began, starts, lane, self._order))
            yield from run_in_parallel(self._trials, study.interrupts)


class _Lane(msgspec.Struct, frozen=True):
    load: InterleavedLoad
    number: int
    orders: tuple[tuple[int, ...], ...]
    block: tuple[int | None, int | None]

    def configure(self, order: str) -> None:
        """Arms that cannot be interleaved play their whole plan in one turn."""
        self.load.configure(self.orders, self.block if order == "requests" else (_WHOLE_PLAN, None))

    def give_up(self) -> None:
        self.load.give_up(self.number)


class _Starts:
    """Lets the engines start one after the other."""

    def __init__(self, interrupts: Interrupts) -> None:
        self._interrupts = interrupts
        self._changed = threading.Condition()
        self._over: set[int] = set()
        self._is_closed = False

    def wait(self, place: int) -> bool:
        """Whether the engine at `place` may start now: not after an interrupt, nor after `close`."""
        with self._changed:
            while len(self._over & set(range(place))) < place:
                if self._interrupts.requested:
                    return False
                self._changed.wait(_POLL_S)
            return not self._is_closed and not self._interrupts.requested

    def over(self, place: int) -> None:
        """The engine at `place` is ready, or will not start."""
        with self._changed:
            self._over.add(place)
            self._changed.notify_all()

    def close(self) -> None:
        """No other engine starts in this round."""
        self._is_closed = True


class _TurnTrial:
    """One trial of the round, for a thread. `trial` is None until its engine may start."""

    def __init__(
        self, place: int, task: TrialTask, began: TrialBegan, starts: _Starts, lane: _Lane, order: StudyOrder
    ) -> None:
        self.trial: RunningTrial | None = None
        self._place = place
        self._task = task
        self._began = began
        self._starts = starts
        self._lane = lane
        self._order = order

    def run(self) -> Iterator[Progress]:
        try:
            if self._starts.wait(self._place):
                yield from self._run()
        finally:
            self._lane.give_up()
            self._starts.over(self._place)

    def stop_engine_on_interrupt(self) -> None:
        if self.trial is not None:
            self.trial.stop_engine_on_interrupt()

    def _run(self) -> Iterator[Progress]:
        before = free_memory() if self._order.is_open else {}
        self.trial = RunningTrial(self._task)
        yield self._began
        for progress in self.trial.run():
            if isinstance(progress, EngineReady):
                yield progress
                yield from self._on_ready(self.trial, before)
            else:
                yield progress

    def _on_ready(self, trial: RunningTrial, before: Mapping[str, FreeMemory]) -> Iterator[Progress]:
        if self._order.is_open:
            was_open = not self._order.order
            yield from self._order.decide(self._task.arm_name, before, free_memory())
            if was_open:
                self._lane.configure(self._order.order)
            if self._order.order == "trials":
                self._starts.close()
        trial.add_facts(self._order.facts())
        self._starts.over(self._place)
