"""A server that runs already and keeps prompts: an earlier trial must not help the next one, nor a study run again."""

import json
import random
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from inferometer.analysis.comparison import Comparison
from inferometer.core.endpoint import Endpoint
from inferometer.core.schedule import Closed
from inferometer.core.spec import Arm, Sampling, Spec
from inferometer.core.workload_settings import Builtin
from inferometer.engines.prefix_cache import KeptServer
from inferometer.results.study_comparison import comparison_of
from inferometer.study.loop import run_study
from inferometer.study.trial import prompt_number
from inferometer.testing.scripted_server import Received, ScriptedServer, Step, Wait, chat_stream, whole

FRESH_S = 0.12


def prompt_of(body: dict[str, Any]) -> str:
    return json.dumps([body.get("messages") or body.get("prompt"), body.get("cache_salt")])


def serving(
    key: Callable[[dict[str, Any]], str | None], gets: dict[str, str] | None = None
) -> Callable[[Received], Iterable[Step]]:
    """A server that takes FRESH_S for a prompt whose `key` it has not seen; None: it takes it always."""
    seen: set[str] = set()

    def answer(request: Received) -> Iterable[Step]:
        if request.path == "/flush_cache":
            seen.clear()
            return [whole(200, "{}")]
        if request.method == "GET":
            found = {"/v1/models": '{"data": [{"id": "m"}]}', **(gets or {})}.get(request.path)
            return [whole(404, "{}") if found is None else whole(200, found)]
        name = key(request.body)
        wait_s = 0.002 if name in seen else FRESH_S
        seen.update([name] if name is not None else [])
        if request.body.get("stream"):
            return chat_stream([" a", " b", " c"], wait_s, 0.001)
        said = {"message": {"role": "assistant", "content": "a"}, "index": 0, "finish_reason": "length"}
        return [Wait(wait_s), whole(200, json.dumps({"choices": [said], "usage": {"completion_tokens": 1}}))]

    return answer


def llama_cpp_key(body: dict[str, Any]) -> str | None:
    return prompt_of(body) if body.get("cache_prompt", True) else None


def measured(url: str, folder: Path, trials: int = 3, arms: str = "a") -> Comparison:
    spec = Spec(
        arms={name: Arm(engine="external", url=url, model="m") for name in arms},
        order="trials",
        workload=Builtin(num_prompts=4, max_tokens=3),
        schedule=Closed(1),
        tokenizer="none",
        trials=trials,
    )
    list(run := run_study(spec, folder))
    assert run.study is not None
    return comparison_of([run.study], "inferometer")


SERVERS = {
    "reports nothing": (prompt_of, {}),
    "llama.cpp": (llama_cpp_key, {"/props": '{"build_info": "b1", "total_slots": 1}'}),
    "vLLM": (prompt_of, {"/version": '{"version": "0.10.1"}'}),
    "old vLLM": (lambda body: json.dumps(body["messages"]), {"/version": '{"version": "0.6.5"}'}),
    "SGLang": (prompt_of, {"/server_info": '{"version": "0.5.0"}'}),
}


@pytest.mark.parametrize("name", SERVERS)
def test_no_trial_is_helped_by_an_earlier_one_nor_is_a_second_study(name: str, tmp_path: Path):
    key, gets = SERVERS[name]
    with ScriptedServer(serving(key, gets)) as server:
        for folder in ("first", "second"):
            found = measured(server.url, tmp_path / folder, trials=2)
            (row,) = (row for row in found.rows if row.metric == "median_ttft_ms")
            assert (row.estimates["a"].low or row.estimates["a"].value or 0) > 0
            assert (row.values["a"] or 0) >= 1000 * FRESH_S
            assert not [one for one in found.findings if "cache" in one.code and one.severity != "note"]


@pytest.mark.parametrize(("arms", "trials"), [("a", 3), ("ab", 2)])
def test_a_cache_that_one_trial_found_is_kept_out_of_all_later_ones_of_the_server(
    arms: str, trials: int, tmp_path: Path
):
    """The probe before a later trial may miss it, on a machine that is busy at that moment."""
    probes: list[float] = []

    def answer(request: Received) -> Iterable[Step]:
        is_probe = request.body.get("max_tokens") == 1 and request.body.get("stream")
        probes.extend([time.monotonic()] if is_probe else [])
        return (keeping if is_probe and 4 <= len(probes) <= 8 else plain)(request)

    keeping, plain = serving(prompt_of), serving(lambda _: None)
    with ScriptedServer(answer) as server:
        found = measured(server.url, tmp_path / "s", trials, arms)
        loads = [prompt_of(one.body) for one in server.received if one.body.get("max_tokens") == 3]
    assert ["Request set" in prompt for prompt in loads] == [False] * 5 + [True] * 5 * (len(arms) * trials - 1)
    assert "cache-kept" in {one.code for one in found.findings if one.severity == "note"}


def test_a_server_without_a_cache_gets_the_prompts_as_they_are(tmp_path: Path):
    with ScriptedServer(serving(lambda _: None)) as server:
        found = measured(server.url, tmp_path / "s", trials=1)
        streamed = [one.body for one in server.received if one.body.get("stream")]
    assert not any("Request set" in prompt_of(body) or "cache_salt" in body for body in streamed)
    assert not [one for one in found.findings if "cache" in one.code]


def test_a_cache_that_the_probe_cannot_see_makes_the_trials_invalid(tmp_path: Path):
    """One that keeps only prompts with answers of several tokens."""

    def key(body: dict[str, Any]) -> str | None:
        return prompt_of(body) if body.get("max_tokens") != 1 else None

    with ScriptedServer(serving(key)) as server:
        found = measured(server.url, tmp_path / "s")
    assert [(one.severity, one.code) for one in found.findings if "cache" in one.code] == [("invalid", "cache-differs")]


def test_a_slow_first_request_is_not_a_cache(tmp_path: Path):
    began: list[float] = []

    inner = serving(lambda _: "warm" if len(began) > 1 else None)

    def answer(request: Received) -> Iterable[Step]:
        if request.body.get("max_tokens", 1) > 1:
            began.append(time.monotonic())
        return inner(request)

    with ScriptedServer(answer) as server:
        found = measured(server.url, tmp_path / "s")
    assert not [one for one in found.findings if "cache" in one.code]


def test_the_arms_of_a_round_get_the_same_prefix_unless_they_share_a_server():
    arms = {
        name: Arm(engine="external", url=f"http://{host}", model="m") for name, host in zip("abc", "xxy", strict=True)
    }
    spec = Spec(arms=arms, workload=Builtin())
    first = {name: prompt_number(spec, name, 1, 5) for name in arms}
    assert first["a"] == first["c"] != first["b"]
    assert prompt_number(spec, "a", 2, 5) != first["a"]
    assert prompt_number(spec, "a", 1, 6) != first["a"]


def test_the_probe_sends_what_the_load_sends(tmp_path: Path):
    with ScriptedServer(serving(prompt_of)) as server:
        spec = Spec(
            arms={"a": Arm(engine="external", url=server.url, model="m")},
            workload=Builtin(num_prompts=1, max_tokens=3),
            sampling=Sampling(extra_body={"priority": 7}),
            schedule=Closed(1),
            tokenizer="none",
            trials=1,
        )
        list(run_study(spec, tmp_path / "s"))
        posted = [one.body for one in server.received if one.method == "POST" and "messages" in one.body]
    assert len(posted) > 3
    assert all(body["stream"] and body["priority"] == 7 for body in posted)


def test_an_interrupt_does_not_wait_for_a_server_that_is_silent_at_the_probe():
    released = threading.Event()

    def answer(request: Received) -> Iterator[Step]:
        released.wait(30)
        yield whole(200, "{}")

    def interrupted() -> None:
        raise KeyboardInterrupt

    with ScriptedServer(answer) as server:
        arm = Arm(engine="external", url=server.url, model="m")
        endpoint = Endpoint(server.url, arm.api_path, arm.api, "m")
        kept = KeptServer(arm, endpoint, Sampling(), random.Random(1), interrupted)
        with pytest.raises(KeyboardInterrupt):
            kept.treatment(1)
        assert not released.is_set()
        released.set()


def test_the_cost_of_the_probe_is_a_fact(tmp_path: Path):
    with ScriptedServer(serving(lambda _: None)) as server:
        spec = Spec(
            arms={"a": Arm(engine="external", url=server.url, model="m")},
            workload=Builtin(num_prompts=1, max_tokens=3),
            tokenizer="none",
            trials=2,
        )
        list(run := run_study(spec, tmp_path / "s"))
    assert run.study is not None
    for trial in run.study.trials:
        facts = {fact.name: fact.source for fact in trial.facts if fact.name.startswith("prefix_cache")}
        assert {name: source.partition(" s")[0][:38] for name, source in facts.items()} == {
            "prefix_cache": "the probe before the trial: 3 requests",
            "prefix_cache_at_end": "the probe after the trial: 3 requests,",
        }
