"""A search over a server whose speed is a flag: what it finds, refuses, records and continues."""

import sys
from pathlib import Path

import msgspec
import pytest

from inferometer.analysis.search.result import BASELINE, TuneResult
from inferometer.base.errors import RequestWrong
from inferometer.core.search_settings import Budget, Parameter, Search
from inferometer.core.spec import Arm, Spec
from inferometer.core.workload_settings import Builtin
from inferometer.report.search_report import markdown, page_part, terminal_lines
from inferometer.results.read import read_study
from inferometer.study.tuned_arms import tuned_arm
from inferometer.study.tuning import Tuning

SERVER = (sys.executable, "-m", "inferometer.testing.scripted_engine", "--port", "{port}", "--gap-ms", "30")
SEARCH = Search(
    {"args.--gap-ms": Parameter(choice=("5", "60")), "args.--fault": Parameter(choice=("", "load"))},
    budget=Budget(rounds=5),
    confirm_rounds=3,
)


def spec(**fields: object) -> Spec:
    known: dict[str, object] = {
        "arms": {"fake": Arm(engine="command", model="m", command=SERVER)},
        "workload": Builtin(num_prompts=4, max_tokens=5),
        "tokenizer": "none",
        "warmups": 0,
    }
    return Spec(**(known | fields))  # pyright: ignore[reportArgumentType] # fields of Spec


def tuned(tuning: Tuning) -> TuneResult:
    for run in tuning.runs():
        list(run)
    return tuning.result()


def test_the_fastest_setting_is_found_confirmed_and_reported(tmp_path: Path):
    result = tuned(Tuning(spec(), SEARCH, tmp_path / "s", {}, resume=False))
    assert result.decision.chosen == "--gap-ms 5, --fault (empty)", result.decision
    assert result.decision.difference is not None and result.decision.difference.low_percent > 0
    assert "held-out prompts" in result.decision.sentences[0]
    assert "--gap-ms 5" in result.command
    left = {one.name: one.left for one in result.tried}
    assert left["--gap-ms 5, --fault load"].startswith("failed: ")
    assert "behind the leader" in left["--gap-ms 60, --fault (empty)"]

    asked = [read_study(tmp_path / "s" / place).plan for place in ("steps/01", "confirmation")]
    searched, confirmed = ({item.request.messages for item in plan.measured} for plan in asked if plan is not None)
    assert searched.isdisjoint(confirmed)

    lines, text = terminal_lines(result), markdown(result, "gap")
    for shown in ("\n".join(lines), text):
        assert "Use --gap-ms 5" in shown
        assert "failed: " in shown
    drawings = page_part(result).drawings
    assert [title for title, _ in drawings] == list(SEARCH.parameters)
    assert "--gap-ms 5" in drawings[0][1].alt

    again = Tuning(spec(), SEARCH, tmp_path / "s", {}, resume=True)
    runs = list(again.runs_of_steps())
    assert runs == []  # a finished step is read, not played

    with pytest.raises(RequestWrong, match="continue it with --resume"):
        Tuning(spec(), SEARCH, tmp_path / "s", {}, resume=False)
    with pytest.raises(RequestWrong, match="other settings"):
        Tuning(spec(seed=2), SEARCH, tmp_path / "s", {}, resume=True)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"thread": Parameter(int=(1, 2))}, "no setting 'thread'. Did you mean 'threads'?"),
        ({"draft.n_max": Parameter(int=(1, 2))}, "the arm has no draft model"),
    ],
)
def test_a_parameter_that_the_arm_does_not_have_is_refused(parameters: dict, message: str, tmp_path: Path):
    with pytest.raises(RequestWrong, match=message.replace("?", r"\?")):
        Tuning(spec(), Search(parameters), tmp_path / "s", {}, resume=False)
    assert not (tmp_path / "s").exists()


def test_a_flag_that_the_engine_does_not_have_is_refused(tmp_path: Path):
    arm = Arm(engine="embedded", model="standin:tiny", context=512)
    search = Search({"args.-ubx": Parameter(choice=("1", "2"))})
    with pytest.raises(RequestWrong, match=r"args\.-ubx: .*-ub"):
        Tuning(spec(arms={"a": arm}), search, tmp_path / "s", {}, resume=False)


def test_a_budget_too_small_to_confirm_says_what_is_needed(tmp_path: Path):
    small = msgspec.structs.replace(SEARCH, budget=Budget(rounds=4))
    with pytest.raises(RequestWrong, match=r"Give at least budget: \{rounds: 5\}"):
        Tuning(spec(), small, tmp_path / "s", {}, resume=False)


def test_minutes_too_few_to_confirm_keep_the_baseline(tmp_path: Path):
    search = Search({"args.--gap-ms": Parameter(choice=("5", "20"))}, budget=Budget(minutes=0.001), confirm_rounds=3)
    result = tuned(Tuning(spec(), search, tmp_path / "s", {}, resume=False))
    assert result.decision.chosen == BASELINE
    assert "Nothing was confirmed" in result.decision.sentences[0]
    assert "Give at least budget: {minutes: " in result.notes[0]


def test_one_arm_is_the_baseline(tmp_path: Path):
    two = {name: Arm(engine="command", model="m", command=SERVER) for name in "ab"}
    with pytest.raises(RequestWrong, match="the study has 2"):
        Tuning(spec(arms=two), SEARCH, tmp_path / "s", {}, resume=False)


def test_a_flag_is_set_in_args_or_in_command():
    arm = Arm(engine="llama_server", model="m.gguf", args=("-ub", "512", "-fa", "on"))
    assert tuned_arm(arm, {"args.-ub": 128}).args == ("-ub", "128", "-fa", "on")
    command = tuned_arm(Arm(engine="command", command=SERVER), {"args.--gap-ms": 5}).command
    assert command[-2:] == ("--gap-ms", "5")
