"""The sampler: reads probes in a thread during a trial, within a CPU budget."""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import TracebackType
from typing import NamedTuple, Self

from inferometer.base import extensions
from inferometer.base.clock import TrialClock
from inferometer.base.units import NS_PER_S, ms
from inferometer.core import quantities
from inferometer.core.record import Fact, Sample
from inferometer.probes.amd import AmdDevices
from inferometer.probes.base import Probe
from inferometer.probes.machine_load import MachineLoad
from inferometer.probes.nvidia_sensors import nvidia_probes
from inferometer.probes.process_memory import ProcessMemory
from inferometer.probes.process_tree import ProcessTree
from inferometer.probes.process_use import ProcessUse

LOG = logging.getLogger(__name__)

INTERVAL_S = 0.1
ALLOWED_CORES = 0.0045
"""The most CPU, in cores, that a sampler may use: 0.53% together with the sampler of counters."""
READING_SHARE = 0.7
"""The share of it for the regular readings of all probes. The rest is for the thread's rounds and for the readings at
the start and the end. The sampler lowers this budget step by step while its total cost exceeds what is allowed."""
_LEAST_SHARE = 0.3  # enough for the cheap probes: only expensive ones are slowed down further
_LONG_INTERVAL_S = 5.0
_BUDGET_STEP = 1.3  # per second: the budget halves in two to three seconds


def engine_probes(
    pids: Sequence[int], gpu_before: Sequence[int] | None = None, env: Mapping[str, str] | None = None
) -> tuple[list[Probe], list[Probe]]:
    """The probes to sample for an engine with the root processes `pids`, and the probes of counters, which matter only
    at the start and end of a part of the plan. `gpu_before`: as in `NvidiaMemory`. `env`: the engine's environment.
    """
    tree = ProcessTree(pids)
    sensors, counters = nvidia_probes(tree, gpu_before, env)
    own: list[Probe] = [ProcessUse(tree), MachineLoad(tree), *sensors, AmdDevices(tree)]
    # PSS last: it takes the longest, and the others share one reading of the tree
    return [*own, *extension_probes(pids), ProcessMemory(tree)], counters


class AbsentProbe(NamedTuple):
    """An extension's probe that could not be made: only its name and the reason."""

    name: str
    reason: str
    interval_s: float = 1.0

    def read(self, at_ns: int) -> Sequence[Sample]:
        return ()

    def facts(self) -> Sequence[Fact]:
        return ()


def extension_probes(pids: Sequence[int]) -> list[Probe]:
    """The probes that installed packages add, each made as `factory(pids)`; one that fails is absent with a reason."""
    found: list[Probe] = []
    for name in extensions.names("probe"):
        try:
            found.append(extensions.factory("probe", name)(pids))
        except Exception as error:  # noqa: BLE001 # somebody else's code: it must not take the trial with it
            found.append(AbsentProbe(name, f"it cannot be made: {type(error).__name__}: {error}"))
    return found


class Sampler:
    """Reads `probes` in a separate thread during the `with` block: all of them at its start and end, and in between
    each at its own interval, a multiple of `INTERVAL_S`. An expensive probe is read less often, so that all of them
    stay within the budget.

    The thread calls `on_sample`. A probe that fails is not read again; `reasons` states why, as for a probe without
    readings. Samples are stamped just before their probe is read.
    """

    def __init__(
        self,
        probes: Iterable[Probe],
        clock: TrialClock,
        interval_s: float = INTERVAL_S,
        *,
        on_sample: Callable[[Sample], object],
        allowed_cores: float = ALLOWED_CORES,
        cpu_ns: Callable[[], int] = time.thread_time_ns,
    ) -> None:
        probes = list(probes)
        self.reasons = {probe.name: probe.reason for probe in probes if probe.reason}
        self.cpu_ns = 0
        self._active = [_ScheduledProbe(probe) for probe in probes if not probe.reason]
        self._all = tuple(self._active)
        self._clock = clock
        self._cpu_ns = cpu_ns
        self._interval_s = interval_s
        self._slack_ns = interval_s * NS_PER_S / 2  # rounds come slightly early or late
        self._on_sample = on_sample
        self._began_ns: int | None = None
        self._ended_ns: int | None = None
        self._wake = threading.Event()
        self._stopping = False
        self._allowed_cores = allowed_cores
        self._budget_cores = READING_SHARE * allowed_cores
        self._thread = threading.Thread(target=self._run, name="sampler", daemon=True)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> Self:
        self._thread.start()
        return self

    @property
    def watched_ns(self) -> int:
        """Time from the first round to the end of the last."""
        return 0 if self._began_ns is None or self._ended_ns is None else self._ended_ns - self._began_ns

    def stop(self) -> None:
        """Reads every probe once more and waits for the thread to end; `on_sample` is not called afterwards."""
        self._stopping = True
        self._wake.set()
        if self._thread.ident is not None:
            self._thread.join()

    def read_soon(self) -> None:
        """Reads every probe now instead of when it is due."""
        self._wake.set()

    def read_due(self, everything: bool = False) -> None:
        """Reads every working probe that is due, or all of them."""
        self._set_pauses()
        for reading in tuple(self._active):
            now_ns = self._clock.now_ns()
            if everything or now_ns >= reading.last_ns + reading.pause_s * NS_PER_S - self._slack_ns:
                self._read(reading, now_ns)

    def facts(self) -> tuple[Fact, ...]:
        """The facts of the probes, the intervals of expensive probes, and the reasons for missing readings."""
        facts = [fact for reading in self._all for fact in reading.probe.facts()]
        absent = [Fact(quantities.absent_fact(name), reason, "the probe") for name, reason in self.reasons.items()]
        return (*self._long_intervals(), *facts, *absent)

    def _long_intervals(self) -> Iterable[Fact]:
        """The mean time between readings of each probe that the budget slowed down."""
        for reading in self._all:
            every_s = self.watched_ns / NS_PER_S / reading.count if reading.count else 0.0
            if reading.slowed and every_s > 1.5 * reading.probe.interval_s:
                each = f"a reading took {ms(reading.cost_ns):.1f} ms of CPU"
                yield Fact(quantities.interval_fact(reading.probe.name), f"{every_s:.2f}", f"the sampler: {each}")

    def _read(self, reading: "_ScheduledProbe", now_ns: int) -> None:
        probe = reading.probe
        began_ns = self._cpu_ns()
        try:
            for sample in probe.read(now_ns):
                self._on_sample(sample)
        except Exception as error:  # noqa: BLE001 # a probe may fail in any way, and the trial must continue
            self._stop_reading(reading, f"it failed: {type(error).__name__}: {error}")
            LOG.warning("the %s probe failed and is not read again: %s: %s", probe.name, type(error).__name__, error)
            return
        if probe.reason:
            self._stop_reading(reading, probe.reason)
            return
        reading.add_cost(self._cpu_ns() - began_ns)
        reading.last_ns = now_ns

    def _stop_reading(self, reading: "_ScheduledProbe", why: str) -> None:
        self._active.remove(reading)
        self.reasons[reading.probe.name] = why

    def _set_pauses(self) -> None:
        """Each probe gets its own interval or a longer one: cheap probes get what they need of the budget, expensive
        probes share the rest."""
        left_cores = self._budget_cores
        for place, reading in enumerate(sorted(self._active, key=lambda reading: reading.cores)):
            share_cores = left_cores / (len(self._active) - place)
            is_expensive = reading.cores > share_cores
            reading.slowed |= is_expensive
            reading.pause_s = reading.cost_ns / NS_PER_S / share_cores if is_expensive else reading.probe.interval_s
            left_cores -= min(reading.cores, share_cores)

    def _run(self) -> None:
        began_s = time.monotonic()
        self._began_ns = self._clock.now_ns()
        everything = True
        while self._active:
            before_ns = self.watched_ns
            everything = everything or self._stopping
            last = self._stopping
            self.read_due(everything)
            self._ended_ns = self._clock.now_ns()
            self.cpu_ns = self._cpu_ns()  # this thread does only this
            exceeds = self.cpu_ns > self._allowed_cores * self.watched_ns
            passed_ns = self.watched_ns - before_ns
            self._budget_cores = next_budget(self._budget_cores, self._allowed_cores, passed_ns, exceeds=exceeds)
            if last:
                break
            passed_s = time.monotonic() - began_s
            everything = self._wake.wait((self.idle_rounds() + 1) * self._interval_s - passed_s % self._interval_s)
            self._wake.clear()

    def idle_rounds(self) -> int:
        """The number of rounds from now on in which no probe is due: a round costs even if it reads nothing."""
        due_ns = min((one.last_ns + one.pause_s * NS_PER_S for one in self._active), default=0)
        return max(0, int((due_ns - self._slack_ns - self._clock.now_ns()) / (self._interval_s * NS_PER_S)))


def next_budget(budget_cores: float, allowed_cores: float, passed_ns: int, *, exceeds: bool) -> float:
    """The budget after `passed_ns`: lower if the sampler's total cost `exceeds` what is allowed, else higher."""
    step = _BUDGET_STEP ** (passed_ns / NS_PER_S)
    stepped = budget_cores / step if exceeds else budget_cores * step
    return min(max(stepped, _LEAST_SHARE * allowed_cores), READING_SHARE * allowed_cores)


class _ScheduledProbe:
    """A probe, the time of its next reading, and the cost of a reading: the median of the last three. The first one
    counts only for a probe of a long interval, because it opens files: the PSS of an engine that runs already takes 35
    to 60 ms, and a second reading 5 s later would cost a short trial as much again."""

    def __init__(self, probe: Probe) -> None:
        self.probe = probe
        self.last_ns = -(2**63)
        self.pause_s = 0.0
        self.count = 0
        self.cost_ns = 0.0
        self.slowed = False
        self._last_ns: deque[int] = deque(maxlen=3)

    @property
    def cores(self) -> float:
        """CPU cost at the probe's own interval, in cores."""
        return self.cost_ns / NS_PER_S / self.probe.interval_s

    def add_cost(self, cpu_ns: int) -> None:
        """Records one reading. The median ignores a single expensive one, which would slow the probe for long."""
        self.count += 1
        if self.count > 1 or self.probe.interval_s >= _LONG_INTERVAL_S:
            self._last_ns.append(cpu_ns)
            self.cost_ns = sorted(self._last_ns)[(len(self._last_ns) - 1) // 2]
