"""What did the probes read, every `interval_s`, while an engine worked, and what did the reading cost?"""

import logging
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from types import TracebackType
from typing import Self

from inferometer.clock import TrialClock
from inferometer.probes.base import Probe
from inferometer.probes.nvidia import NvidiaMemory
from inferometer.probes.process_memory import ProcessMemory
from inferometer.record import Fact, Sample
from inferometer.units import ms

LOG = logging.getLogger(__name__)

INTERVAL_S = 0.1


def engine_probes(pids: Sequence[int], gpu_before: Sequence[int] | None = None) -> list[Probe]:
    """The probes of an engine whose root processes are `pids`; `gpu_before` as in `NvidiaMemory`."""
    return [ProcessMemory(pids), NvidiaMemory(pids, gpu_before)]


class Sampler:
    """Reads `probes` in a thread of its own while the `with` block lasts: at once, then every `interval_s`.

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
    ) -> None:
        probes = list(probes)
        self.reasons = {probe.name: probe.reason for probe in probes if probe.reason}
        self.cpu_ns = 0
        self.readings = 0
        self._probes = [probe for probe in probes if not probe.reason]
        self._clock = clock
        self._interval_s = interval_s
        self._on_sample = on_sample
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="sampler", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """Ends the thread and waits for it; no `on_sample` comes after."""
        self._stopping.set()
        self._thread.join()

    def read_once(self) -> None:
        """One reading of every probe that still works."""
        for probe in tuple(self._probes):
            try:
                for sample in probe.read(self._clock.now_ns()):
                    self._on_sample(sample)
            except Exception as error:  # noqa: BLE001 # a probe may fail in any way, and must not take the trial with it
                self._probes.remove(probe)
                self.reasons[probe.name] = f"it failed: {type(error).__name__}: {error}"
                LOG.warning("the %s probe is left out: %s: %s", probe.name, type(error).__name__, error)
        self.readings += 1

    def facts(self) -> tuple[Fact, ...]:
        """What the sampling cost, and for each silent probe why."""
        return (
            Fact("sampler_cpu_ms", f"{ms(self.cpu_ns):.1f}", f"its thread's CPU time, {self.readings} readings"),
            *(Fact(f"no_{name.replace(' ', '_')}", reason, "the probe") for name, reason in self.reasons.items()),
        )

    def _run(self) -> None:
        began_s = time.monotonic()
        while not self._stopping.is_set() and self._probes:
            self.read_once()
            self.cpu_ns = time.thread_time_ns()  # this thread does nothing else
            passed_s = time.monotonic() - began_s
            self._stopping.wait(self._interval_s - passed_s % self._interval_s)
