"""Engines that die, hang, run out of memory or fall mute: the trial fails with the reason, and the study goes on."""

import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from warm_program import run

from inferometer.results.read import Study, read_study
from inferometer.results.study_comparison import comparison_of
from inferometer.testing import llama_server_shim
from inferometer.testing.real_program import processes_with, scripted_engine

Tell = Callable[..., None]
STUDY = """
workload: {{kind: builtin, num_prompts: 6, max_tokens: 5}}
schedule: {{kind: closed, concurrency: 1}}
tokenizer: none
trials: {trials}
{more}
arms:
  bad: {{engine: command, command: {bad}, env: {{FOLDER: "{folder}"}}, ready_timeout_s: 20}}
  good: {{base: bad, command: {good}}}
"""


def played(
    folder: Path, *faults: str, more: str = "", trials: int = 1, flags: tuple[str, ...] = ()
) -> tuple[int, str, Study]:
    """Exit code, standard error and study of an arm that breaks so and one that is well."""
    good, bad = scripted_engine("--gap-ms", "5"), scripted_engine("--gap-ms", "5", "--fault", *faults)
    text = STUDY.format(bad=bad, good=good, folder=folder, more=more, trials=trials)
    (folder / "study.yaml").write_text(text)
    code, _, said = run("run", "study.yaml", "--out", "s", *flags, cwd=folder)
    assert processes_with(str(folder)) == []
    return code, said, read_study(folder / "s")


def states(study: Study) -> list[tuple[str, int, str]]:
    return [(trial.arm, trial.number, trial.state) for trial in study.trials]


@pytest.mark.parametrize(
    ("fault", "faults", "more", "says"),
    [
        ("kill -9 of the engine in a trial", ("kill", "--at", "4"), "", "ended during the trial: killed by SIGKILL"),
        ("the engine exits in a trial", ("exit", "--at", "4"), "", "ended during the trial: exit code 1"),
        ("the engine is killed in the warm-up", ("kill", "--at", "1"), "", "ended during the trial: killed by SIGKILL"),
        ("out of memory at load", ("load",), "", "ended before its first token: killed by SIGKILL: out of memory?"),
        (
            "an engine that hangs",
            ("hang", "--at", "4"),
            "timeouts: {first_token_s: 0.5, between_tokens_s: 0.5}",
            "has stopped answering: at least 3 requests ended without a byte, and a request for one more token gave",
        ),
        ("health, but no tokens", ("mute", "--at", "0"), "", "answers /v1/chat/completions with status 200 and no tok"),
        (
            "health, but no tokens any more",
            ("mute", "--at", "2"),
            "",
            "none of 6 requests was answered (no_tokens 6)",
        ),
    ],
)
def test_the_trial_fails_with_the_reason_and_the_log_s_end_and_the_next_one_runs(
    tmp_path: Path, tell: Tell, fault: str, faults: tuple[str, ...], more: str, says: str
):
    code, said, study = played(tmp_path, *faults, more=more)
    assert code == 1
    assert states(study) == [("bad", 1, "failed"), ("good", 1, "done")]
    bad, good = study.trials
    assert says in bad.error
    assert "The end of its log" in bad.error
    assert "  the scripted engine loads its model" in bad.error
    assert says in said
    assert [record.outcome for record in good.records] == ["ok"] * 7
    before = int(faults[2]) - 2 if len(faults) > 1 and faults[2] == "4" else 0
    kept = [record for record in bad.records if record.measured and record.ok]
    assert len(kept) == before
    tell(fault, tried=1, lost=before - len(kept), seen="the trial failed with the log's end; the next one ran")


def test_an_engine_that_has_too_little_memory_to_load(tmp_path: Path, tell: Tell):
    """A real limit (ulimit -v), and a real llama.cpp that meets it."""
    text = """
workload: {kind: builtin, num_prompts: 2, max_tokens: 4}
tokenizer: none
trials: 1
arms:
  small: {engine: command, model: "standin:tiny", shell: true, ready_timeout_s: 60,
          command: "ulimit -v 2000000; exec PYTHON -m SHIM -m {model} --port {port} -c 4000000"}
"""
    (tmp_path / "study.yaml").write_text(
        text.replace("PYTHON", sys.executable).replace("SHIM", llama_server_shim.__name__)
    )
    code, _, said = run("run", "study.yaml", "--out", "s", cwd=tmp_path)
    assert code == 1
    (trial,) = read_study(tmp_path / "s").trials
    assert trial.state == "failed"
    assert "ended before its first token" in trial.error
    assert "The end of its log" in said
    assert "Try: It did not fit into memory" in said
    tell("out of memory at load", tried=1, lost=0, seen="the trial failed with the log's end")


def test_after_a_failed_trial_stop_ends_the_study(tmp_path: Path):
    code, said, study = played(tmp_path, "kill", "--at", "3", flags=("--on-failure", "stop"), more="order: trials")
    assert code == 1
    assert states(study) == [("bad", 1, "failed")]
    assert study.stopped == "bad, trial 1 failed, and on_failure is stop"
    assert "killed by SIGKILL" in said


def test_after_a_failed_trial_retry_plays_it_once_more_and_then_the_next(tmp_path: Path):
    code, said, study = played(tmp_path, "kill", "--at", "3", more="on_failure: retry")
    assert code == 1
    assert said.count("trial 1/2: bad #1") == 2
    assert states(study) == [("bad", 1, "failed"), ("good", 1, "done")]
    (retried,) = (finding for finding in study.trials[0].findings if finding.code == "retried")
    assert "killed by SIGKILL" in retried.message


def test_a_trial_that_is_well_the_second_time_counts_and_says_so(tmp_path: Path):
    """The engine breaks only where it finds no file of its first start."""
    flag = tmp_path / "was-here"
    good = scripted_engine("--gap-ms", "5")[1:-1].replace(",", "").replace('"', "")
    line = f"test -e {flag} && exec {good}; touch {flag}; exec {good} --fault kill --at 3"
    text = STUDY.format(bad="unused", good="unused", folder=tmp_path, more="on_failure: retry", trials=1)
    text = text[: text.index("arms:")] + f"arms:\n  only: {{engine: command, shell: true, command: '{line}'}}\n"
    (tmp_path / "study.yaml").write_text(text)
    code, _, said = run("run", "study.yaml", "--out", "s", cwd=tmp_path)
    assert code == 0, said
    (trial,) = read_study(tmp_path / "s").trials
    assert (trial.state, trial.error) == ("done", "")
    assert [record.outcome for record in trial.records] == ["ok"] * 7
    assert "retried" in {finding.code for finding in trial.findings}


def test_an_engine_that_is_kept_between_trials_is_started_anew_after_it_died(tmp_path: Path):
    code, _, study = played(tmp_path, "kill", "--at", "10", more="restart: never", trials=3)
    assert code == 1
    assert [(number, state) for arm, number, state in states(study) if arm == "bad"] == [
        (1, "done"),
        (2, "failed"),
        (3, "done"),
    ]
    (second,) = (trial for trial in study.trials if (trial.arm, trial.number) == ("bad", 2))
    assert f"killed by {signal.SIGKILL.name}" in second.error


def test_an_engine_that_dies_in_an_interleaved_round_costs_its_own_trial_and_the_pair_until_resume(tmp_path: Path):
    """The engine breaks only at its first start."""
    flag = tmp_path / "was-here"
    good = scripted_engine("--gap-ms", "5")
    words = good[1:-1].replace(",", "").replace('"', "")
    line = f"test -e {flag} && exec {words}; touch {flag}; exec {words} --fault kill --at 4"
    text = STUDY.format(bad="unused", good=good, folder=tmp_path, more="order: requests", trials=3)
    (tmp_path / "study.yaml").write_text(text.replace("command: unused", f"shell: true, command: '{line}'").replace(
        "good: {base: bad, ", "good: {base: bad, shell: false, "))  # fmt: skip
    code, _, said = run("run", "study.yaml", "--out", "s", cwd=tmp_path)
    assert code == 1, said
    study = read_study(tmp_path / "s")
    assert [one for one in states(study) if one[2] != "done"] == [("bad", 1, "failed")]
    kept = next(trial for trial in study.trials if (trial.arm, trial.number) == ("good", 1))
    assert [record.outcome for record in kept.records] == ["ok"] * 7
    comparison = comparison_of([study], "inferometer")
    assert [(one.arm, one.trial) for one in comparison.findings if one.code == "round-incomplete"] == [("good", 1)]
    assert comparison.trials == {"bad": 2, "good": 3}
    speed = {
        (one.arm, one.number): study.summary(one, "inferometer").values["output_throughput"] for one in study.trials
    }
    ratios = [speed["good", number] / speed["bad", number] for number in (2, 3)]
    assert comparison.primary_row.against("bad", "good").ratio == pytest.approx((ratios[0] * ratios[1]) ** 0.5)
    code, _, said = run("run", "study.yaml", "--out", "s", "--resume", cwd=tmp_path)
    assert code == 0, said
    assert {state for _, _, state in states(read_study(tmp_path / "s"))} == {"done"}
