"""Studies of scripted servers without a socket: a server's answers are played on a clock that only their waits move."""

import array
import random
from collections.abc import Sequence
from typing import Any

import msgspec
import pytest

from inferometer.analysis.compare import compare
from inferometer.analysis.comparison import Comparison
from inferometer.analysis.same_requests import with_same_requests
from inferometer.analysis.validity import ArmTrials, findings
from inferometer.core.plan import PlanItem
from inferometer.core.record import RequestRecord, Trial
from inferometer.core.request import Request, user_request
from inferometer.core.spec import Arm
from inferometer.load.answer_decoding import decode_record
from inferometer.load.arrivals import arrivals
from inferometer.load.wire import Exchange
from inferometer.metrics.summary import summarize_view, view
from inferometer.testing import answering_server
from inferometer.testing.answering_server import TOKENS
from inferometer.testing.scripted_server import Received, ScriptedAnswer, Send, Wait

S = 1_000_000_000
PROMPTS = tuple(
    f"Explain in your own words and with examples, number {i}: " + "why the sea is salt. " * (6 + 10 * i)
    for i in range(8)
)


class Clock:
    """Stands in for the module `time` of the scripted servers."""

    def __init__(self) -> None:
        self.now_s = 1.0

    def monotonic(self) -> float:
        return self.now_s


class Found(msgspec.Struct, frozen=True):
    comparison: Comparison

    def codes(self, *severities: str) -> set[str]:
        return {one.code for one in self.comparison.findings if one.severity in severities}

    @property
    def above_notes(self) -> set[str]:
        return self.codes("warning", "invalid") - {"degenerate"}

    @property
    def claims(self) -> set[str]:
        """Metrics with a verdict that one arm is better."""
        rows = self.comparison.rows
        return {row.metric for row in rows if {one.verdict for one in row.differences} & {"faster", "slower"}}

    def value(self, arm: str, metric: str) -> float | None:
        return next(row.values[arm] for row in self.comparison.rows if row.metric == metric)


class Study:
    """Compares servers; each arm is a server, or one for each trial. `due_s`: of an open loop."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.clock = Clock()
        monkeypatch.setattr(answering_server, "time", self.clock)

    def __call__(self, *arms: "ScriptedAnswer | Sequence[ScriptedAnswer]", **fields: Any) -> Found:
        cases = with_same_requests([self._arm(f"arm{at}", one, **fields) for at, one in enumerate(arms)])
        summaries = [
            summarize_view(trial, study="s", plan="p", with_replicates=True) for case in cases for trial in case.done
        ]
        named = [msgspec.structs.replace(one, arm=one.arm) for one in summaries]
        return Found(compare(named, findings(cases)))

    def _arm(
        self,
        name: str,
        servers: "ScriptedAnswer | Sequence[ScriptedAnswer]",
        prompts: Sequence[str] = PROMPTS,
        max_tokens: int = TOKENS,
        due_s: Sequence[float] | None = None,
    ) -> ArmTrials:
        requests = {i: user_request(f"r{i}", text, max_tokens=max_tokens) for i, text in enumerate(prompts)}
        each = servers if isinstance(servers, list | tuple) else [servers, servers]
        trials = [
            view(Trial(name, number, "done", S, self._played(server, requests, due_s, number)), requests=requests)
            for number, server in enumerate(each, start=1)
        ]
        engine = Arm(engine="external", url="http://scripted", model="scripted")
        return ArmTrials(name, engine, tuple(trials), requests, plan="p")

    def _played(
        self, server: ScriptedAnswer, requests: dict[int, Request], due_s: Sequence[float] | None, seed: int
    ) -> tuple[RequestRecord, ...]:
        rng, self.clock.now_s = random.Random(seed), 1.0
        return tuple(
            self._record(server, PlanItem(at, request, None), None if due_s is None else 1.0 + due_s[at], rng)
            for at, request in requests.items()
        )

    def _record(self, server: ScriptedAnswer, item: PlanItem, due_s: float | None, rng: random.Random) -> RequestRecord:
        clock, pace = self.clock, rng.gauss(1, 0.002)
        clock.now_s = clock.now_s if due_s is None else due_s
        sent_ns, raw, lengths, read_ns = round(clock.now_s * S), b"", array.array("I"), array.array("q")
        messages = [{"role": "user", "content": item.request.prompt}]
        body = {"messages": messages, "stream": True, "max_tokens": item.request.max_tokens}
        for step in server(Received("POST", "/v1/chat/completions", {}, body, 0)):
            if isinstance(step, Wait):
                clock.now_s += step.seconds * pace
            elif isinstance(step, Send) and step.data:
                clock.now_s += 1e-5
                raw += step.data
                lengths.append(len(step.data))
                read_ns.append(round(clock.now_s * S))
        due_ns = None if due_s is None else sent_ns
        times = (due_ns, S, sent_ns, round(clock.now_s * S))
        exchange = Exchange(item.index, "complete", *times, raw, lengths.tobytes(), read_ns.tobytes())
        return decode_record(exchange, arrivals(exchange), item, "openai-chat", 0)
