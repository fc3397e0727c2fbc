"""What does the engine count itself? Its `/metrics` page: speculation, how full the KV cache is, who runs and waits.

Asked about once a second in a thread of its own: an engine in the middle of a long prompt answers late, and its answer
is of then. llama.cpp gives the page where it was started with --metrics, SGLang with --enable-metrics, vLLM always.
"""

import contextlib
import http
import http.client
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from inferometer.core.record import Fact, Sample
from inferometer.net.http_client import Conversation, Server
from inferometer.probes.prometheus_text import Line, lines_of

PATH = "/metrics"
PATIENCE_S = 10.0


Names = Mapping[str, tuple[str, ...]]
"""Of each quantity the engines' names on the page; the first that a page has counts. Stated by each engine's module."""


class EngineQuantity(NamedTuple):
    """A quantity of the page: how the values of several ranks or models become one, and the factor to our unit."""

    name: str
    together: Callable[[Iterable[float]], float] = sum
    times: float = 1.0


QUANTITIES = (
    EngineQuantity("spec_draft_tokens_total"),
    EngineQuantity("spec_accepted_tokens_total"),
    EngineQuantity("spec_steps_total"),
    EngineQuantity("kv_cache_usage_percent", together=max, times=100.0),
    EngineQuantity("requests_running"),
    EngineQuantity("requests_waiting"),
)


class EngineMetrics:
    """The page of one server. Not for several threads. A question without an answer is a reading less; `reason` is set
    once the server has said that it has no such page.
    """

    name = "engine metrics"
    interval_s = 1.0

    def __init__(self, server: Server, names: Names, patience_s: float = PATIENCE_S) -> None:
        self.reason = ""
        self._server = server
        self._names = names
        self._conversation = Conversation(server, patience_s)
        self._told: set[str] | None = None
        self._missed = 0
        self._why_missed = ""

    def read(self, at_ns: int) -> Sequence[Sample]:
        """The quantities that this engine's page has."""
        try:
            answer = self._conversation.ask(PATH)
        except (OSError, http.client.HTTPException) as error:
            self._missed += 1
            self._why_missed = self._server.hide(str(error)) or type(error).__name__
            return []
        if answer.status != http.HTTPStatus.OK:
            self.reason = f"the server answers {PATH} with status {answer.status}: {answer.shown}. {_ADVICE}"
            return []
        found = values(answer.body.decode(errors="replace"), self._names)
        self._told = found.keys() | (self._told or set())
        if not self._told:
            self.reason = f"the server's {PATH} has none of what is looked for: it is of no engine that is known here"
        return [Sample(at_ns, PATH, name, value) for name, value in found.items()]

    def facts(self) -> Sequence[Fact]:
        facts: list[Fact] = []
        if self._missed:
            facts.append(Fact("engine_metrics_missed", f"{self._missed} readings: {self._why_missed}", "the probe"))
        if self._told:
            untold = [quantity.name for quantity in QUANTITIES if quantity.name not in self._told]
            facts += [Fact(f"no_{name}", f"the server's {PATH} does not tell it", "the probe") for name in untold]
        return facts

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._conversation.close()


_ADVICE = "llama-server gives the page with --metrics, SGLang with --enable-metrics"


def values(page: str, names: Names) -> dict[str, float]:
    """Our quantities in a page, by name: those of which it tells, in our order."""
    lines = [
        line for line in lines_of(page, tuple(name for theirs in names.values() for name in theirs)) if _counts(line)
    ]
    found: dict[str, float] = {}
    for quantity in QUANTITIES:
        for theirs in names.get(quantity.name, ()):
            told = [line.value for line in lines if line.name == theirs]
            if told:
                found[quantity.name] = quantity.together(told) * quantity.times
                break
    return found


def _counts(line: Line) -> bool:
    """NaN is unknown. SGLang tells a gauge for all requests (priority "") and again for each priority."""
    return not math.isnan(line.value) and not line.labels.get("priority")
