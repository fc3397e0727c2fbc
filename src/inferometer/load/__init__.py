"""Plays a plan against an endpoint: the only door to the load path.

`play` encodes every request, hands the bytes to a worker process, and decodes what comes back as it ends.
"""

from collections.abc import Iterator
from urllib.parse import urlsplit

import msgspec

from inferometer.endpoint import Endpoint
from inferometer.errors import LoadFailed, RequestWrong
from inferometer.load import dialects
from inferometer.load.driver import monotonic_ns
from inferometer.load.processes import Worker
from inferometer.load.wire import Exchange, Finished, Go, Job, Shot, Tick, Warm
from inferometer.plan import Plan, PlanItem
from inferometer.record import RequestRecord
from inferometer.spec import Sampling

_START_DELAY_NS = 5_000_000


class Started(msgspec.Struct, frozen=True):
    """The warm-ups are over; the plan's clock starts at `at_ns` (from the trial's start)."""

    at_ns: int


class LoadCost(msgspec.Struct, frozen=True):
    """What the load itself cost, and how late it sent at worst."""

    cpu_ns: int
    wall_ns: int
    worst_lateness_ns: int


Happening = RequestRecord | Started | Tick | LoadCost | None


def play(plan: Plan, endpoint: Endpoint, sampling: Sampling, zero_ns: int, worker: Worker) -> Iterator[Happening]:
    """Plays `plan` through `worker` and yields what happens: records as requests end, `Tick`s, `Started` once, and
    `LoadCost` last; None now and then, so that the caller can look after other things.

    `zero_ns` is the trial's start on this host's monotonic clock. A caller that calls `worker.stop()` gets the rest as
    cancelled records. Raises LoadFailed where the worker broke.
    """
    url = urlsplit(endpoint.base_url)
    if url.scheme != "http" or not url.hostname:
        raise RequestWrong(f"{endpoint.base_url} is no http:// address; give one like http://127.0.0.1:8080")
    items = {item.index: item for item in plan.items}
    worker.send(
        Job(
            host=url.hostname,
            port=url.port or 80,
            warmups=_shots(plan.warmups, endpoint, sampling),
            shots=_shots(plan.measured, endpoint, sampling),
            concurrency=plan.concurrency,
        )
    )
    finished = False
    for message in worker.messages():
        match message:
            case Exchange():
                yield dialects.record(message, items[message.index], endpoint.dialect, zero_ns)
            case Warm():
                start_ns = monotonic_ns() + _START_DELAY_NS
                yield Started(start_ns - zero_ns)
                worker.send(Go(start_ns))
            case Finished():
                finished = True
                yield LoadCost(message.cpu_ns, message.wall_ns, message.worst_lateness_ns)
            case Tick() | None:
                yield message
            case _:
                raise LoadFailed(f"unexpected word from the load worker: {message}")
    if not finished:
        raise LoadFailed("the load worker ended by itself before the plan was over")


def _shots(items: tuple[PlanItem, ...], endpoint: Endpoint, sampling: Sampling) -> tuple[Shot, ...]:
    encode = msgspec.json.Encoder().encode
    return tuple(
        Shot(
            item.index,
            item.due_ns,
            dialects.http_request(
                encode(dialects.body(item.request, sampling, endpoint.dialect, endpoint.model)), endpoint
            ),
        )
        for item in items
    )
