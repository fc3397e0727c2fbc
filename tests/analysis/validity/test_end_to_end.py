"""Each finding that a real run can show: the program is called as a user calls it, against real servers.

Not here, since nothing on an ordinary machine brings them about at will: what GPUs, other processes and engines' logs
tell (`throttled`, `clocks-differ`, `power-limit`, `machine-busy`, `gpu-busy`, `flash-attention`, `gpu-layers`). What a
load worker says of itself is in tests/load and tests/cli/test_workers.py.
"""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from typer.testing import CliRunner, Result

from inferometer.cli import app
from inferometer.probes.machine_facts import machine_facts
from inferometer.results.read import read_study
from inferometer.standin.pairs import standin_pair
from inferometer.testing.llama_server_shim import write_binary
from inferometer.testing.scripted_server import (
    Received,
    ScriptedServer,
    Send,
    Step,
    chat_stream,
    inference_server,
    whole,
)

PROMPTS = 10
LOOP = ["return x\n"] * 20


def run(folder: Path, arms: dict[str, Any], **fields: Any) -> Result:
    """A study of `arms`, in folder/study; what it printed and its exit code."""
    folder.mkdir(exist_ok=True)
    known = {
        "workload": {"kind": "builtin", "num_prompts": PROMPTS, "max_tokens": 20},
        "trials": 2,
        "tokenizer": "none",
    }
    (folder / "study.yaml").write_bytes(msgspec.yaml.encode({"arms": arms, **known, **fields}))
    return CliRunner().invoke(app, ["run", str(folder / "study.yaml"), "--out", str(folder / "study"), "--why"])


def external(server: ScriptedServer) -> dict[str, str]:
    return {"engine": "external", "url": server.url, "model": "scripted"}


def require_invalid(result: Result, reason: str) -> None:
    """Exit code 3, the reason above the table, and no verdict in it."""
    assert result.exit_code == 3, result.output
    above, _, below = result.stdout.partition("Metric  ")
    table_and_headlines = below.partition("Warning:")[0]
    assert table_and_headlines
    assert f"Not valid: {reason}" in " ".join(above.split())
    assert "No verdict is given." in above
    assert not any(word in table_and_headlines for word in ("faster", "slower", "inconclusive", "≈ same"))


def require_valid(result: Result, *warnings: str) -> None:
    assert result.exit_code == 0, result.output
    assert "Not valid" not in result.stdout
    said = " ".join(result.stdout.split())
    assert [warning for warning in warnings if f"Warning: {warning}" not in said] == []


def words_of(number: int) -> list[str]:
    return [f" w{number}-{i}" for i in range(20)]


class Script:
    """Knows prompts by the order in which they were first seen, from 0, and answers each as it is told to."""

    def __init__(self, answer: Callable[[int], Iterable[Step]]) -> None:
        self._answer = answer
        self._seen: list[str] = []
        self._other = inference_server()

    def __call__(self, request: Received) -> Iterable[Step]:
        if not request.body.get("stream") or request.body.get("max_tokens") == 1:  # not the load
            return self._other(request)
        prompt = str(request.body["messages"])
        if prompt not in self._seen:
            self._seen.append(prompt)
        return self._answer(self._seen.index(prompt))


@pytest.fixture
def serve() -> Iterator[Callable[[Callable[[int], Iterable[Step]]], ScriptedServer]]:
    """Starts a server; all end with the test."""
    servers: list[ScriptedServer] = []

    def start(answer: Callable[[int], Iterable[Step]]) -> ScriptedServer:
        server = ScriptedServer(Script(answer)).__enter__()
        servers.append(server)
        return server

    yield start
    for server in servers:
        server.__exit__()


def sound(number: int) -> Iterable[Step]:
    return chat_stream(words_of(number), gap_s=0.001)


# --- all is well ----------------------------------------------------------------------------------


def test_two_arms_that_do_the_same_are_valid_and_have_a_verdict(tmp_path: Path, serve):
    result = run(tmp_path, {"base": external(serve(sound)), "other": external(serve(sound))})
    require_valid(result)
    assert f"outputs identical to base: {PROMPTS}/{PROMPTS}" in " ".join(result.stdout.split())
    assert "output token throughput" in result.stdout


def test_the_machine_s_cores_reach_the_checks(tmp_path: Path, serve):
    run(tmp_path, {"only": external(serve(sound))}, trials=1)
    study = read_study(tmp_path / "study")
    cores = next(int(fact.value) for fact in machine_facts() if fact.name == "cpu_cores_logical")
    assert [case.cores for case in study.arm_trials("inferometer")] == [cores]


# --- it did not do what it says -------------------------------------------------------------------


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], str]:
    """An arm on a llama-server that ignores -md alone, as today's builds do, and a draft for it."""
    folder = tmp_path_factory.mktemp("llama")
    target, draft = standin_pair(folder, "tiny")
    binary = write_binary(folder / "llama-server")
    return {"engine": "llama-server", "binary": str(binary), "model": str(target), "args": ["-t", "1"]}, str(draft)


SMALL = {"workload": {"kind": "builtin", "num_prompts": 3, "max_tokens": 16}, "trials": 1}


def test_a_draft_that_the_engine_ignored_is_invalid(tmp_path: Path, llama):
    arm, draft = llama
    result = run(tmp_path, {"base": arm, "draft": {**arm, "args": ["-t", "1", "-md", draft]}}, **SMALL)
    require_invalid(
        result, "draft: the draft model was not used: the engine reports no drafted token in 1 of 1 trials."
    )


def test_a_draft_that_is_used_is_valid(tmp_path: Path, llama):
    arm, draft = llama
    result = run(tmp_path, {"base": arm, "draft": {**arm, "draft": {"model": draft, "n_max": 4}}}, **SMALL)
    require_valid(result)


def test_a_server_behind_which_two_models_answer_is_invalid(tmp_path: Path, serve):
    def two_models(number: int) -> Iterable[Step]:
        for step in sound(number):
            if number % 2 and isinstance(step, Send):
                yield Send(step.data.replace(b"scripted", b"imposter"))
            else:
                yield step

    result = run(tmp_path, {"base": external(serve(sound)), "router": external(serve(two_models))})
    require_invalid(result, "router: answers came from several models: ")


def test_a_server_that_names_another_model_than_asked_is_warned_of(tmp_path: Path, serve):
    result = run(tmp_path, {"base": {**external(serve(sound)), "model": "qwen"}})
    require_valid(result, "base: the arm requests qwen, but the answers name scripted.")


# --- it did not do the same -----------------------------------------------------------------------


def test_an_arm_whose_answers_loop_is_invalid(tmp_path: Path, serve):
    looping = serve(lambda number: chat_stream(LOOP, gap_s=0.001))
    result = run(tmp_path, {"base": external(serve(sound)), "broken": external(looping)})
    require_invalid(result, "broken: 100% of its answers are broken, but 0% of base's")


def test_other_texts_of_half_the_length_are_other_work(tmp_path: Path, serve):
    def short(number: int) -> Iterable[Step]:
        return chat_stream([" v", *words_of(number)[:9]], gap_s=0.001, finish="content_filter")

    result = run(tmp_path, {"base": external(serve(sound)), "short": external(serve(short))})
    assert result.exit_code == 3
    said = " ".join(result.stdout.split())
    assert "Not valid: short: its answers have -57% characters against base" in said
    for warning in (
        "short: it generated 50.0% fewer tokens than base",
        "short: 100% of its answers end with 'content_filter', but 0% of base's",
        f"short: outputs identical to base: 0/{PROMPTS} (base between two trials: {PROMPTS}/{PROMPTS})",
    ):
        assert f"Warning: {warning}" in said


def test_studies_of_other_prompts_are_invalid_beside_one_another_and_of_other_sampling_are_not(tmp_path: Path, serve):
    server = serve(sound)
    for name, fields in (("a", {}), ("b", {"seed": 2}), ("c", {"sampling": {"ignore_eos": True}})):
        require_valid(run(tmp_path / name, {name: external(server)}, **fields))
    others = CliRunner().invoke(app, ["compare", str(tmp_path / "a/study"), str(tmp_path / "b/study"), "--why"])
    require_invalid(others, "b: it got different prompts from a")
    alike = CliRunner().invoke(app, ["compare", str(tmp_path / "a/study"), str(tmp_path / "c/study"), "--why"])
    require_valid(alike, "c: its sampling differs from a's: ignore_eos True, not False.")


# --- the cache ------------------------------------------------------------------------------------


EMBEDDED = {"engine": "embedded", "model": "standin:tiny", "context": 4096, "threads": 1}
FEW = {"workload": {"kind": "builtin", "num_prompts": 5, "max_tokens": 8}}


def test_an_engine_that_is_kept_is_not_helped_by_its_cache(tmp_path: Path):
    kept = run(tmp_path, {"kept": EMBEDDED}, restart="never", **FEW)
    assert kept.exit_code == 0, kept.output
    assert "of its prompt tokens from the prefix cache" not in " ".join(kept.output.split())


# --- it was not itself ----------------------------------------------------------------------------


def test_a_cold_start_is_warned_of(tmp_path: Path, serve):
    cold = serve(lambda number: chat_stream(words_of(number), gap_s=0.02 if number == 0 else 0.002))
    result = run(tmp_path, {"cold": external(cold)}, warmups=0)
    assert result.exit_code == 0
    assert "slower than the rest in time per output token (2 of 2 trials)" in " ".join(result.stdout.split())


def test_a_drift_is_warned_of(tmp_path: Path, serve):
    tiring = serve(lambda number: chat_stream(words_of(number), gap_s=0.002 + 0.001 * number))
    result = run(tmp_path, {"tiring": external(tiring)}, warmups=0)
    assert result.exit_code == 0
    assert "from the first to the last request (2 of 2 trials)" in " ".join(result.stdout.split())


def test_trials_that_differ_are_warned_of(tmp_path: Path, serve):
    asked: list[int] = []

    def slower(number: int) -> Iterable[Step]:
        asked.append(number)
        return chat_stream(words_of(number), gap_s=0.001 if len(asked) <= PROMPTS else 0.01)

    result = run(tmp_path, {"arm": external(serve(slower))}, warmups=0)
    assert result.exit_code == 0
    assert "arm: its trials differ by" in " ".join(result.stdout.split())


# --- failures -------------------------------------------------------------------------------------


def failing(every: int) -> Callable[[int], Iterable[Step]]:
    """Every so-maniest prompt, the first one not, fails."""
    return lambda number: [whole(500, '{"error": "out of memory"}')] if number % every == every - 1 else sound(number)


def test_a_fifth_of_failed_requests_is_invalid_and_a_tenth_is_warned_of(tmp_path: Path, serve):
    arms = {"base": external(serve(sound)), "failing": external(serve(failing(5)))}
    require_invalid(run(tmp_path / "many", arms, warmups=0), "failing: 4 of 20 requests failed (http_error 4)")
    arms = {"base": external(serve(sound)), "failing": external(serve(failing(10)))}
    require_valid(run(tmp_path / "few", arms, warmups=0), "failing: 2 of 20 requests failed (http_error 2)")


def test_a_trial_that_failed_is_left_out_and_said_with_an_exit_code_of_its_own(tmp_path: Path, serve):
    gone = {"engine": "external", "url": "http://127.0.0.1:9", "model": "m"}
    result = run(tmp_path, {"base": external(serve(sound)), "gone": gone})
    assert result.exit_code == 1
    assert "gone, trial 1: the trial did not complete and was excluded (failed: nothing answers at" in " ".join(
        result.stdout.split()
    )


def test_one_trial_is_noted(tmp_path: Path, serve):
    result = run(tmp_path, {"base": external(serve(sound))}, trials=1)
    assert "Note: base: it has only one trial" in result.stdout
