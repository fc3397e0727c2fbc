"""What did the probes read while an engine worked, and what did the reading cost?"""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from statistics import median_low
from types import TracebackType
from typing import NamedTuple, Self

from inferometer.base import extensions
from inferometer.base.clock import TrialClock
from inferometer.base.units import NS_PER_S, ms
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
ALLOWED_CORES = 0.008
"""Of one core, for a sampler with all its probes: below 1%, which the one for the engine's counters is part of."""
BUDGET_CORES = 0.005
"""Of one core, for the regular readings of all probes of a sampler together, while all that it has cost so far is
within what is allowed; else less, round by round, until it is."""
_LEAST_BUDGET_CORES = 0.0005
_BUDGET_STEP = 1.03  # a round: it halves in two to three seconds


def engine_probes(
    pids: Sequence[int], gpu_before: Sequence[int] | None = None, env: Mapping[str, str] | None = None
) -> tuple[list[Probe], list[Probe]]:
    """What is sampled of an engine whose root processes are `pids`, and what counts up by itself, so that only the
    readings where something begins and ends matter. `gpu_before` as in `NvidiaMemory`, `env`: its own.
    """
    tree = ProcessTree(pids)
    sensors, counters = nvidia_probes(tree, gpu_before, env)
    own: list[Probe] = [ProcessMemory(tree), ProcessUse(tree), MachineLoad(tree), *sensors, AmdDevices(tree)]
    return [*own, *extension_probes(pids)], counters


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
    """Reads `probes` in a thread of its own while the `with` block lasts: all at once, at its end, and in between each
    at its own interval, a multiple of `INTERVAL_S`. One whose reading is dear rests for so long that all of them stay
    within their budget.

    `on_sample` is called in that thread. A probe that fails is left out from then on; `reasons` says why, as it does
    for one that has nothing to read. Samples are stamped just before their probe is read.
    """

    def __init__(
        self,
        probes: Iterable[Probe],
        clock: TrialClock,
        interval_s: float = INTERVAL_S,
        *,
        on_sample: Callable[[Sample], object],
        cpu_ns: Callable[[], int] = time.thread_time_ns,
    ) -> None:
        probes = list(probes)
        self.reasons = {probe.name: probe.reason for probe in probes if probe.reason}
        self.cpu_ns = 0
        self._reading = [_Reading(probe) for probe in probes if not probe.reason]
        self._all = tuple(self._reading)
        self._clock = clock
        self._cpu_ns = cpu_ns
        self._interval_s = interval_s
        self._slack_ns = interval_s * NS_PER_S / 2  # a round comes a little early or late
        self._on_sample = on_sample
        self._began_ns: int | None = None
        self._ended_ns: int | None = None
        self._wake = threading.Event()
        self._stopping = False
        self._budget_cores = BUDGET_CORES
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
        """From the first round to the end of the last."""
        return 0 if self._began_ns is None or self._ended_ns is None else self._ended_ns - self._began_ns

    def stop(self) -> None:
        """Has every probe read once more and waits for the thread's end; no `on_sample` comes after."""
        self._stopping = True
        self._wake.set()
        if self._thread.ident is not None:
            self._thread.join()

    def read_soon(self) -> None:
        """Has every probe read now, and not when it is due."""
        self._wake.set()

    def read_due(self, everything: bool = False) -> None:
        """One reading of every probe that still works and is due, or of all of them."""
        self._share_out()
        for reading in tuple(self._reading):
            now_ns = self._clock.now_ns()
            if everything or now_ns >= reading.last_ns + reading.pause_s * NS_PER_S - self._slack_ns:
                self._read(reading, now_ns)

    def facts(self) -> tuple[Fact, ...]:
        """What the probes say, how often a dear one was read, what is missing and why."""
        told = [fact for reading in self._all for fact in reading.probe.facts()]
        absent = [Fact(f"no_{name.replace(' ', '_')}", reason, "the probe") for name, reason in self.reasons.items()]
        return (*self._rests(), *told, *absent)

    def _rests(self) -> Iterable[Fact]:
        """For each probe that had to rest the mean time between its readings."""
        for reading in self._all:
            every_s = self.watched_ns / NS_PER_S / reading.count if reading.count else 0.0
            if reading.rested and every_s > 1.5 * reading.probe.interval_s:
                name = reading.probe.name.replace(" ", "_")
                each = f"a reading took {ms(reading.cost_ns):.1f} ms of CPU"
                yield Fact(f"{name}_every_s", f"{every_s:.2f}", f"the sampler: {each}")

    def _read(self, reading: "_Reading", now_ns: int) -> None:
        probe = reading.probe
        began_ns = self._cpu_ns()
        try:
            for sample in probe.read(now_ns):
                self._on_sample(sample)
        except Exception as error:  # noqa: BLE001 # a probe may fail in any way, and must not take the trial with it
            self._leave_out(reading, f"it failed: {type(error).__name__}: {error}")
            LOG.warning("the %s probe is left out: %s: %s", probe.name, type(error).__name__, error)
            return
        if probe.reason:
            self._leave_out(reading, probe.reason)
            return
        reading.took(self._cpu_ns() - began_ns)
        reading.last_ns = now_ns

    def _leave_out(self, reading: "_Reading", why: str) -> None:
        self._reading.remove(reading)
        self.reasons[reading.probe.name] = why

    def _share_out(self) -> None:
        """Each its own interval, or longer. The cheaper take what they need of the budget, the dear share the rest."""
        left_cores = self._budget_cores
        for place, reading in enumerate(sorted(self._reading, key=lambda reading: reading.cores)):
            share_cores = left_cores / (len(self._reading) - place)
            rests = reading.cores > share_cores
            reading.rested |= rests
            reading.pause_s = reading.cost_ns / NS_PER_S / share_cores if rests else reading.probe.interval_s
            left_cores -= min(reading.cores, share_cores)

    def _run(self) -> None:
        began_s = time.monotonic()
        self._began_ns = self._clock.now_ns()
        everything = True
        while self._reading:
            everything = everything or self._stopping
            last = self._stopping
            self.read_due(everything)
            self._ended_ns = self._clock.now_ns()
            self.cpu_ns = self._cpu_ns()  # this thread does nothing else
            self._budget_cores = next_budget(self._budget_cores, self.cpu_ns, self.watched_ns)
            if last:
                break
            passed_s = time.monotonic() - began_s
            everything = self._wake.wait(self._interval_s - passed_s % self._interval_s)
            self._wake.clear()


def next_budget(budget_cores: float, cpu_ns: int, watched_ns: int) -> float:
    """Of a sampler that has cost `cpu_ns` in `watched_ns`: a step down where that is more than it may, else up."""
    is_dear = cpu_ns > ALLOWED_CORES * watched_ns
    stepped = budget_cores / _BUDGET_STEP if is_dear else budget_cores * _BUDGET_STEP
    return min(max(stepped, _LEAST_BUDGET_CORES), BUDGET_CORES)


class _Reading:
    """A probe, when it is due, and what a reading of it costs, by the middle one of the last three. The first two,
    which open what the probe needs, do not count."""

    def __init__(self, probe: Probe) -> None:
        self.probe = probe
        self.last_ns = -(2**63)
        self.pause_s = 0.0
        self.count = 0
        self.cost_ns = 0.0
        self.rested = False
        self._last_ns: deque[int] = deque(maxlen=3)

    @property
    def cores(self) -> float:
        """What it would cost at its own interval."""
        return self.cost_ns / NS_PER_S / self.probe.interval_s

    def took(self, cpu_ns: int) -> None:
        """A reading that was dear once counts for nothing: a probe that rested on it would see little for long."""
        self.count += 1
        if self.count > 2:
            self._last_ns.append(cpu_ns)
            self.cost_ns = median_low(self._last_ns)
