import json
from pathlib import Path
from typing import Any

import pytest

from inferometer.core.record import Fact
from inferometer.engines.effective_settings import facts_at_end, facts_when_ready

RECORDED = Path(__file__).parent / "recorded"


def recorded(name: str) -> str:
    return (RECORDED / f"{name}.log").read_text()


def ready(log: str, props: Any = None, slots: Any = None) -> dict[str, str]:
    return {fact.name.removeprefix("in_force_"): fact.value for fact in facts_when_ready(log, props, slots)}


def at_end(log: str) -> dict[str, str]:
    return {fact.name: fact.value for fact in facts_at_end(log, ())}


@pytest.mark.parametrize(
    ("name", "facts"),
    [
        ("b4295-draft", {"flash_attn": "on", "gpu_layers": "0/4", "context": "1024"}),
        ("b4295-plain", {"flash_attn": "off", "gpu_layers": "0/4", "context": "1024"}),
        ("hjc4869-b5163-draft", {"flash_attn": "on", "gpu_layers": "0/4", "context": "1024"}),
        ("hjc4869-b5163-plain", {"flash_attn": "off", "gpu_layers": "0/4", "context": "1024"}),
        ("4227c9b-draft", {"flash_attn": "on", "gpu_layers": "0/4", "context": "1024"}),
        ("b9093-draft", {"flash_attn": "on", "gpu_layers": "0/4", "context": "1024", "draft": "on"}),
        ("b11434-draft", {"flash_attn": "on", "gpu_layers": "0/4", "context": "1024", "draft": "on"}),
        ("b11434-draft-ignored", {"flash_attn": "off", "gpu_layers": "0/4", "context": "1024", "draft": "off"}),
        ("b11434-plain", {"context": "1024"}),
        ("ik_llama-8337e4c-plain", {"flash_attn": "on", "gpu_layers": "0/4", "context": "1024"}),
    ],
)
def test_builds_of_two_years_say_in_their_logs_what_is_in_force(name: str, facts: dict[str, str]):
    found = ready(recorded(name))
    assert found.pop("cache_types", "f16/f16") == "f16/f16"
    assert found == facts


def test_ik_llama_says_in_its_log_alone_that_it_drafts():
    props, slots = (
        json.loads((RECORDED / f"ik_llama-8337e4c-draft-{of}.json").read_text()) for of in ("props", "slots")
    )
    facts = {"flash_attn": "on", "gpu_layers": "0/4", "context": "1024", "cache_types": "q8_0/f16", "draft": "on"}
    assert ready(recorded("ik_llama-8337e4c-draft"), props, slots) == facts
    counts = {name: value for name, value in at_end(recorded("ik_llama-8337e4c-draft")).items() if "tokens" in name}
    assert counts == {"spec_log_drafted_tokens": "48", "spec_log_accepted_tokens": "40"}


def test_the_types_of_the_target_s_cache_are_read():
    log = "llama_kv_cache: size = 1.50 MiB (512 cells, 3 layers), K (q8_0): 0.75 MiB, V (f16): 0.75 MiB\n"
    draft = "loading draft model 'd.gguf'\n" + log.replace("q8_0", "f16")
    assert ready(log + draft)["cache_types"] == "q8_0/f16"


def test_each_fact_names_its_source():
    slots = [{"n_ctx": 512, "speculative": True}]
    facts = facts_when_ready(recorded("b11434-draft-ignored"), None, slots)
    assert {fact.name: fact.source for fact in facts} == {
        "in_force_cache_types": "the engine's log",
        "in_force_flash_attn": "the engine's log",
        "in_force_gpu_layers": "the engine's log: no usable GPU found",
        "in_force_draft": "/slots",
        "in_force_context": "the engine's log",
    }


@pytest.mark.parametrize(
    ("props", "slots", "draft"),
    [
        (None, [{"speculative": True}, {"speculative": True}], "on"),
        (None, [{"speculative": False}], "off"),
        ({"default_generation_settings": {"speculative": True}}, "Not Implemented", "on"),  # 4227c9b, no --slots
        ({"default_generation_settings": {"speculative": False}}, None, "off"),
        ({"default_generation_settings": {"n_ctx": 512}}, None, None),
        (None, [], None),
        ([], {}, None),
    ],
)
def test_a_server_is_asked_whether_its_slots_speculate(props: Any, slots: Any, draft: str | None):
    assert ready("srv load_model: loading draft model 'd.gguf'", props, slots).get("draft") == draft


AUTO = """llama_context: flash_attn    = auto
{resolved}
common_speculative_init_result: loading draft model 'd.gguf'
llama_context: flash_attn    = auto
sched_reserve: Flash Attention was auto, set to {of_draft}
"""


@pytest.mark.parametrize(
    ("resolved", "of_draft", "value"),
    [
        ("sched_reserve: Flash Attention was auto, set to enabled", "disabled", "on"),
        ("llama_context: Flash Attention was auto, set to disabled", "enabled", "off"),
        ("resolve_fused_ops: Flash Attention enabled", "disabled", "on"),
        ("resolve_fused_ops: Flash Attention not supported, set to disabled", "enabled", "off"),
        ("", "enabled", None),
    ],
)
def test_what_auto_came_to_is_the_targets_and_not_the_drafts(resolved: str, of_draft: str, value: str | None):
    assert ready(AUTO.format(resolved=resolved, of_draft=of_draft)).get("flash_attn") == value


def test_asked_for_and_yet_not_supported_is_off():
    log = "llama_context: flash_attn    = enabled\nresolve_fused_ops: Flash Attention not supported, set to disabled\n"
    assert ready(log)["flash_attn"] == "off"


@pytest.mark.parametrize(
    ("log", "value"),
    [
        ("load_tensors: offloaded 25/25 layers to GPU\nload_tensors: CUDA0 model buffer size = 9 MiB", "25/25"),
        ("llm_load_tensors: offloaded 10/65 layers to GPU", "10/65"),
        ("offloaded 65/65 layers to GPU\nloading draft model 'd'\noffloaded 0/29 layers to GPU", "65/65"),
        ("offloaded 65/65 layers to GPU\noffloaded 40/65 layers to GPU", "40/65"),  # what was tried for a fit, first
        ("warning: no usable GPU found, --gpu-layers option will be ignored", "0/?"),
        ("srv load_model: loading model", None),
    ],
)
def test_layers_on_the_gpu_are_the_targets(log: str, value: str | None):
    assert ready(log).get("gpu_layers") == value


@pytest.mark.parametrize(
    ("log", "props", "value"),
    [
        ("initializing, n_slots = 4, n_ctx_slot = 1024, kv_unified = 'false'", None, "4096"),
        ("initializing, n_slots = 4, n_ctx_slot = 8192, kv_unified = 'true'", None, "8192"),
        ("", {"default_generation_settings": {"n_ctx": 2048}, "total_slots": 1}, "2048"),
        ("", {"default_generation_settings": {"n_ctx": 2048}, "total_slots": 2}, None),
    ],
)
def test_the_context_is_that_of_all_slots(log: str, props: Any, value: str | None):
    assert ready(log, props).get("context") == value


def test_statistics_are_the_last_of_a_counter_that_all_slots_share():
    assert at_end(recorded("b11434-draft")) == {
        "in_force_draft": "on",
        "spec_log_drafts": "10",
        "spec_log_accepted_drafts": "10",
        "spec_log_drafted_tokens": "38",
        "spec_log_accepted_tokens": "36",
        "spec_log_begin_ms": "0.036",
        "spec_log_draft_ms": "1.661",
        "spec_log_accept_ms": "0.000",
    }


OF_EACH_SLOT = """slot print_timing: id  0 | task 0 |
statistics draft: #calls(b,g,a) = 1 3 3, #gen drafts = 3, #acc drafts = 2, #gen tokens = 12, #acc tokens = 8, dur(b,g,a) = 0.001, 10.500, 0.002 ms
slot print_timing: id  1 | task 5 |
statistics draft: #calls(b,g,a) = 1 4 4, #gen drafts = 4, #acc drafts = 4, #gen tokens = 16, #acc tokens = 9, dur(b,g,a) = 0.003, 11.000, 0.004 ms
slot print_timing: id  0 | task 9 |
statistics draft: #calls(b,g,a) = 2 8 8, #gen drafts = 8, #acc drafts = 5, #gen tokens = 32, #acc tokens = 20, dur(b,g,a) = 0.002, 30.250, 0.005 ms
"""  # noqa: E501


def test_statistics_of_builds_that_count_by_slot_are_added_up():
    facts = at_end(OF_EACH_SLOT)
    assert (facts["spec_log_drafts"], facts["spec_log_drafted_tokens"], facts["spec_log_accepted_tokens"]) == (
        "12",  # 8 of slot 0 and 4 of slot 1
        "48",
        "29",
    )
    assert facts["spec_log_draft_ms"] == "41.250"


def test_kinds_of_drafting_are_added_up_and_times_are_left_out_where_one_kind_has_none():
    log = """statistics ngram_simple: #calls = 15, #gen drafts = 5, #acc drafts = 5, #gen tokens = 187, #acc tokens = 73
statistics draft: #calls = 10, #gen drafts = 10, #acc drafts = 10, #gen tokens = 110, #acc tokens = 98
"""
    facts = at_end(log)
    assert (facts["spec_log_drafts"], facts["spec_log_drafted_tokens"]) == ("15", "297")
    assert "spec_log_draft_ms" not in facts


@pytest.mark.parametrize(
    ("name", "drafted", "accepted"), [("4227c9b-draft", "32", "30"), ("hjc4869-b5163-draft", "36", "35")]
)
def test_without_statistics_the_requests_acceptance_is_summed(name: str, drafted: str, accepted: str):
    assert at_end(recorded(name)) == {
        "in_force_draft": "on",
        "spec_log_drafted_tokens": drafted,
        "spec_log_accepted_tokens": accepted,
    }


@pytest.mark.parametrize("name", ["b4295-draft", "b4295-plain", "b11434-draft-ignored", "b11434-plain"])
def test_a_log_without_either_adds_nothing(name: str):
    assert at_end(recorded(name)) == {}


def test_what_was_known_before_is_not_said_again():
    known = (Fact("in_force_draft", "on", "/slots"),)
    assert not [fact for fact in facts_at_end(recorded("b11434-draft"), known) if fact.name == "in_force_draft"]
