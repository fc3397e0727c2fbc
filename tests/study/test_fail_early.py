"""What is known to be wrong is reported before an engine starts, once, and blocks no later run."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec
import pytest

from inferometer.base.errors import InferometerError, RequestWrong, ServerUnusable
from inferometer.core.plan import Plan, PlanItem
from inferometer.core.record import Fact
from inferometer.core.request import Message, Request
from inferometer.core.schedule import Closed
from inferometer.core.spec import Arm, Spec
from inferometer.core.workload_settings import Builtin, WorkloadSettings
from inferometer.results.read import read_study
from inferometer.study.loop import run_study
from inferometer.study.preconditions import require_context
from inferometer.study.progress import TrialBegan
from inferometer.testing.scripted_server import (
    STREAM_END,
    STREAM_HEAD,
    Received,
    ScriptedServer,
    Send,
    Step,
    chunk,
    event,
    inference_server,
    is_probe,
    whole,
)
from inferometer.workloads.custom import Custom
from inferometer.workloads.sharegpt import ShareGpt

GONE = Arm(engine="external", url="http://127.0.0.1:9", model="none", ready_timeout_s=0.1)
DIES = Arm(engine="command", command=("sh", "-c", "echo 'ValueError: no such layer' >&2; exit 1", "{port}"))


@pytest.fixture
def server() -> Iterator[Arm]:
    with ScriptedServer(inference_server(10)) as server:
        yield Arm(engine="external", url=server.url, model="scripted")


def spec(arms: dict[str, Arm], workload: WorkloadSettings | None = None, trials: int = 3) -> Spec:
    workload = workload or Builtin(num_prompts=2, max_tokens=10)
    return Spec(arms=arms, workload=workload, schedule=Closed(1), tokenizer="none", trials=trials)


def begun(spec: Spec, folder: Path, *, resume: bool = False) -> list[tuple[str, int]]:
    return [(one.arm, one.number) for one in run_study(spec, folder, resume=resume) if isinstance(one, TrialBegan)]


def refused(spec: Spec, folder: Path) -> str:
    with pytest.raises(RequestWrong) as wrong:
        begun(spec, folder)
    assert not (folder / "study.db").exists()
    return str(wrong.value)


def test_all_wrong_arms_are_named_at_once(server: Arm, tmp_path: Path):
    one = Arm(engine="command", command=("no-such-program", "{port}"))
    other = Arm(engine="llama-server", model="missing.gguf", binary="no-such-server")
    said = refused(spec({"good": server, "one": one, "other": other}), tmp_path / "s")
    assert ("arms.one: " in said, "arms.other: " in said, "good" in said) == (True, True, False)


@pytest.mark.parametrize("content", [None, "[]", "not JSON", '[{"conversations": []}]'])
@pytest.mark.parametrize("kind", [ShareGpt, Custom])
def test_a_data_set_without_prompts_is_refused_before_an_engine_starts(
    kind: type[ShareGpt | Custom], content: str | None, server: Arm, tmp_path: Path
):
    path = tmp_path / "data.json"
    if content is not None:
        path.write_text(content)
    assert str(path.name) in refused(spec({"a": server}, kind(str(path))), tmp_path / "s") or content == "[]"


@pytest.mark.parametrize(
    "fields",
    [
        {"context": 256},
        {"args": ("-c", "200")},
        {"args": ("--max-model-len=256",)},
        {"command": ("sh", "{port}", "-c", "128")},
        {"env": {"LLAMA_ARG_CTX_SIZE": "128"}},
        {"args": ("-c", "4096", "-cd", "200")},
    ],
    ids=["field", "-c", "vLLM", "a command", "a variable", "the draft's"],
)
def test_a_context_below_the_longest_request_is_refused(fields: dict[str, object], server: Arm, tmp_path: Path):
    arm = Arm(**{"engine": "command", "command": ("sh", "{port}"), **fields})  # pyright: ignore[reportArgumentType] # fields of Arm
    said = refused(spec({"a": arm}, Builtin(2, max_tokens=256)), tmp_path / "s")
    assert "cannot hold the longest request, which asks for 256 output tokens" in said


def test_a_tokenizer_s_path_is_looked_up_before_an_engine_starts(server: Arm, tmp_path: Path):
    named = msgspec.structs.replace(spec({"a": server}), tokenizer=str(tmp_path / "none.json"))
    assert "tokenizer: there is no file or folder" in refused(named, tmp_path / "s")


@pytest.mark.parametrize("broken", [GONE, DIES], ids=["nothing there", "process ends"])
def test_an_engine_that_does_not_start_is_started_once(broken: Arm, server: Arm, tmp_path: Path):
    numbers = begun(spec({"good": server, "broken": broken}), tmp_path / "s")
    assert [number for name, number in numbers if name == "broken"] == [1]
    assert [number for name, number in numbers if name == "good"] == [1, 2, 3]


def test_a_failed_start_does_not_block_the_folder(server: Arm, tmp_path: Path):
    begun(spec({"a": GONE}), tmp_path / "s")
    assert begun(spec({"a": server}, trials=1), tmp_path / "s") == [("a", 1)]
    with pytest.raises(RequestWrong, match="already holds a study"):
        begun(spec({"a": server}, trials=1), tmp_path / "s")


def test_a_resumed_study_may_have_more_trials(server: Arm, tmp_path: Path):
    begun(spec({"a": server}, trials=1), tmp_path / "s")
    assert begun(spec({"a": server}, trials=3), tmp_path / "s", resume=True) == [("a", 2), ("a", 3)]
    assert read_study(tmp_path / "s").spec.trials == 3
    with pytest.raises(InferometerError, match="a study of 3 trials, and 2 are asked for"):
        begun(spec({"a": server}, trials=2), tmp_path / "s", resume=True)
    with pytest.raises(InferometerError, match="different spec"):
        begun(spec({"a": server}, Builtin(3, 10), trials=4), tmp_path / "s", resume=True)


# --- the context, and a busy server ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("facts", "is_refused"),
    [
        ({"slot_context_tokens": "131"}, True),
        ({"slot_context_tokens": "132"}, False),
        ({"slot_context_tokens": "131", "in_force_context": "4096"}, True),  # four slots share a context
        ({"in_force_context": "131"}, True),
        ({"in_force_context": "0"}, False),
        ({"in_force_context": "auto"}, False),
        ({}, False),
    ],
)
def test_a_context_smaller_than_the_longest_request_is_refused(facts: dict[str, str], is_refused: bool):
    requests = [
        Request(f"r{i}", (Message("user", "x"),), 32, prompt_tokens=tokens) for i, tokens in enumerate((9, 100))
    ]
    plan = Plan(tuple(PlanItem(i, request, None) for i, request in enumerate(requests)), 1, 1)
    known = [Fact(name, value, "the engine's log") for name, value in facts.items()]
    if not is_refused:
        require_context(plan, known)
        return
    with pytest.raises(ServerUnusable, match=r"context of 131 tokens .*: r1 has 100 prompt tokens and asks for 32"):
        require_context(plan, known)


ENDED_AT_ONCE = [
    {"model": "scripted", "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]},
    {"model": "scripted", "choices": [], "usage": {"prompt_tokens": 63, "completion_tokens": 1}},
    "[DONE]",
]
"""What ik_llama.cpp 8337e4c streams where the model's first token is an end token."""
FAILED_ONCE = {
    "HTTP 429": [whole(429, '{"error": {"message": "busy"}}')],
    "HTTP 503": [whole(503, '{"error": {"message": "busy"}}')],
    "the model's first token ended it": [
        Send(STREAM_HEAD + b"".join(chunk(event(one)) for one in ENDED_AT_ONCE) + STREAM_END)
    ],
}


@pytest.mark.parametrize("kind", FAILED_ONCE)
def test_a_warm_up_that_failed_before_the_server_answered_is_a_warning(kind: str, tmp_path: Path):
    refusals: list[str] = []

    def busy_once(request: Received) -> Iterable[Step]:
        if request.body.get("stream") and not is_probe(request) and not refusals:
            refusals.append(kind)
            return FAILED_ONCE[kind]
        return inference_server(10)(request)

    with ScriptedServer(busy_once) as server:
        arm = Arm(engine="external", url=server.url, model="scripted")
        assert begun(spec({"a": arm}, trials=1), tmp_path / "s") == [("a", 1)]
    (trial,) = read_study(tmp_path / "s").trials
    (finding,) = (one for one in trial.findings if one.code == "warmup-failed")
    assert (finding.severity, trial.state, refusals) == ("warning", "done", [kind])
    assert kind in finding.message
    assert len([record for record in trial.records if record.measured and record.ok]) == 2
