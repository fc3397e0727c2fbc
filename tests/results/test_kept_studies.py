"""Whole studies with a known truth: an arm against itself, and against servers that are slower by a known factor."""

from pathlib import Path

import pytest
from warm_program import inferometer

from inferometer.analysis.comparison import Comparison, Difference
from inferometer.core.schedule import Closed
from inferometer.core.spec import Arm, Sampling, Settle, Spec
from inferometer.core.workload_settings import Builtin
from inferometer.results.read import read_study
from inferometer.results.study_comparison import comparison_of
from inferometer.study.loop import run_study
from inferometer.study.progress import EngineReady, Settling, StoppingRuleChecked, TrialBegan
from inferometer.testing.scripted_server import ScriptedServer, inference_server

TOKENS = 40
GAP_S = 0.01


def difference(comparison: Comparison, metric: str) -> Difference:
    (found,) = next(row for row in comparison.rows if row.metric == metric).differences
    return found


def arm(server: ScriptedServer) -> Arm:
    return Arm(engine="external", url=server.url, model="scripted")


def spec(arms: dict[str, Arm], **fields: object) -> Spec:
    known: dict[str, object] = {
        "workload": Builtin(num_prompts=8, max_tokens=TOKENS),
        "schedule": Closed(4),
        "tokenizer": "none",
        "trials": 3,
    }
    return Spec(arms=arms, **(known | fields))  # pyright: ignore[reportArgumentType] # fields of Spec


def test_a_server_that_is_slower_by_a_known_factor_is_called_slower_by_about_that_factor(tmp_path: Path):
    """Each token comes at its own time after the request, so that the time per token is the gap: the ratio is known.
    One interval in twenty misses the truth by chance (tests/analysis/test_simulated_verdicts.py counts them), one of
    three times its width hardly ever."""
    with (
        ScriptedServer(inference_server(TOKENS, GAP_S, GAP_S, on_schedule=True)) as usual,
        ScriptedServer(inference_server(TOKENS, GAP_S, GAP_S * 1.5, on_schedule=True)) as slow,
    ):
        list(run_study(spec({"usual": arm(usual), "slow": arm(slow)}, metric="mean_tpot_ms"), tmp_path / "s"))
    comparison = comparison_of([tmp_path / "s"], "inferometer")
    assert not comparison.invalid
    tpot = difference(comparison, "mean_tpot_ms")
    assert (tpot.verdict, tpot.starts_verdict) == ("unknown", "slower")  # one start of each server
    width = tpot.high_percent - tpot.low_percent
    assert tpot.low_percent - width < 50 < tpot.high_percent + width
    assert 40 < tpot.percent < 60
    assert difference(comparison, "median_itl_per_token_ms").starts_verdict == "slower"
    assert difference(comparison, "output_throughput").starts_verdict == "slower"


def test_an_engine_against_itself_shows_no_difference(tmp_path: Path):
    """One study in twenty is called different by chance, which is what 5% means: here it must not be nearer to one in a
    thousand, and where it is not one of the twenty, the verdict must be that none is shown."""
    tiny = Arm(engine="embedded", model="standin:tiny", context=4096, threads=1)
    short = Builtin(num_prompts=8, max_tokens=16)
    list(run_study(spec({"one": tiny, "other": tiny}, schedule=Closed(1), workload=short), tmp_path / "s"))
    comparison = comparison_of([tmp_path / "s"], "inferometer")
    assert not comparison.invalid
    found = difference(comparison, "output_throughput")
    assert found.p_value > 0.001
    assert found.verdict in ("same", "inconclusive") or found.p_value < 0.05
    assert any("outputs identical to one: 8/8" in note for note in comparison.finding_texts("note"))


def test_a_study_goes_on_until_the_difference_is_known_well_enough_and_says_so(tmp_path: Path):
    with (
        ScriptedServer(inference_server(10, 0.0, 0.01, on_schedule=True)) as one,
        ScriptedServer(inference_server(10, 0.0, 0.03, on_schedule=True)) as other,
    ):
        asked = spec(
            {"one": arm(one), "other": arm(other)}, trials=2, until="±20%", max_trials=8, metric="mean_tpot_ms"
        )
        told = list(run_study(asked, tmp_path / "s"))
    looks = [progress for progress in told if isinstance(progress, StoppingRuleChecked)]
    trials = sum(isinstance(progress, TrialBegan) for progress in told)
    assert [look.enough for look in looks] == [False] * (len(looks) - 1) + [True]
    assert trials == 2 * len(looks)
    assert 3 <= len(looks) < 8  # two trials an arm say nothing to one who looks again and again
    comparison = comparison_of([tmp_path / "s"], "inferometer")
    assert comparison.looked_at
    assert comparison.stopped.endswith(("excludes differences smaller than 20%", "within ±20%"))
    assert difference(comparison, "mean_tpot_ms").starts_verdict == "slower"


@pytest.mark.parametrize("own_fields", [{}, {"cache_prompt": False}])
def test_an_engine_that_is_not_restarted_is_started_once_and_its_cache_helps_no_trial(
    own_fields: dict[str, bool], tmp_path: Path
):
    tiny = Arm(engine="embedded", model="standin:tiny", context=4096, threads=1)
    sampling = Sampling(extra_body=own_fields)
    asked = spec({"only": tiny}, schedule=Closed(1), restart="never", trials=2, sampling=sampling)
    told = list(run_study(asked, tmp_path / "s"))
    ready = [progress for progress in told if isinstance(progress, EngineReady)]
    assert len({progress.endpoint.pids for progress in ready}) == 1
    assert len(list((tmp_path / "s" / "logs").iterdir())) == 1
    found = comparison_of([tmp_path / "s"], "inferometer").findings
    assert not any(finding.code.startswith("cache-") for finding in found)


def test_the_machine_is_left_to_rest_between_trials_but_not_before_the_first(tmp_path: Path):
    with ScriptedServer(inference_server(2)) as server:
        told = list(run_study(spec({"only": arm(server)}, trials=2, settle=Settle(seconds=0.2)), tmp_path / "s"))
    kinds = [type(progress) for progress in told if isinstance(progress, TrialBegan | Settling)]
    assert kinds == [TrialBegan, Settling, TrialBegan]


def test_the_command_line_asks_for_the_same(tmp_path: Path):
    with (
        ScriptedServer(inference_server(10, 0.0, 0.01, on_schedule=True)) as one,
        ScriptedServer(inference_server(10, 0.0, 0.03, on_schedule=True)) as other,
    ):
        (tmp_path / "study.yaml").write_text(
            "workload: {kind: builtin, num_prompts: 4, max_tokens: 10}\ntokenizer: none\narms:\n"
            f"  one: {{engine: external, url: '{one.url}'}}\n  other: {{engine: external, url: '{other.url}'}}\n"
        )
        flags = "--trials 2 --until ±30% --max-trials 5 --metric tpot --effect 1 --out s --why".split()
        done = inferometer("run", "study.yaml", *flags, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    kept = read_study(tmp_path / "s").spec
    assert (kept.trials, kept.until, kept.max_trials, kept.metric) == (2, "±30%", 5, "mean_tpot_ms")
    assert "interim analysis: other:" in done.stderr
    assert "other: mean TPOT" in done.stdout
    shown = " ".join(done.stdout.split())
    assert "confidence sequence" in shown
    again = inferometer("compare", "s", "--effect", "1", "--starts-sd", "0.1%", "--why", cwd=tmp_path)
    assert "would show 1%" in " ".join(again.stdout.split()), again.stdout


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ("--until soon", "must be a percentage like ±2%"),
        ("--until 2% --max-trials 2", "max_trials: must be at least 4"),
        ("--metric speed", "unknown metric 'speed'"),
        ("--effect 0", "--effect must be between 0 and 100"),
        ("--trials 0", "trials: must be at least 1"),
    ],
)
def test_what_cannot_be_meant_is_refused(flags: str, said: str, tmp_path: Path):
    arms = "arms: {a: {engine: external, url: 'http://h:1'}, b: {engine: external, url: 'http://h:2'}}"
    (tmp_path / "study.yaml").write_text(arms)
    done = inferometer("run", "study.yaml", *flags.split(), cwd=tmp_path)
    assert done.returncode == 2
    assert said in done.stderr
