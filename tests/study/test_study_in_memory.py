"""A run hands on the study that a reader of its folder would get, without reading the folder."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from inferometer.core.schedule import Closed
from inferometer.core.spec import Arm, Spec
from inferometer.core.workload_settings import Builtin
from inferometer.report import json_report
from inferometer.results.read import read_study
from inferometer.results.study_comparison import comparison_of
from inferometer.study.loop import StudyRun, run_study
from inferometer.study.progress import EngineReady, TrialEnded
from inferometer.testing.scripted_server import ScriptedServer, inference_server

NOTHING_THERE = Arm(engine="external", url="http://127.0.0.1:9", model="none", ready_timeout_s=0.1)


@pytest.fixture
def server() -> Iterator[Arm]:
    with ScriptedServer(inference_server(10, 0.0, 0.001)) as server:
        yield Arm(engine="external", url=server.url, model="scripted", env={"A_TOKEN": "a-secret-of-this-arm"})


def spec(arms: dict[str, Arm], **fields: object) -> Spec:
    known: dict[str, object] = {
        "workload": Builtin(num_prompts=4, max_tokens=10),
        "schedule": Closed(2),
        "tokenizer": "none",
        "trials": 2,
    }
    return Spec(arms=arms, **(known | fields))  # pyright: ignore[reportArgumentType] # fields of Spec


def assert_equals_its_folder(run: StudyRun) -> None:
    assert run.study is not None
    assert run.study == read_study(run.folder)
    in_memory, read = comparison_of([run.study], "inferometer"), comparison_of([run.folder], "inferometer")
    assert json_report.render(in_memory) == json_report.render(read)


@pytest.mark.parametrize(
    "fields",
    [{}, {"until": "±50%", "max_trials": 3}, {"on_failure": "retry"}, {"on_failure": "stop"}],
    ids=["usual", "until", "retry", "stop"],
)
def test_the_final_table_equals_that_of_the_folder(
    fields: dict[str, object], server: Arm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    run = run_study(spec({"one": server, "gone": NOTHING_THERE}, **fields), tmp_path / "s")
    assert any(isinstance(progress, TrialEnded) for progress in list(run))
    assert_equals_its_folder(run)


def test_outputs_that_our_tokenizer_counted_are_in_memory_too(tmp_path: Path):
    tiny = Arm(engine="embedded", model="standin:tiny", context=4096, threads=1)
    run = run_study(spec({"tiny": tiny}, tokenizer="server", trials=1), tmp_path / "s")
    list(run)
    assert run.study is not None
    assert {record.our_tokens for record in run.study.trials[0].records if record.measured} == {10}
    assert_equals_its_folder(run)


def test_a_resumed_study_has_its_earlier_trials(server: Arm, tmp_path: Path):
    first = run_study(spec({"one": server, "other": server}), tmp_path / "s")
    progress = iter(first)
    next(one for one in progress if isinstance(one, TrialEnded))
    next(one for one in progress if isinstance(one, EngineReady))
    progress.close()
    assert first.study is not None
    assert [trial.state for trial in first.study.trials] == ["done", "failed"]
    resumed = run_study(spec({"one": server, "other": server}), tmp_path / "s", resume=True)
    began = [one.number for one in resumed if isinstance(one, TrialEnded)]
    assert len(began) == 3
    assert_equals_its_folder(resumed)
