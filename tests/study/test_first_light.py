"""The main job on real parts: a real llama.cpp, two arms, streamed HTTP, real memory, the table."""

import json
from pathlib import Path

import pytest

from inferometer.analysis.comparison import Comparison
from inferometer.core.record import RequestRecord
from inferometer.core.spec import Arm, Draft, Spec
from inferometer.core.workload_settings import Builtin
from inferometer.report import json_report
from inferometer.results.read import Study, read_study
from inferometer.results.study_comparison import comparison_of
from inferometer.study.loop import run_study
from inferometer.study.progress import (
    EngineReady,
    FindingRaised,
    OrderChosen,
    PlanReady,
    RequestsProgress,
    TrialBegan,
    TrialEnded,
)

TINY = Arm(engine="embedded", model="standin:tiny", context=4096, threads=1)
SPEC = Spec(
    trials=1,
    name="tiny",
    arms={
        "baseline": TINY,
        "draft": Arm(
            engine="embedded",
            model="standin:tiny",
            context=4096,
            threads=1,
            draft=Draft("standin:tiny", n_max=4, n_min=1, p_min=0.0),
        ),
    },
    workload=Builtin(num_prompts=5, max_tokens=24),
)


@pytest.fixture(scope="module")
def progress_and_study(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[object], Study]:
    folder = tmp_path_factory.mktemp("first") / "study"
    return list(run_study(SPEC, folder)), read_study(folder)


@pytest.fixture(scope="module")
def study(progress_and_study: tuple[list[object], Study]) -> Study:
    return progress_and_study[1]


@pytest.fixture(scope="module")
def comparison(study: Study) -> Comparison:
    return comparison_of([study.folder], "inferometer")


def measured(study: Study, arm: str) -> list[RequestRecord]:
    (trial,) = [trial for trial in study.trials if trial.arm == arm]
    return [record for record in trial.records if record.measured]


def test_progress_tells_the_story_in_order(progress_and_study: tuple[list[object], Study]):
    kinds = [type(progress) for progress in progress_and_study[0]]
    once = [kind for kind, before in zip(kinds, [None, *kinds], strict=False) if kind is not before]
    until_ready = [kind for kind in once if kind in (TrialBegan, EngineReady, OrderChosen)]
    assert until_ready == [TrialBegan, EngineReady, OrderChosen, TrialBegan, EngineReady]  # one start after the other
    assert [kinds.count(kind) for kind in (PlanReady, TrialEnded)] == [2, 2]
    last_ready = len(once) - once[::-1].index(PlanReady)
    assert once.index(EngineReady) < once.index(PlanReady) < last_ready
    end = [RequestsProgress, TrialEnded]
    assert once[last_ready:] in ([*end, FindingRaised], [*end, *end, FindingRaised])
    assert "draft differs from baseline in force: draft" in str(progress_and_study[0][-1])


def test_both_arms_did_the_same_work_and_gave_the_same_text(study: Study):
    baseline, draft = measured(study, "baseline"), measured(study, "draft")
    assert [record.request_id for record in baseline] == [record.request_id for record in draft]
    assert [record.outcome for record in baseline + draft] == ["ok"] * 10
    assert [record.text for record in baseline] == [record.text for record in draft]
    assert all(record.usage and record.usage.completion_tokens == 24 for record in baseline)


def test_the_draft_is_really_in_force(study: Study, comparison: Comparison):
    assert all(record.timings and record.timings.draft_n for record in measured(study, "draft"))
    assert all(record.timings and not record.timings.draft_n for record in measured(study, "baseline"))
    rows = {row.metric: row for row in comparison.rows}
    assert rows["drafted_tokens"].values["baseline"] == 0
    assert rows["accepted_tokens"].values["draft"] > 0
    assert 1 < rows["mean_accepted_length"].values["draft"] <= 5


def test_what_is_in_force_is_kept_with_the_trial(study: Study):
    facts = {trial.arm: {fact.name: fact.value for fact in trial.facts} for trial in study.trials}
    assert [facts[arm]["in_force_draft"] for arm in ("baseline", "draft")] == ["off", "on"]
    assert facts["draft"]["in_force_context"] == "4096"
    assert facts["draft"]["in_force_gpu_layers"] == "0/4"
    drafted = sum(record.timings.draft_n or 0 for record in measured(study, "draft") if record.timings)
    assert int(facts["draft"]["spec_log_drafted_tokens"]) >= drafted  # warm-ups are in it too
    assert float(facts["draft"]["spec_log_draft_ms"]) > 0
    assert not [name for name in facts["baseline"] if name.startswith("spec_log_")]


def test_memory_is_that_of_the_engine_s_processes(study: Study, comparison: Comparison):
    (row,) = [row for row in comparison.rows if row.label == "Memory Usage (GiB)"]
    assert all(value is not None and 0.005 < value < 2 for value in row.values.values())
    assert any(note.startswith("Memory Usage: peak PSS") for note in comparison.notes)


def test_every_row_of_the_seed_comes_first_and_in_its_order(comparison: Comparison):
    document = json.loads(json_report.render(comparison))
    assert [row["label"] for row in document["rows"]][:17] == [
        "Memory Usage (GiB)",
        "Successful requests",
        "Benchmark duration (s)",
        "Total input tokens",
        "Total generated tokens",
        "Request throughput (req/s)",
        "Output token throughput (tok/s)",
        "Total Token throughput (tok/s)",
        "Mean TTFT (ms)",
        "Median TTFT (ms)",
        "P99 TTFT (ms)",
        "Mean TPOT (ms)",
        "Median TPOT (ms)",
        "P99 TPOT (ms)",
        "Mean ITL (ms)",
        "Median ITL (ms)",
        "P99 ITL (ms)",
    ]
    assert document["arms"] == ["baseline", "draft"]
    throughput = document["rows"][6]
    expected = 100 * (throughput["values"]["draft"] / throughput["values"]["baseline"] - 1)
    assert throughput["difference_percent"] == pytest.approx(expected)


def test_any_metric_dialect_can_be_had_from_one_run(study: Study):
    for dialect in ("inferometer", "vllm-0.6.5", "vllm-0.33"):
        rows = {row.metric: row.values for row in comparison_of([study.folder], dialect).rows}
        assert rows["total_output_tokens"]["baseline"] > 0
        assert rows["mean_ttft_ms"]["baseline"] > 0


def test_the_facts_say_what_ran(study: Study):
    facts = {fact.name: fact for fact in study.trials[1].facts}
    assert facts["model_file"].value.endswith(".gguf")
    assert len(facts["model_head_sha256"].value) == 64
    assert facts["draft_file"].value != facts["model_file"].value
    assert "llama.cpp" in facts["engine_version"].value
    assert all(fact.source for fact in facts.values())


def test_the_engine_s_log_is_kept(study: Study):
    assert sorted(path.name for path in (study.folder / "logs").iterdir()) == ["baseline-1.log", "draft-1.log"]
    assert (study.folder / "logs" / "draft-1.log").stat().st_size > 0


def test_a_prompt_is_not_taken_from_the_cache(study: Study):
    cached = [record.timings and record.timings.cache_n for record in measured(study, "baseline")]
    # The chat template's first tokens are every prompt's; more than that would measure the cache.
    assert cached
    assert all(count is not None and count < 16 for count in cached)


def test_a_failed_trial_is_kept_and_the_next_one_runs(tmp_path: Path):
    spec = Spec(
        trials=1,
        arms={
            "gone": Arm(engine="external", url="http://127.0.0.1:9", model="m"),
            "there": TINY,
        },
        workload=Builtin(num_prompts=1, max_tokens=4),
        warmups=0,
    )
    ended = [progress for progress in run_study(spec, tmp_path / "s") if isinstance(progress, TrialEnded)]
    assert "nothing answers at http://127.0.0.1:9" in ended[0].error
    assert ended[1].error == ""
    states = [(trial.arm, trial.state) for trial in read_study(tmp_path / "s").trials]
    assert states == [("gone", "failed"), ("there", "done")]


def test_the_table_says_that_its_models_are_stand_ins(comparison: Comparison):
    assert "The model is not a real model but a stand-in 3x256, random weights of seed 1" in comparison.notes
    assert "draft: The draft is not a real model but a stand-in 1x64, random weights of seed 1" in comparison.notes
