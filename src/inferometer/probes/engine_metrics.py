"""The engine's own counters, from its `/metrics` page: speculation, KV cache, running and waiting requests.

A separate thread reads the page about once a second, because an engine that processes a long prompt answers late.
llama.cpp serves the page if started with --metrics, SGLang with --enable-metrics, vLLM always.
"""

import contextlib
import http
import http.client
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from inferometer.core import quantities
from inferometer.core.record import Fact, Sample
from inferometer.net.http_client import HttpSession, Server
from inferometer.probes.prometheus_text import MetricLine, metric_lines

PATH = "/metrics"
TIMEOUT_S = 10.0


Names = Mapping[str, tuple[str, ...]]
"""For each quantity the engines' names on the page; the first one on the page counts. Each engine's module states its
names."""


class EngineQuantity(NamedTuple):
    """`combine` makes one value of several ranks or models, and `factor` converts the unit."""

    name: str
    combine: Callable[[Iterable[float]], float] = sum
    factor: float = 1.0


QUANTITIES = (
    EngineQuantity(quantities.SPEC_DRAFT_TOKENS_TOTAL),
    EngineQuantity(quantities.SPEC_ACCEPTED_TOKENS_TOTAL),
    EngineQuantity(quantities.SPEC_STEPS_TOTAL),
    EngineQuantity(quantities.KV_CACHE_USAGE_PERCENT, combine=max, factor=100.0),
    EngineQuantity(quantities.REQUESTS_RUNNING),
    EngineQuantity(quantities.REQUESTS_WAITING),
)


class EngineMetrics:
    """The metrics page of one server. Not thread-safe. A request without an answer is a missed reading. `reason` is set
    if the server answers that it has no such page.
    """

    name = "engine metrics"
    interval_s = 1.0

    def __init__(self, server: Server, names: Names, timeout_s: float = TIMEOUT_S) -> None:
        self.reason = ""
        self._server = server
        self._names = names
        self._session = HttpSession(server, timeout_s)
        self._seen: set[str] | None = None
        self._missed = 0
        self._why_missed = ""

    def read(self, at_ns: int) -> Sequence[Sample]:
        """The registered quantities on this engine's page."""
        try:
            answer = self._session.ask(PATH)
        except (OSError, http.client.HTTPException) as error:
            self._missed += 1
            self._why_missed = self._server.hide(str(error)) or type(error).__name__
            return []
        if answer.status != http.HTTPStatus.OK:
            self.reason = f"the server answers {PATH} with status {answer.status}: {answer.shown}. {_ADVICE}"
            return []
        found = read_page(answer.body.decode(errors="replace"), self._names)
        self._seen = found.keys() | (self._seen or set())
        if not self._seen:
            self.reason = f"the server's {PATH} has none of the known metrics: it belongs to an unknown engine"
        return [Sample(at_ns, PATH, name, value) for name, value in found.items()]

    def facts(self) -> Sequence[Fact]:
        facts: list[Fact] = []
        if self._missed:
            facts.append(
                Fact(quantities.ENGINE_METRICS_MISSED, f"{self._missed} readings: {self._why_missed}", "the probe")
            )
        if self._seen:
            absent = [quantity.name for quantity in QUANTITIES if quantity.name not in self._seen]
            facts += [
                Fact(quantities.absent_fact(name), f"the server's {PATH} does not contain it", "the probe")
                for name in absent
            ]
        return facts

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._session.close()


_ADVICE = "Start llama-server with --metrics, SGLang with --enable-metrics"


def read_page(page: str, names: Names) -> dict[str, float]:
    """The values of the registered quantities on a page, by name, in the order of QUANTITIES."""
    wanted = tuple(name for engine_names in names.values() for name in engine_names)
    lines = [line for line in metric_lines(page, wanted) if _counts(line)]
    found: dict[str, float] = {}
    for quantity in QUANTITIES:
        for name in names.get(quantity.name, ()):
            values = [line.value for line in lines if line.name == name]
            if values:
                found[quantity.name] = quantity.combine(values) * quantity.factor
                break
    return found


def _counts(line: MetricLine) -> bool:
    """False for NaN (unknown), and for SGLang's extra line per priority: the line with priority "" covers all
    requests."""
    return not math.isnan(line.value) and not line.labels.get("priority")
