"""The probes of one trial: when each starts and stops.

Processes and devices are sampled from the engine's start, the engine's own counters from its readiness, all of them
until the end of the plan.
"""

from collections import deque
from collections.abc import Mapping, Sequence

from inferometer.base.clock import TrialClock
from inferometer.core import quantities
from inferometer.core.endpoint import Endpoint
from inferometer.core.record import Fact, Sample
from inferometer.net.http_client import server_at
from inferometer.probes.base import Probe
from inferometer.probes.engine_metrics import EngineMetrics, Names
from inferometer.probes.listening import listens
from inferometer.probes.nvidia import device_used_bytes
from inferometer.probes.process_tree import ProcessTree
from inferometer.probes.sampler import ALLOWED_CORES, INTERVAL_S, Sampler, engine_probes

_ALLOWED_FOR_COUNTERS_CORES = 0.0008


class EngineWatch:
    """Starts with the engine's process (`spawned`), or with its first answer if we do not start it (`ready`); ends with
    `stop`.

    Create it before the engine starts: memory that is used on the devices then does not belong to the engine. `env`:
    the engine's environment.
    """

    def __init__(self, clock: TrialClock, env: Mapping[str, str], metric_names: Names) -> None:
        self._clock = clock
        self._env = env
        self._metric_names = metric_names
        self._gpu_before = device_used_bytes()
        self._arrived: deque[Sample] = deque()
        self._processes: Sampler | None = None
        self._is_elsewhere = False
        self._device_counters: list[Probe] = []
        self._engine_metrics: EngineMetrics | None = None
        self._counters: Sampler | None = None

    def spawned(self, pid: int) -> None:
        """The engine's root process has started. Only the first call counts: later processes descend from the first
        one."""
        self._watch_processes((pid,))

    def ready(self, endpoint: Endpoint) -> None:
        """The engine answers, so its counters can be read."""
        self._watch_processes(endpoint.pids)
        self._is_elsewhere = listens(ProcessTree(endpoint.pids).pids(0)) is False
        server = server_at(endpoint.base_url, endpoint.headers, endpoint.verify, endpoint.ca_file)
        self._engine_metrics = EngineMetrics(server, self._metric_names)
        # devices first: the engine may delay its page
        counters = [*self._device_counters, self._engine_metrics]
        self._counters = self._sampler(counters, EngineMetrics.interval_s, _ALLOWED_FOR_COUNTERS_CORES)

    def mark(self) -> None:
        """Reads the counters now, because a part of the plan starts or ends."""
        if self._counters is not None:
            self._counters.read_soon()

    def stop(self) -> None:
        """Reads every probe once more; no sample arrives afterwards."""
        for sampler in filter(None, (self._counters, self._processes)):
            sampler.stop()
        if self._engine_metrics is not None:
            self._engine_metrics.close()

    def take(self) -> Sequence[Sample]:
        """The samples since the last call."""
        return [self._arrived.popleft() for _ in range(len(self._arrived))] if self._arrived else []

    def facts(self) -> tuple[Fact, ...]:
        """The cost of the probes, and the reasons for missing readings. Call it after `stop`."""
        facts = [fact for sampler in (self._processes, self._counters) if sampler for fact in sampler.facts()]
        cpu_ns = sum(sampler.cpu_ns for sampler in (self._processes, self._counters) if sampler)
        watched_ns = self._processes.watched_ns if self._processes is not None else 0
        if self._is_elsewhere:
            reason = "none of the watched processes accepts connections"
            facts.append(Fact(quantities.SERVER_ELSEWHERE, reason, "/proc/PID/fd"))
        if watched_ns:
            share = f"{100 * cpu_ns / watched_ns:.2f}"
            facts.append(
                Fact(quantities.SAMPLING_PERCENT_OF_A_CORE, share, "the samplers' CPU time over the time they ran")
            )
        return tuple(facts)

    def _watch_processes(self, pids: Sequence[int]) -> None:
        if self._processes is None:
            sampled, self._device_counters = engine_probes(pids, self._gpu_before, self._env)
            self._processes = self._sampler(sampled)

    def _sampler(
        self, probes: Sequence[Probe], interval_s: float = INTERVAL_S, allowed_cores: float = ALLOWED_CORES
    ) -> Sampler:
        sampler = Sampler(probes, self._clock, interval_s, on_sample=self._arrived.append, allowed_cores=allowed_cores)
        return sampler.start()
