"""Load workers of a study: processes on this host, or on the nodes of a Ray cluster."""

import contextlib
from collections.abc import Callable, Mapping

import msgspec

from inferometer.base.errors import RequestWrong
from inferometer.core import quantities
from inferometer.core.record import Fact
from inferometer.core.spec import Arm, Spec
from inferometer.core.spec_checks import worker_problems
from inferometer.load.worker_pool import WorkerPool, local_workers
from inferometer.study.preconditions import require_reachable


class LoadWorkers(msgspec.Struct, frozen=True):
    """`count` workers send each plan; `pool_of` makes a new pool of that many. `facts`: where the workers run."""

    count: int
    pool_of: Callable[[int], WorkerPool]
    facts: tuple[Fact, ...] = ()

    def pool(self) -> WorkerPool:
        """A new worker pool for one trial."""
        return self.pool_of(self.count)


def load_workers(
    spec: Spec, ray_address: str | None, arms: Mapping[str, Arm], stack: contextlib.ExitStack
) -> LoadWorkers:
    """The workers that `spec` asks for. The connection to a Ray cluster lasts until `stack` is closed."""
    if ray_address is None:
        return LoadWorkers(spec.workers or 1, local_workers)
    from inferometer.load.ray_workers import connected

    cluster = stack.enter_context(connected(ray_address))
    if not cluster.is_all_here:
        require_reachable(arms)
    count = spec.workers or len(cluster.nodes)
    problems = worker_problems(spec, count)
    if problems:
        raise RequestWrong(f"the Ray cluster has {len(cluster.nodes)} nodes; {problems[0]} (--workers)")
    hosts = ", ".join(cluster.nodes[number % len(cluster.nodes)].host for number in range(count))
    return LoadWorkers(count, cluster.worker_pool, (Fact(quantities.LOAD_HOSTS, hosts, "the Ray cluster"),))
