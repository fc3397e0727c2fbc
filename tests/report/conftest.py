"""Studies written by hand, for the page: requests whose every token's time is given."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from inferometer.analysis.validity import ArmTrials
from inferometer.core.plan import Plan, PlanItem
from inferometer.core.record import Event, Fact, RequestRecord, Sample, ServerTimings, TokenUsage, Trial
from inferometer.core.request import Request, user_request
from inferometer.core.spec import Arm, Draft, Spec
from inferometer.metrics.summary import view
from inferometer.report.page import Page
from inferometer.results.study_page import page_of
from inferometer.store import Store

MS = 1_000_000
PLAN_STARTED_NS = 2_000 * MS
TAGS = ({"task": "write", "language": "python"}, {"task": "fix", "language": "go"})


class Make:
    """Plans start 2 s after their trial."""

    def record(
        self,
        index: int = 0,
        *,
        words: Sequence[str] = ("one ", "two ", "three ", "four"),
        ttft_ms: float = 100,
        gaps_ms: Sequence[float] | float = 10,
        at_ms: float | None = None,
        draft: tuple[int, int] | None = None,
        **fields: Any,
    ) -> RequestRecord:
        """Each word is a token and an event of its own. It is sent `at_ms` after the plan's start, by default a second
        after the one before. `draft`: drafted and accepted tokens."""
        gaps = [gaps_ms] * (len(words) - 1) if isinstance(gaps_ms, int | float) else list(gaps_ms)
        sent_ns = PLAN_STARTED_NS + round((index * 1000 if at_ms is None else at_ms) * MS)
        stamps = [sent_ns + round((ttft_ms + sum(gaps[:i])) * MS) for i in range(len(words))]
        known: dict[str, Any] = {
            "index": index,
            "request_id": f"r{index}",
            "measured": True,
            "outcome": "ok",
            "due_ns": None,
            "sent_ns": sent_ns,
            "done_ns": stamps[-1],
            "events": tuple(Event(at, "text", word) for at, word in zip(stamps, words, strict=True)),
            "finish_reason": "stop",
            "usage": TokenUsage(5, len(words)),
        }
        if draft is not None:
            known["timings"] = ServerTimings(predicted_n=len(words), draft_n=draft[0], draft_n_accepted=draft[1])
        return RequestRecord(**(known | fields))

    def failed(self, index: int = 0, **fields: Any) -> RequestRecord:
        known: dict[str, Any] = {"outcome": "http_error", "error": "HTTP 500", "events": (), "usage": None}
        return self.record(index, **(known | fields))

    def trial(
        self, records: Sequence[RequestRecord], number: int = 1, samples: Sequence[Sample] = (), **fields: Any
    ) -> Trial:
        known: dict[str, Any] = {"state": "done", "plan_started_ns": PLAN_STARTED_NS, "facts": FACTS}
        return Trial("arm", number, records=tuple(records), samples=tuple(samples), **(known | fields))

    def requests(self, count: int, text: str = "") -> list[Request]:
        return [user_request(f"r{i}", f"{text or 'What is'} {i}?", tags=TAGS[i % 2]) for i in range(count)]

    def case(self, name: str, *trials: Trial, requests: Sequence[Request] | None = None) -> ArmTrials:
        arm = Arm(engine="embedded", model="m.gguf")
        count = 1 + max((record.index for trial in trials for record in trial.records), default=0)
        asked = dict(enumerate(self.requests(count) if requests is None else requests))
        named = [msgspec.structs.replace(trial, arm=name) for trial in trials]
        return ArmTrials(name, arm, tuple(view(trial) for trial in named), asked)

    def folder(
        self, folder: Path, arms: dict[str, Sequence[Trial]], requests: Sequence[Request] | None = None, **fields: Any
    ) -> Path:
        """A study on the disk."""
        count = 1 + max((r.index for trials in arms.values() for trial in trials for r in trial.records), default=0)
        asked = self.requests(count) if requests is None else requests
        draft = Draft("d.gguf")
        known: dict[str, Any] = {"name": "By hand", "trials": max(map(len, arms.values()))} | fields
        spec = Spec(
            arms={
                name: Arm(engine="embedded", model="m.gguf", draft=draft if "draft" in name else None) for name in arms
            },
            **known,
        )
        store = Store.create(folder, spec)
        store.set_meta("plan", Plan(tuple(PlanItem(i, one, None) for i, one in enumerate(asked)), 1, 1))
        store.set_meta("machine", FACTS)
        for name, trials in arms.items():
            for trial in trials:
                trial_id = store.begin_trial(
                    name, trial.number, "draft" in name, f"2026-01-01T00:{sum(folder.name.encode()) % 60:02}:00+00:00"
                )
                if trial.plan_started_ns is not None:
                    store.set_plan_started(trial_id, trial.plan_started_ns)
                for record in trial.records:
                    store.add_record(trial_id, record)
                store.add_samples(trial_id, trial.samples)
                store.end_trial(trial_id, trial.state, trial.error, trial.facts, ())
        store.close()
        return folder

    def page(self, folder: Path, arms: dict[str, Sequence[Trial]], requests: Sequence[Request] | None = None) -> Page:
        return page_of([self.folder(folder, arms, requests)], "inferometer")

    def two_arms(self, requests: int = 8, trials: int = 3) -> dict[str, list[Trial]]:
        """A baseline, and a draft that is a fifth faster, brings its tokens in bursts of two, stalls once, and answers
        request 1 otherwise from its third word on. Memory, power and clocks are read ten times a second."""
        base = [
            self.trial(
                [self.record(i, words=WORDS, ttft_ms=100 + 10 * i + n, gaps_ms=20) for i in range(requests)],
                n + 1,
                self.samples(requests, 8.0),
            )
            for n in range(trials)
        ]
        gaps = [0.1, 30.0] * 5 + [0.1]
        stalled = [*gaps[:5], 300.0, *gaps[6:]]
        draft = [
            self.trial(
                [
                    self.record(
                        i,
                        words=OTHER_WORDS if i == 1 else WORDS,
                        ttft_ms=110 + 10 * i + n,
                        gaps_ms=stalled if i == 2 else gaps,
                        draft=(10, 5 + i % 5),
                    )
                    for i in range(requests)
                ],
                n + 1,
                self.samples(requests, 9.5),
            )
            for n in range(trials)
        ]
        return {"baseline": base, "draft": draft}

    def samples(self, seconds: int, memory_gib: float) -> list[Sample]:
        gpu = "GPU 0"
        return [
            Sample(at_ms * MS, "nvml", quantity, value, None, gpu)
            for at_ms in range(0, 2000 + 1000 * seconds, 100)
            for quantity, value in (
                ("gpu_memory_bytes", memory_gib * 1024**3 * min(1.0, (at_ms + 500) / 2000)),
                ("power_w", 100.0 if at_ms < 2000 else 300.0),
                ("sm_clock_mhz", 1800.0),
                ("gpu_temperature_c", 40.0 + at_ms / 1000),
            )
        ]


WORDS = ("def ", "add", "(a, ", "b):\n", "    ", "return ", "a ", "+ ", "b\n", "# ", "a ", "sum\n")
OTHER_WORDS = (*WORDS[:2], "(x, ", *WORDS[3:])
FACTS = (Fact("cpu_cores_logical", "2", "psutil"), Fact("engine_version", "b1", "its --version"))


@pytest.fixture(scope="session")
def make() -> Make:
    return Make()
