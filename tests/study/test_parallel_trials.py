"""`parallel: true`: the trials of a round run at the same time, each arm on separate devices."""

import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
from warm_program import start

from inferometer.base.errors import RequestWrong
from inferometer.core.schedule import Closed
from inferometer.core.spec import Arm, Spec
from inferometer.core.workload_settings import Builtin
from inferometer.results.read import read_study
from inferometer.results.study_comparison import comparison_of
from inferometer.study.device_conflicts import devices_of, require_separate_devices
from inferometer.study.loop import run_study
from inferometer.study.progress import TrialBegan, TrialEnded
from inferometer.testing.scripted_server import Received, ScriptedServer, Step, inference_server, is_probe


def external(server: ScriptedServer) -> Arm:
    return Arm(engine="external", url=server.url, model="scripted")


def spec(arms: dict[str, Arm], **fields: object) -> Spec:
    known: dict[str, object] = {
        "workload": Builtin(num_prompts=4, max_tokens=10),
        "schedule": Closed(1),
        "tokenizer": "none",
        "trials": 2,
        "parallel": True,
    }
    return Spec(arms=arms, **(known | fields))  # pyright: ignore[reportArgumentType] # fields of Spec


def test_the_trials_of_a_round_run_at_the_same_time_and_the_result_says_so(tmp_path: Path):
    """Neither server answers its first stream before the other one was asked: one after another they would not end."""
    both_asked = threading.Barrier(2)
    answer = inference_server(10, 0.0, 0.001)
    met: set[str] = set()

    def waiting_for_the_other(name: str):
        def answered(received: Received) -> Iterable[Step]:
            if received.body.get("stream") and not is_probe(received) and name not in met:
                met.add(name)
                both_asked.wait(timeout=60)
            yield from answer(received)

        return answered

    with ScriptedServer(waiting_for_the_other("a")) as a, ScriptedServer(waiting_for_the_other("b")) as b:
        told = list(run_study(spec({"a": external(a), "b": external(b)}), tmp_path / "s"))
    assert not both_asked.broken
    began = [(one.arm, one.number, one.position, one.total) for one in told if isinstance(one, TrialBegan)]
    assert began == [("a", 1, 1, 4), ("b", 1, 2, 4), ("b", 2, 3, 4), ("a", 2, 4, 4)]
    assert sum(isinstance(one, TrialEnded) for one in told) == 4
    trials = read_study(tmp_path / "s").trials
    assert {(trial.arm, trial.number, trial.state) for trial in trials} == {
        (arm, number, "done") for arm in "ab" for number in (1, 2)
    }
    assert all(sum(record.measured for record in trial.records) == 4 for trial in trials)
    comparison = comparison_of([tmp_path / "s"], "inferometer")
    assert any(
        "a ran at the same time as b" in said or "at the same time as b" in said
        for said in comparison.finding_texts("warning")
    )
    assert comparison.primary_row is not None and comparison.primary_row.against("a", "b").paired


@pytest.mark.parametrize("fields", [{"parallel": True}, {"parallel": False, "order": "requests"}])
def test_a_trial_that_fails_does_not_end_the_other_trial(fields: dict[str, object], tmp_path: Path):
    dead = Arm(engine="external", url="http://127.0.0.1:9", model="none", ready_timeout_s=0.1)
    with ScriptedServer(inference_server(3, 0.0, 0.001)) as server:
        told = list(run_study(spec({"a": external(server), "b": dead}, trials=1, **fields), tmp_path / "s"))
    assert {one.arm: bool(one.error) for one in told if isinstance(one, TrialEnded)} == {"a": False, "b": True}


CUDA, HIP = "CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES"


@pytest.mark.parametrize(
    ("one", "other", "said"),
    [
        (Arm(engine="embedded", env={CUDA: "0"}), Arm(engine="embedded"), "arm b does not say on which device"),
        (Arm(engine="embedded", env={CUDA: "0,1"}), Arm(engine="embedded", env={CUDA: "1"}), "share CUDA device 1"),
        (Arm(engine="embedded", env={CUDA: "-1"}), Arm(engine="embedded", env={CUDA: ""}), "share the CPU"),
        (Arm(engine="external", url="http://h:1"), Arm(engine="external", url="http://h:1"), "share http://h:1"),
        (Arm(engine="llama-server", args=("-dev", "CUDA0")), Arm(engine="llama-server", args=("--device", "CUDA0")),
         "share device CUDA0"),
    ],
)  # fmt: skip
def test_arms_that_would_share_a_device_are_refused(one: Arm, other: Arm, said: str):
    with pytest.raises(RequestWrong, match=said):
        require_separate_devices({"a": one, "b": other})


def test_arms_with_separate_devices_may_run_at_the_same_time():
    require_separate_devices({
        "nvidia": Arm(engine="embedded", env={CUDA: "0"}),
        "amd": Arm(engine="embedded", env={HIP: "0"}),
        "cpu": Arm(engine="embedded", env={CUDA: "-1"}),
        "there": Arm(engine="external", url="http://h:1"),
    })  # fmt: skip
    assert devices_of(Arm(engine="embedded", env={CUDA: " 2, GPU-1f"})) == {"CUDA device 2", "CUDA device GPU-1f"}


STUDY = """
{how}
trials: 1
tokenizer: none
workload: {{kind: builtin, num_prompts: 20, max_tokens: 8}}
schedule: {{kind: closed, concurrency: 1}}
arms:
  a: {a}
  b: {b}
"""


def interrupted(folder: Path, when_to: Callable[[], bool], text: str) -> tuple[int, str]:
    (folder / "study.yaml").write_text(text)
    process = start("run", "study.yaml", "--out", "s", cwd=folder)
    while not when_to() and process.poll() is None:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    return process.wait(), said


@pytest.mark.parametrize(
    ("how", "arms_at_work"), [("parallel: true", 2), ("order: requests", 2), ("order: requests\nblock: 15", 1)]
)
def test_ctrl_c_ends_every_trial_and_keeps_what_it_has(how: str, arms_at_work: int, tmp_path: Path):
    def streams(server: ScriptedServer) -> int:
        return len(server.load_requests)

    answer = inference_server(tokens=3, gap_s=0.2)
    with ScriptedServer(answer) as a, ScriptedServer(answer) as b:
        arms = {name: f"{{engine: external, url: '{server.url}'}}" for name, server in (("a", a), ("b", b))}

        def in_the_middle() -> bool:
            return sum(streams(server) >= 4 for server in (a, b)) == arms_at_work

        code, said = interrupted(tmp_path, in_the_middle, STUDY.format(how=how, **arms))
    assert (code, "interrupted" in said) == (130, True)
    trials = read_study(tmp_path / "s").trials
    assert [(trial.state, trial.error) for trial in trials] == [("failed", "interrupted")] * 2
    outcomes = [[record.outcome for record in trial.records if record.measured] for trial in trials]
    assert [len(measured) for measured in outcomes] == [20, 20]
    assert all(set(measured) <= {"ok", "cancelled"} for measured in outcomes)
    assert sum("ok" in measured for measured in outcomes) == arms_at_work


SLEEPS = "import time; time.sleep(300)"
SILENT = "import socket, sys, time; s = socket.create_server((str(), int(sys.argv[2]))); time.sleep(300)"
STUBBORN = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(300)"


@pytest.mark.parametrize("code", [SLEEPS, SILENT, STUBBORN], ids=["no port", "never answers", "ignores SIGTERM"])
@pytest.mark.parametrize(("how", "starting_at_once"), [("parallel: true", 2), ("order: requests", 1)])
def test_ctrl_c_while_engines_start_leaves_no_process_behind(
    code: str, how: str, starting_at_once: int, tmp_path: Path
):
    mark = f"{tmp_path.name}-{time.monotonic_ns()}"

    def alive() -> int:
        found = 0
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                found += f"{mark}\0".encode() in path.read_bytes()
            except OSError:
                continue
        return found

    def starting() -> bool:
        time.sleep(0.2)
        return alive() == starting_at_once

    arm = "{{engine: command, command: [{python}, -c, '{code}', {mark}, '{{port}}', --device, {d}]}}"
    arms = {name: arm.format(python=sys.executable, code=code, mark=mark, d=name) for name in "ab"}
    exit_code, said = interrupted(tmp_path, starting, STUDY.format(how=how, **arms))
    assert (exit_code, "interrupted" in said, alive()) == (130, True, 0)
    trials = read_study(tmp_path / "s").trials
    assert [(trial.state, trial.error) for trial in trials] == [("failed", "interrupted")] * starting_at_once
