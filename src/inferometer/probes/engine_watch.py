"""What is watched of an engine in a trial, from when to when? Its processes and devices from their first moment on, its
own counters from when it is ready, all of it to the end of the plan.
"""

from collections import deque
from collections.abc import Mapping, Sequence

from inferometer.base.clock import TrialClock
from inferometer.core.endpoint import Endpoint
from inferometer.core.record import Fact, Sample
from inferometer.net.http_client import server_at
from inferometer.probes.base import Probe
from inferometer.probes.engine_metrics import EngineMetrics, Names
from inferometer.probes.nvidia import device_used_bytes
from inferometer.probes.sampler import INTERVAL_S, Sampler, engine_probes


class EngineWatch:
    """Begins with the engine's process (`spawned`), or where we start none with its answer (`ready`); ends with `stop`.

    Made before the engine is started: what its devices hold then is not the engine's. `env`: what it will see.
    """

    def __init__(self, clock: TrialClock, env: Mapping[str, str], metric_names: Names) -> None:
        self._clock = clock
        self._env = env
        self._metric_names = metric_names
        self._gpu_before = device_used_bytes()
        self._arrived: deque[Sample] = deque()
        self._processes: Sampler | None = None
        self._device_counters: list[Probe] = []
        self._engine_metrics: EngineMetrics | None = None
        self._counters: Sampler | None = None

    def spawned(self, pid: int) -> None:
        """The engine's root process is there. Of several the first counts: the others descend from it, or are ours."""
        self._watch_processes((pid,))

    def ready(self, endpoint: Endpoint) -> None:
        """The engine answers, and its counters can be read."""
        self._watch_processes(endpoint.pids)
        server = server_at(endpoint.base_url, endpoint.headers, endpoint.verify, endpoint.ca_file)
        self._engine_metrics = EngineMetrics(server, self._metric_names)
        # the devices first: the engine may let its page wait
        self._counters = self._sampler([*self._device_counters, self._engine_metrics], EngineMetrics.interval_s)

    def mark(self) -> None:
        """Something begins or ends: what only counts up is read now."""
        if self._counters is not None:
            self._counters.read_soon()

    def stop(self) -> None:
        """Reads everything once more; no sample comes after."""
        for sampler in filter(None, (self._counters, self._processes)):
            sampler.stop()
        if self._engine_metrics is not None:
            self._engine_metrics.close()

    def take(self) -> Sequence[Sample]:
        """What has arrived since it was taken before."""
        return [self._arrived.popleft() for _ in range(len(self._arrived))]

    def facts(self) -> tuple[Fact, ...]:
        """What the watching cost, what is missing and why. After `stop`."""
        facts = [fact for sampler in (self._processes, self._counters) if sampler for fact in sampler.facts()]
        cpu_ns = sum(sampler.cpu_ns for sampler in (self._processes, self._counters) if sampler)
        watched_ns = self._processes.watched_ns if self._processes is not None else 0
        if watched_ns:
            share = f"{100 * cpu_ns / watched_ns:.2f}"
            facts.append(Fact("sampling_percent_of_a_core", share, "the samplers' CPU time over the time they ran"))
        return tuple(facts)

    def _watch_processes(self, pids: Sequence[int]) -> None:
        if self._processes is None:
            sampled, self._device_counters = engine_probes(pids, self._gpu_before, self._env)
            self._processes = self._sampler(sampled)

    def _sampler(self, probes: Sequence[Probe], interval_s: float = INTERVAL_S) -> Sampler:
        return Sampler(probes, self._clock, interval_s, on_sample=self._arrived.append).start()
