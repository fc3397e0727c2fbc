"""Against scripted servers whose times are known, and against a real llama.cpp."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from inferometer.base.errors import RequestWrong
from inferometer.core.spec import Arm
from inferometer.engine_bench.bench_files import model_in_file
from inferometer.engine_bench.server_rows import (
    check_server,
    combinations,
    context_tokens,
    rows_by_server,
    with_settings,
)
from inferometer.llama_bench.gguf_facts import ModelFacts
from inferometer.llama_bench.row import BenchRow, BenchTest
from inferometer.standin.pairs import standin_pair
from inferometer.testing.llama_server_shim import write_binary
from inferometer.testing.scripted_server import Received, ScriptedServer, Step, whole


class FakeClock:
    """Goes on only where the server says so."""

    def __init__(self) -> None:
        self.now_ns = 0

    def monotonic_ns(self) -> int:
        return self.now_ns

    def wall_ns(self) -> int:
        return self.now_ns


def answer_json(body: Any) -> list[Step]:
    return [whole(200, json.dumps(body))]


class LlamaCpp:
    """Answers as llama-server's /completion does: 2 ms a prompt token, 10 ms a token generated after the first.

    One slot, which keeps what it has seen, as the real one does; `keeps` False is a model whose cache cannot be cut.
    """

    def __init__(self, context: int = 10_000, keeps: bool = True) -> None:
        self.slot: list[int] = []
        self.context = context
        self.keeps = keeps

    def __call__(self, request: Received) -> Iterable[Step]:
        if request.path == "/props":
            return answer_json({"build_info": "b11434-test", "total_slots": 1})
        if request.path == "/v1/models":
            meta = {"n_vocab": 500, "n_params": 3000, "size": 4000}
            return answer_json({"data": [{"id": "/models/m.gguf", "meta": meta}]})
        if request.path != "/completion":
            return answer_json({"choices": [{"text": "x"}], "usage": {"completion_tokens": 1}})
        prompt: list[int] = request.body["prompt"]
        wanted: int = request.body["n_predict"]
        if len(prompt) + wanted > self.context:
            return [whole(400, '{"error": {"message": "request exceeds the available context size"}}')]
        cached = 0
        if request.body["cache_prompt"] and self.keeps:
            while cached < min(len(prompt) - 1, len(self.slot)) and self.slot[cached] == prompt[cached]:
                cached += 1
        self.slot = prompt + [-1] * (wanted - 1)
        fresh = len(prompt) - cached
        timings = {"cache_n": cached, "prompt_n": fresh, "prompt_ms": 2.0 * fresh}
        timings |= {"predicted_n": wanted, "predicted_ms": 10.0 * (wanted - 1)}
        return answer_json({"content": "x", "timings": timings})


class Other:
    """Answers as vLLM's /v1/completions does, and takes 5 ms, 1 ms a prompt token and 20 ms a generated token."""

    def __init__(self, clock: FakeClock, **usage: int) -> None:
        self.clock = clock
        self.usage = usage

    def __call__(self, request: Received) -> Iterable[Step]:
        if request.path == "/v1/models":
            return answer_json({"data": [{"id": "other"}]})
        if request.path != "/v1/completions":
            return [whole(404, "{}")]
        prompt, wanted = request.body["prompt"], request.body["max_tokens"]
        self.clock.now_ns += 5_000_000 + 1_000_000 * len(prompt) + 20_000_000 * wanted
        usage = {"prompt_tokens": len(prompt), "completion_tokens": wanted} | self.usage
        return answer_json({"choices": [{"text": "x"}], "usage": usage})


def rows(
    server: ScriptedServer, *tests: BenchTest, repetitions: int = 2, clock: FakeClock | None = None
) -> list[BenchRow]:
    arm = Arm("external", url=server.url, api="openai")
    return list(rows_by_server(arm, tests, {}, repetitions, None, {}, Path("/nowhere/log"), lambda _: None, clock))


def asked(server: ScriptedServer, path: str = "/completion") -> list[dict[str, Any]]:
    return [request.body for request in server.received if request.path == path]


def test_llama_cpp_s_own_timings_give_the_rates():
    with ScriptedServer(LlamaCpp()) as server:
        found = rows(server, BenchTest(100, 0), BenchTest(0, 50), BenchTest(100, 50))
    assert [row.rate_per_s for row in found] == pytest.approx([500.0, 100.0, 150 / 0.7])
    assert {row.clock for row in found} == {"server"}
    assert {row.error for row in found} == {""}
    assert [len(row.samples_ns) for row in found] == [2, 2, 2]


def test_a_prompt_is_exactly_as_long_as_asked_never_the_same_and_never_from_the_cache():
    with ScriptedServer(LlamaCpp()) as server:
        rows(server, BenchTest(100, 0))
        bodies = asked(server)
    prompts = [body["prompt"] for body in bodies]
    assert [len(prompt) for prompt in prompts] == [100, 100, 100]  # one to warm up, two measured
    assert len({tuple(prompt) for prompt in prompts}) == 3
    assert {(body["cache_prompt"], body["n_predict"], body["ignore_eos"]) for body in bodies} == {(False, 1, True)}
    assert max(map(max, prompts)) < 500  # ids of its vocabulary


def test_n_generated_tokens_are_n_steps_after_the_first():
    with ScriptedServer(LlamaCpp()) as server:
        rows(server, BenchTest(0, 50))
        assert {(len(body["prompt"]), body["n_predict"]) for body in asked(server)} == {(1, 51)}


def test_a_depth_is_in_the_slot_before_and_not_timed():
    with ScriptedServer(LlamaCpp()) as server:
        prompt, generated = rows(server, BenchTest(100, 0, 1000), BenchTest(0, 50, 1000))
        lengths = [len(body["prompt"]) for body in asked(server)]
    assert (prompt.rate_per_s, generated.rate_per_s) == (500.0, 100.0)
    assert lengths == [1000, 1100] * 3 + [1000] * 3


def test_where_the_depth_is_not_kept_the_row_says_so_and_the_others_are_measured():
    with ScriptedServer(LlamaCpp(keeps=False)) as server:
        failed, fine = rows(server, BenchTest(100, 0, 1000), BenchTest(100, 0))
    assert (
        "of a prompt of 1100 tokens the server processed 1100 and took 0 from its cache, but the depth is 1000"
        in failed.error
    )
    assert failed.rate_per_s is None
    assert fine.rate_per_s == 500.0


def test_a_refusal_is_the_row_s_error_in_the_server_s_words():
    with ScriptedServer(LlamaCpp(context=200)) as server:
        failed, fine = rows(server, BenchTest(500, 0), BenchTest(100, 0))
    assert "a prompt of 500 token ids with status 400: request exceeds the available context size" in failed.error
    assert fine.error == ""


def test_what_the_server_says_of_its_model_is_in_the_row():
    with ScriptedServer(LlamaCpp()) as server:
        (row,) = rows(server, BenchTest(100, 0))
    assert (row.description, row.size_bytes, row.parameters) == ("m.gguf", 4000, 3000)
    assert row.engine == "external, b11434-test"


def test_another_model_than_the_file_s_is_refused():
    model = ModelFacts("a", "", "F16", 4001, 3000, 4001, 4001, 0, 3000, 0, 1)
    with ScriptedServer(LlamaCpp()) as server:
        arm = Arm("external", url=server.url, api="openai")
        (row,) = rows_by_server(arm, [BenchTest(9, 0)], {}, 1, model, {}, Path("/nowhere/log"), lambda _: None)
    assert "serves a different model from -m: its weights are 4000 bytes, those of the file 4001" in row.error


def test_without_timings_our_clock_gives_the_rates_and_takes_off_what_is_not_meant():
    """A prompt: 5 + 100 + 20 ms. Generation: 50 tokens more cost 50 × 20 ms. At a depth: 100 tokens more, 100 ms."""
    clock = FakeClock()
    with ScriptedServer(Other(clock)) as server:
        found = rows(
            server, BenchTest(100, 0), BenchTest(0, 50), BenchTest(100, 0, 1000), BenchTest(0, 50, 1000), clock=clock
        )
    assert [row.samples_ns[0] for row in found] == [125_000_000, 1_000_000_000, 100_000_000, 1_000_000_000]
    assert {row.clock for row in found} == {"client"}


def test_without_timings_no_two_prompts_are_the_same():
    clock = FakeClock()
    with ScriptedServer(Other(clock)) as server:
        rows(server, BenchTest(100, 0, 1000), clock=clock)
        prompts = [tuple(body["prompt"]) for body in asked(server, "/v1/completions") if body["prompt"] != "One word:"]
    assert [len(prompt) for prompt in prompts] == [1100, 1000] * 3
    assert len({prompt[:50] for prompt in prompts}) == 6


@pytest.mark.parametrize(
    ("usage", "why"),
    [
        ({"prompt_tokens": 101}, "counted 101 tokens in a prompt of 100"),
        ({"completion_tokens": 3}, "generated 3 tokens"),
    ],
)
def test_other_lengths_than_asked_are_no_measurement(usage: dict[str, int], why: str):
    clock = FakeClock()
    with ScriptedServer(Other(clock, **usage)) as server:
        (row,) = rows(server, BenchTest(100, 0), clock=clock)
    assert why in row.error
    assert row.samples_ns == ()


def test_a_time_that_is_not_longer_for_more_tokens_is_no_measurement():
    clock = FakeClock()
    with ScriptedServer(Other(FakeClock())) as server:  # our clock stands still
        (row,) = rows(server, BenchTest(0, 5), clock=clock)
    assert "too few tokens to measure" in row.error


def test_settings_are_every_choice_in_llama_bench_s_order():
    asked_for = {"flash_attn": ["0", "1"], "n_threads": ["1", "2"]}
    assert combinations(asked_for) == [
        {"n_threads": "1", "flash_attn": "0"},
        {"n_threads": "1", "flash_attn": "1"},
        {"n_threads": "2", "flash_attn": "0"},
        {"n_threads": "2", "flash_attn": "1"},
    ]
    assert combinations({}) == [{}]


def test_settings_become_the_server_s_flags_before_the_user_s_own():
    arm = Arm("embedded", args=("-b", "64"))
    chosen = {"n_gpu_layers": "99", "n_threads": "2", "type_k": "q8_0", "flash_attn": "1"}
    assert with_settings(arm, chosen, context=1024).args == (
        "-np", "1", "-c", "1024", "-ngl", "99", "-t", "2", "-ctk", "q8_0", "-fa", "on", "-b", "64",
    )  # fmt: skip


def test_llama_bench_s_minus_one_is_auto_for_the_embedded_engine():
    assert with_settings(Arm("embedded"), {"n_gpu_layers": "-1"}, 0).args == ("-np", "1", "-ngl", "auto")


def test_a_context_holds_the_longest_test():
    assert context_tokens([BenchTest(512, 0), BenchTest(0, 128)]) == 768  # 514 in steps of 256
    assert context_tokens([BenchTest(0, 128, 4096)]) == 4352
    assert context_tokens([BenchTest(254, 0)]) == 256
    assert context_tokens([BenchTest(255, 0)]) == 512


def test_settings_of_a_server_that_runs_already_are_refused():
    with pytest.raises(
        RequestWrong, match="-ngl, -fa: the server at http://h:1 is already running: start it with these flags"
    ):
        check_server(Arm("external", url="http://h:1"), {"n_gpu_layers": ["9"], "flash_attn": ["1"]}, {})


def test_a_value_that_the_engine_does_not_take_is_refused_before_any_start(tmp_path: Path):
    target, _ = standin_pair(tmp_path, "tiny")
    with pytest.raises(RequestWrong, match=r"-ctk is one of f32, f16, .*, not 'q9_9'"):
        check_server(Arm("embedded", model=str(target)), {"type_k": ["q9_9"]}, {})


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(standin_pair(tmp_path_factory.mktemp("models"), "tiny").target)


@pytest.mark.parametrize("engine", ["embedded", "llama-server"])
def test_a_real_llama_cpp_is_measured_at_every_setting_and_depth(engine: str, tiny: Path, tmp_path: Path):
    binary = str(write_binary(tmp_path / "llama-server")) if engine == "llama-server" else "llama-server"
    arm = Arm(engine, model=str(tiny), binary=binary, api="openai")
    tests = [BenchTest(32, 0), BenchTest(0, 8), BenchTest(32, 0, 64), BenchTest(0, 8, 64)]
    settings = {"n_threads": ["1"], "flash_attn": ["0", "1"]}
    found = list(rows_by_server(arm, tests, settings, 2, model_in_file(tiny), {}, tmp_path / "log", lambda _: None))
    assert [row.error for row in found] == [""] * 8
    assert [row.test for row in found] == tests * 2
    assert [row.settings["flash_attn"] for row in found] == ["0"] * 4 + ["1"] * 4
    assert all(len(row.samples_ns) == 2 and min(row.samples_ns) > 0 for row in found)
    assert found[0].description == "qwen2 ?B Q8_0"


def test_an_engine_that_cannot_start_is_an_error_in_each_of_its_rows(tiny: Path, tmp_path: Path):
    cut = tmp_path / "cut.gguf"
    cut.write_bytes(tiny.read_bytes()[:-1000])
    arm = Arm("embedded", model=str(cut), api="openai", ready_timeout_s=30)
    tests = [BenchTest(32, 0), BenchTest(0, 8)]
    found = list(rows_by_server(arm, tests, {}, 1, None, {}, tmp_path / "log", lambda _: None))
    assert [row.test for row in found] == tests
    assert all("ended before its first token" in row.error for row in found)
    assert msgspec.json.decode(msgspec.json.encode(found), type=list[BenchRow]) == found
