"""What holds for every test, and a study written by hand."""

import itertools
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from inferometer.core.plan import Plan, PlanItem
from inferometer.core.record import Event, Fact, RequestRecord, ServerTimings, TokenUsage
from inferometer.core.request import user_request
from inferometer.core.spec import Arm, Spec
from inferometer.store import Store

settings.register_profile("no-deadline", deadline=None)  # a busy machine is no defect
settings.load_profile("no-deadline")

MS = 1_000_000

WAITING = ("cli", "faults", "load", "project", "report", "results", "study", "testing", "wild")
"""Folders whose tests start programs and wait for servers, for seconds each."""

WriteStudy = Callable[..., Path]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Each worker of pytest-xdist begins with its share of the tests that wait, so that the last ones are quick: the
    workers then end at about the same time. Tests of one file stay together, because they share fixtures."""
    here = Path(__file__).parent
    waiting = [
        item for item in items if item.path.is_relative_to(here) and item.path.relative_to(here).parts[0] in WAITING
    ]
    chosen = set(waiting)
    quick = [item for item in items if item not in chosen]
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    shares = zip(_shares(waiting, workers), _shares(quick, workers), strict=True)
    items[:] = [item for share in shares for of_kind in share for item in of_kind]


def _shares(items: Sequence[pytest.Item], count: int) -> list[Sequence[pytest.Item]]:
    edges = [len(items) * share // count for share in range(count + 1)]
    return [items[begin:end] for begin, end in itertools.pairwise(edges)]


@pytest.fixture
def write_study(tmp_path: Path) -> WriteStudy:
    """Writes a study of two requests and a warm-up, whose numbers can be made in the head, and gives its folder.

    `gap_ms`: of each arm, from token to token. Each request has its first token 50 ms after sending, three tokens in
    three chunks, and is followed by the next. Trial n's gaps are n % longer, so that trials differ a little. The arms
    in `drafts` drafted two tokens for each request, of which one was accepted.
    """

    hours = itertools.count(1)  # each study is of its own hour

    def write(
        name: str,
        gap_ms: dict[str, float],
        *,
        trials: int = 3,
        facts: dict[str, str] | None = None,
        machine: dict[str, str] | None = None,
        prompts: tuple[str, ...] = ("why?", "how?"),
        text: str = "ab",
        drafts: tuple[str, ...] = (),
        **fields: Any,
    ) -> Path:
        folder, hour = tmp_path / name, next(hours)
        known: dict[str, Any] = {"name": name} | fields
        spec = Spec(arms={arm: Arm(engine="embedded", model="m.gguf") for arm in gap_ms}, **known)
        store = Store.create(folder, spec)
        asked = [user_request(f"r{i}", text, max_tokens=3, tags={"task": "explain"}) for i, text in enumerate(prompts)]
        warm_up = PlanItem(0, user_request("w", "warm up", max_tokens=3), None, measured=False)
        items = (warm_up, *(PlanItem(i, request, None) for i, request in enumerate(asked, start=1)))
        store.set_meta("plan", Plan(items, 1, 1))
        store.set_meta("machine", tuple(Fact(key, value, "test") for key, value in (machine or {"cpu": "A"}).items()))
        store.set_meta("workload", {"dataset": "two", "dataset_sha256": "0" * 64})
        for number in range(1, trials + 1):
            for place, (arm, gap) in enumerate(gap_ms.items()):
                trial_id = store.begin_trial(arm, number, False, f"2026-05-04T{hour:02}:{number:02}:{place:02}+00:00")
                store.set_plan_started(trial_id, 1000 * MS)
                at_ns = 0
                for item in items:
                    record = _answer(item, at_ns, gap * (1 + number / 100), text, arm in drafts)
                    at_ns = max(1000 * MS, record.done_ns)
                    store.add_record(trial_id, record)
                known = {"engine_version": "b1", "model_file": "m.gguf", "model_head_sha256": "a" * 64} | (facts or {})
                told = tuple(Fact(key, value, "test") for key, value in known.items())
                store.end_trial(trial_id, "done", "", told, ())
        store.close()
        (folder / "logs" / "arm-1.log").write_text("an engine's words\n")
        return folder

    return write


def _answer(item: PlanItem, at_ns: int, gap_ms: float, text: str, drafts: bool) -> RequestRecord:
    first_ns, gap_ns = at_ns + 50 * MS, round(gap_ms * MS)
    events = (
        Event(at_ns + 40 * MS, "role"),
        Event(first_ns, "text", text, 1),
        Event(first_ns + gap_ns, "text", text, 1),
        Event(first_ns + 2 * gap_ns, "text", text, 1),
        Event(first_ns + 2 * gap_ns, "done"),
    )
    return RequestRecord(
        index=item.index,
        request_id=item.request.id,
        measured=item.measured,
        outcome="ok",
        due_ns=None,
        sent_ns=at_ns,
        done_ns=events[-1].at_ns,
        events=events,
        status=200,
        finish_reason="length",
        usage=TokenUsage(4, 3, 1),
        timings=ServerTimings(
            prompt_ms=49.0,
            predicted_n=3,
            predicted_ms=2 * gap_ms,
            draft_n=2 if drafts else 0,
            draft_n_accepted=int(drafts),
        ),
        model="m",
        coalesced=1,
    )
