"""The answers of a study are checked after its last trial, and speed and right answers give one decision."""

import contextlib
import json
import os
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path

import msgspec
import psutil
import pytest

from inferometer.base.errors import RequestWrong
from inferometer.cli import main
from inferometer.core.schedule import Closed
from inferometer.core.spec import Arm, Quality, Spec
from inferometer.core.workload_settings import Builtin, WorkloadSettings
from inferometer.quality import sandbox
from inferometer.quality.sandbox import sandbox_state
from inferometer.quality.stored_checks import check_stored, problems_of
from inferometer.report import json_report, markdown, terminal
from inferometer.results.read import read_study
from inferometer.results.study_comparison import comparison_of
from inferometer.store import Store
from inferometer.study.loop import run_study
from inferometer.study.progress import CheckingAnswers, TrialEnded
from inferometer.testing.scripted_server import Received, ScriptedServer, Step, chat_stream, inference_server
from inferometer.workloads.catalog import settings_struct

COUNT = 60


def question(number: int) -> str:
    return f"What is {number} + {number}?"


def answering(right: int, gap_s: float):
    """A server that answers the first `right` questions right."""
    plain = inference_server(5, 0.0, 0.0)

    def answer(request: Received) -> Iterable[Step]:
        messages = request.body.get("messages") or [{}]
        asked = str(messages[-1].get("content", ""))
        if not request.body.get("stream") or not asked.startswith("What is "):
            return plain(request)
        number = int(asked.split()[2])
        total = 2 * number if number < right else 2 * number + 1
        return chat_stream(["The", " sum", " of", " these", " is", f" {total}"], 0.0, gap_s)

    return answer


@pytest.fixture
def arms() -> Iterator[dict[str, Arm]]:
    with ExitStack() as stack:
        servers = {
            "exact": stack.enter_context(ScriptedServer(answering(56, 0.02))),
            "fast": stack.enter_context(ScriptedServer(answering(37, 0.005))),
        }
        yield {name: Arm(engine="external", url=server.url, model="m") for name, server in servers.items()}


@pytest.fixture
def questions(tmp_path: Path) -> Path:
    path = tmp_path / "sums.jsonl"
    lines = [json.dumps({"question": question(n), "answer": f"#### {2 * n}"}) for n in range(COUNT)]
    path.write_text("\n".join(lines))
    return path


def settings(kind: str, **values: object) -> WorkloadSettings:
    return msgspec.convert({"kind": kind, **values}, settings_struct(kind))


def spec(arms: dict[str, Arm], path: Path, **fields: object) -> Spec:
    known: dict[str, object] = {
        "workload": settings("numeric", path=str(path)),
        "schedule": Closed(8),
        "tokenizer": "none",
        "trials": 3,
    }
    return Spec(arms=arms, **(known | fields))  # pyright: ignore[reportArgumentType] # fields of Spec


def test_a_faster_arm_with_fewer_right_answers_is_faster_but_worse_everywhere(arms, questions, tmp_path, capsys):
    run = run_study(spec(arms, questions), tmp_path / "s")
    events = list(run)
    checked = [place for place, one in enumerate(events) if isinstance(one, CheckingAnswers)]
    assert checked and checked[0] > max(place for place, one in enumerate(events) if isinstance(one, TrialEnded))
    assert run.study.trials == read_study(run.folder).trials
    comparison = comparison_of([run.folder], "inferometer")
    (found,) = comparison.quality
    assert (found.verdict, found.problems, found.lost, found.gained) == ("worse", 60, 19, 0)
    assert found.unstable == {"exact": 0, "fast": 0}
    document = json.loads(json_report.render(comparison))
    (decision,) = document["decision"]
    assert "× faster, −32 points: faster but worse" in decision
    for text in (terminal.render(comparison, width=400), markdown.render(comparison)):
        assert "faster but worse" in text
        assert "but its answers are worse" in text
    rows = {row.metric: row.values for row in comparison.rows}
    assert rows["checks_passed_percent"] == pytest.approx({"exact": 100 * 56 / 60, "fast": 100 * 37 / 60})
    assert rows["pass_at_1"] == pytest.approx(rows["checks_passed_percent"])
    assert rows["correct_per_hour"]["fast"] > 0
    assert rows["seconds_per_correct"]["exact"] > 0
    assert called("report", run.folder, "-o", tmp_path / "page.html") == 0
    page = (tmp_path / "page.html").read_text()
    assert "faster but worse" in page
    capsys.readouterr()
    called("list", tmp_path)
    called("show", run.folder)
    assert capsys.readouterr().out.count("faster but worse") == 2
    called("export", run.folder, "--to", "csv", "--table", "metrics")
    called("export", run.folder, "--to", "md")
    lines = capsys.readouterr().out.splitlines()
    verdicts = [one for one in lines if one.startswith("difference") or "output_throughput" in one]
    assert any("faster" in one and "its answers are worse (−32 points)" in one for one in verdicts)
    assert any("faster but worse" in one for one in lines)
    called("plot", run.folder, "-o", tmp_path / "bars.svg")
    assert "Worse answers: fast." in (tmp_path / "bars.svg").read_text()


def test_outcomes_are_kept_and_computed_again_only_on_request(arms, questions, tmp_path, capsys):
    run = run_study(spec(arms, questions, trials=1, quality=Quality(check=False)), tmp_path / "s")
    assert not any(isinstance(one, CheckingAnswers) for one in run)
    assert comparison_of([run.folder], "inferometer").quality == ()
    assert called("check", run.folder) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "× the speed (speed not judged), −32 points: worse." in out
    assert "fast: no verdict (needs 2 trials), but its answers are worse (−32 points)." in out
    store = Store.amend(run.folder)
    (first, *_) = store.trial_ids().values()
    known = store.checks(first)
    store._database.execute("UPDATE answer_check SET reason = 'kept'")
    store.close()
    assert len(known) == COUNT
    called("check", run.folder)
    assert {one.reason for one in read_study(run.folder).trials[0].checks} == {"kept"}
    called("check", run.folder, "--again")
    assert {one.reason for one in read_study(run.folder).trials[0].checks} != {"kept"}


def test_a_file_that_changed_since_is_refused(arms, questions, tmp_path, capsys):
    run = run_study(spec(arms, questions, trials=1), tmp_path / "s")
    list(run)
    questions.write_text(json.dumps({"question": question(1), "answer": "3"}))
    assert called("check", run.folder) == 2
    assert "is not the one that the study used" in capsys.readouterr().err


def called(*words: object) -> object:
    """The exit code of the program."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["inferometer", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            main()
    return ended.value.code or 0


def test_a_study_of_programs_is_refused_where_there_is_no_sandbox(arms, tmp_path, monkeypatch):
    monkeypatch.setattr(sandbox.shutil, "which", lambda *_, **__: None)
    caches = sandbox._bubblewrap, sandbox._container
    for cache in caches:
        cache.cache_clear()
    try:
        workload = settings("builtin-checked")
        with pytest.raises(RequestWrong, match=r"sudo apt-get install bubblewrap.*--unsafe-checks"):
            list(run_study(Spec(arms=arms, workload=workload), tmp_path / "s"))
    finally:
        for cache in caches:
            cache.cache_clear()
    assert not (tmp_path / "s" / "study.db").exists()


def test_a_workload_without_checks_is_refused(arms, tmp_path, capsys):
    run = run_study(spec(arms, tmp_path, workload=Builtin(num_prompts=4), trials=1), tmp_path / "s")
    list(run)
    assert called("check", run.folder) == 2
    assert "has no checks" in capsys.readouterr().err


def test_a_study_of_an_earlier_version_has_no_outcomes(arms, questions, tmp_path):
    run = run_study(spec(arms, questions, trials=1), tmp_path / "s")
    list(run)
    store = Store.amend(run.folder)
    store._database.execute("DROP TABLE answer_check")
    store.close()
    assert all(not trial.checks for trial in read_study(run.folder).trials)


def test_programs_in_answers_are_run(tmp_path):
    if sandbox_state()[0] is None:
        pytest.skip(sandbox_state()[1])
    path = tmp_path / "own.jsonl"
    check = {"kind": "python_tests", "tests": "assert f(2) == 4", "entry_point": "f"}
    path.write_text(json.dumps({"prompt": "Write f, which doubles its argument.", "check": check}))

    def server(code: str):
        plain = inference_server()
        return lambda request: (
            chat_stream(["Here:\n```python\n", code, "\n```"]) if request.body.get("stream") else plain(request)
        )

    with (
        ScriptedServer(server("def f(x):\n    return 2 * x")) as good,
        ScriptedServer(server("def f(x):\n    return x")) as bad,
    ):
        arms = {name: Arm(engine="external", url=one.url, model="m") for name, one in (("good", good), ("bad", bad))}
        workload = settings("checked", path=str(path))
        run = run_study(Spec(arms=arms, workload=workload, trials=1, tokenizer="none"), tmp_path / "s")
        list(run)
    outcomes = {trial.arm: [one.result for one in trial.checks] for trial in read_study(run.folder).trials}
    assert outcomes == {"good": ["passed"], "bad": ["failed"]}


def test_an_interrupt_ends_the_programs_of_checks_at_once(arms, tmp_path):
    if sandbox_state()[0] is None:
        pytest.skip(sandbox_state()[1])
    path = tmp_path / "slow.jsonl"
    mark = f"{1000 + os.getpid()}.5"
    check = {"kind": "command", "command": ["sleep", mark]}
    path.write_text("\n".join(json.dumps({"prompt": question(n), "check": check}) for n in range(4)))
    workload = settings("checked", path=str(path))
    slow = spec(arms, path, workload=workload, trials=1, quality=Quality(check=False, check_s=3600))
    list(run_study(slow, tmp_path / "s"))

    def running() -> bool:
        return any(one.info["cmdline"] == ["sleep", mark] for one in psutil.process_iter(["cmdline"]))

    with contextlib.closing(Store.amend(tmp_path / "s")) as store:
        checks = check_stored(store, problems_of(workload), sandbox_state()[0], slow.quality)
        for _ in checks:
            if running():
                break
        checks.close()
    assert not running()
