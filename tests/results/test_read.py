"""What a study folder's contents mean, once read."""

import re
from pathlib import Path

import msgspec
import pytest

from inferometer.analysis.validity import ArmTrials
from inferometer.base.errors import RequestWrong
from inferometer.core.plan import Plan, PlanItem
from inferometer.core.record import Event, Fact, RequestRecord, ServerTimings, TokenUsage, Trial
from inferometer.core.request import user_request
from inferometer.core.spec import Arm, Sampling, Spec
from inferometer.metrics.summary import view
from inferometer.results.metric_names import known_metrics
from inferometer.results.read import Study
from inferometer.results.study_comparison import arms_speculation

ASKED = PlanItem(0, user_request("r0", "why?", max_tokens=8, prompt_tokens=3), None)


def study(item: PlanItem = ASKED, concurrency: int | None = 1, **fields) -> Study:
    spec = Spec(arms={"only": Arm(engine="embedded", model="m.gguf")})
    return Study(Path(), spec, (), plan=Plan((item,), concurrency, seed=1), **fields)


def changed(**fields) -> PlanItem:
    return msgspec.structs.replace(ASKED, request=msgspec.structs.replace(ASKED.request, **fields))


def test_the_same_requests_are_one_plan_however_a_tokenizer_counts_them():
    assert study(changed(prompt_tokens=4)).plan_id == study().plan_id != ""
    assert Study(Path(), study().spec, ()).plan_id == ""


@pytest.mark.parametrize(
    ("of_study", "of_arm", "limit"),
    [
        ({}, {}, 8),
        ({"max_tokens": 4}, {}, 4),
        ({"max_completion_tokens": 4}, {}, 4),
        ({"max_tokens": 4}, {"max_tokens": 2}, 2),
        ({"max_tokens": None}, {}, 8),  # the limit is sent under its other name
    ],
)
def test_the_limit_of_a_request_is_the_one_that_was_sent(of_study: dict, of_arm: dict, limit: int):
    spec = Spec(arms={"only": Arm("external", request=of_arm)}, sampling=Sampling(extra_body=of_study))
    made = msgspec.structs.replace(study(), spec=spec)
    record = RequestRecord(0, "r0", True, "ok", None, 0, 5, events=(Event(5, "text", "a"),))
    assert made.view(Trial("only", 1, "done", 0, (record,)), "inferometer").asked.max_tokens.tolist() == [limit]


@pytest.mark.parametrize(
    "other",
    [
        study(changed(max_tokens=9)),
        study(changed(messages=user_request("r0", "how?").messages)),
        study(msgspec.structs.replace(ASKED, due_ns=5)),
        study(concurrency=2),
    ],
)
def test_another_length_prompt_time_or_concurrency_is_another_plan(other: Study):
    assert other.plan_id != study().plan_id


@pytest.mark.parametrize(
    ("facts", "cores"),
    [
        ({"cpu_cores_usable": "2", "cpu_cores_logical": "64"}, 64),  # what others use is read of all 64
        ({"cpu_cores_usable": "2"}, 2),
        ({"cpu_cores_logical": "unknown"}, None),
        ({}, None),
    ],
)
def test_the_machine_s_cores_are_all_that_it_has(facts: dict[str, str], cores: int | None):
    machine = tuple(Fact(name, value, "psutil") for name, value in facts.items())
    assert study(machine=machine).cores == cores


def test_speculation_is_held_against_the_first_arm_that_drafted_nothing_wherever_its_draft_was_asked_for():
    """The first arm's draft is in its own flags, so that its `draft:` is empty: it is no arm without a draft."""

    def case(name: str, step_ms: int, **drafted: int) -> ArmTrials:
        events = tuple(Event((100 + step_ms * i) * 1_000_000, "text", "x") for i in range(21))
        timings = ServerTimings(predicted_n=21, **drafted)
        answer = RequestRecord(
            0, "r", True, "ok", None, 0, events[-1].at_ns, events=events, usage=TokenUsage(5, 21), timings=timings
        )
        arm = Arm(engine="llama-server", model="m.gguf", args=("-md", "d.gguf") if drafted else ())
        return ArmTrials(name, arm, (view(Trial(name, 1, "done", 0, (answer,))),), {})

    (found,) = arms_speculation([case("draft", 10, draft_n=20, draft_n_accepted=15), case("base", 20)])
    assert (found.arm, found.baseline) == ("draft", "base")
    assert found.measured == 2.0


def test_metrics_are_chosen_by_key_label_or_group():
    assert known_metrics("duration, Median TTFT ,ttft,speculation,Time to First Token") == (
        "duration",
        "median_ttft_ms",
        "mean_ttft_ms",
        "p99_ttft_ms",
        "drafted_tokens",
        "accepted_tokens",
        "acceptance_rate_percent",
        "accepted_per_step",
        "mean_draft_length",
        "mean_accepted_length",
    )


@pytest.mark.parametrize(
    ("names", "said"),
    [
        ("medan_ttft_ms", "Did you mean 'median_ttft_ms'?"),
        ("duration,throughputs", "Did you mean the group 'throughput'?"),
        ("specul", "Did you mean the group 'speculation'?"),
        (" , ", "--metrics is empty"),
    ],
)
def test_a_metric_that_there_is_not_is_refused_with_the_nearest(names: str, said: str):
    with pytest.raises(RequestWrong, match=re.escape(said)):
        known_metrics(names)
