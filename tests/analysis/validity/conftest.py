"""Cases written by hand: records, trials and arms with what a check looks at, and ordinary values for all else."""

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
import pytest

from inferometer.analysis.validity import ArmTrials
from inferometer.core.record import Event, Fact, RequestRecord, Sample, TokenUsage, Trial
from inferometer.core.request import user_request
from inferometer.core.spec import Arm
from inferometer.metrics.measures import TrialView
from inferometer.metrics.request_columns import asked_of
from inferometer.metrics.summary import view

MS = 1_000_000
S = 1_000_000_000


class Make:
    """`answer` n is sent at n seconds; a trial's plan starts at 0."""

    def answer(
        self,
        index: int = 0,
        *,
        text: str = "",
        kind: Any = "text",
        tpot_ms: float = 10.0,
        ttft_ms: float = 50.0,
        tokens: int = 21,
        **fields: Any,
    ) -> RequestRecord:
        """A good answer of `tokens` tokens in two events; `text` is its own for each index unless given."""
        text = text or f"answer {index} is a sentence of its own"
        sent_ns = index * S
        first_ns = sent_ns + round(ttft_ms * MS)
        last_ns = first_ns + round((tokens - 1) * tpot_ms * MS)
        known: dict[str, Any] = {
            "measured": True,
            "outcome": "ok",
            "due_ns": None,
            "done_ns": last_ns,
            "finish_reason": "stop",
            "usage": TokenUsage(50, tokens),
            "model": "m",
        }
        events = (Event(first_ns, kind, text[:1]), Event(last_ns, kind, text[1:]))
        known |= {"index": index, "request_id": f"r{index}", "sent_ns": sent_ns, "events": events}
        return RequestRecord(**(known | fields))

    def failed(self, index: int = 0, error: str = "HTTP 500", outcome: Any = "http_error") -> RequestRecord:
        return self.answer(index, outcome=outcome, error=error, events=(), usage=None, finish_reason=None)

    def answers(self, count: int = 20, **fields: Any) -> list[RequestRecord]:
        return [self.answer(i, **fields) for i in range(count)]

    def of(self, name: str, values: Iterable[float], **fields: Any) -> list[RequestRecord]:
        """An answer for each value of the field `name`."""
        own: list[dict[str, Any]] = [{name: float(value), **fields} for value in values]
        return [self.answer(i, **each) for i, each in enumerate(own)]

    def trial(
        self,
        records: Sequence[RequestRecord] | None = None,
        number: int = 1,
        *,
        state: Any = "done",
        facts: dict[str, str] | None = None,
        samples: Sequence[Sample] = (),
        **fields: Any,
    ) -> TrialView:
        known = Trial(
            "arm",
            number,
            state,
            plan_started_ns=0,
            records=tuple(self.answers() if records is None else records),
            facts=tuple(Fact(name, value, "the engine's log") for name, value in (facts or {}).items()),
            samples=tuple(samples),
            **fields,
        )
        return view(known, "inferometer")

    def case(self, *trials: TrialView, name: str = "base", arm: Arm | None = None, **fields: Any) -> ArmTrials:
        """`prompts`: what was asked, by index; by default every prompt differs from its first character on."""
        prompts = fields.pop("prompts", None) or [f"{chr(0x4E00 + i)} is prompt {i}" for i in range(60)]
        max_tokens = fields.pop("max_tokens", None)
        requests = {i: user_request(f"r{i}", text, max_tokens=max_tokens) for i, text in enumerate(prompts)}
        known: dict[str, Any] = {"arm": arm or Arm(engine="embedded", model="m.gguf"), "requests": requests, **fields}
        asking = (msgspec.structs.replace(one, asked=asked_of(one.records, requests)) for one in trials)
        return ArmTrials(name=name, trials=tuple(asking), **known)

    def sample(
        self, quantity: str, value: float, at_ns: int = S, *, device: str | None = None, pid: int | None = None
    ) -> Sample:
        return Sample(at_ns, "probe", quantity, value, pid, device)

    def as_trials(self, *trials: TrialView) -> list[TrialView]:
        """The same trials numbered from 1."""
        return [
            msgspec.structs.replace(one, trial=msgspec.structs.replace(one.trial, number=number))
            for number, one in enumerate(trials, start=1)
        ]


@pytest.fixture(scope="session")
def make() -> Make:
    return Make()
