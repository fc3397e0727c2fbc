"""What one known fact refutes is never believed: real runs against servers that count, deliver or work otherwise.

Each server stands for a kind. Set-ups that differ and are honest raise nothing above a note.
"""

import pytest

from inferometer.testing.answering_server import (
    TOKENS,
    AnsweringServer,
    counted,
    grouped,
    per_characters,
    timings,
    with_usage,
    words,
)

SPEED_ROWS = ("output_throughput", "mean_tpot_ms", "median_ttft_ms", "median_itl_ms", "total_token_throughput")

CANNED = [f" {word}" for word in "I am a helpful assistant and I will answer your question soon .".split()]
INVALID = {
    "usage x10": (with_usage(completion_tokens=10 * TOKENS), "refuted-numbers"),
    "negative usage": (with_usage(completion_tokens=-7), "refuted-numbers"),
    "no output tokens": (with_usage(completion_tokens=0), "refuted-numbers"),
    "usage is half": (with_usage(completion_tokens=TOKENS // 2), "refuted-numbers"),
    "above the limit": (with_usage(completion_tokens=TOKENS + 9), "refuted-numbers"),
    "more cached than read": (with_usage(prompt_tokens_details={"cached_tokens": 99_999}), "refuted-numbers"),
    "negative prompt": (with_usage(prompt_tokens=-1), "refuted-numbers"),
    "more accepted than drafted": (timings(draft_n=7, draft_n_accepted=9), "refuted-numbers"),
    "negative accepted": (timings(draft_n=7, draft_n_accepted=-7), "refuted-numbers"),
    "prompts cut": (
        AnsweringServer(usage=lambda p, o: {**counted(p, o), "prompt_tokens": min(64, counted(p, o)["prompt_tokens"])}),
        "other-input",
    ),
    "text after [DONE]": (AnsweringServer(after_done=" and more text"), "refuted-numbers"),
    "blank first": (AnsweringServer(blank_s=0.15), "refuted-numbers"),
    "reasoning hidden": (with_usage(completion_tokens=400), "refuted-numbers"),
    "reasoning not counted": (
        AnsweringServer(
            pieces=lambda prompt: words(prompt, 12),
            thoughts=(" thought",) * 8,
            usage=lambda prompt, pieces: {**counted(prompt, pieces), "completion_tokens": 12},
        ),
        "refuted-numbers",
    ),
    "canned": (AnsweringServer(pieces=lambda prompt: CANNED), "canned-answers"),
    "error as answer": (
        AnsweringServer(pieces=lambda prompt: ["Error:", " the", " model", " is", " overloaded"], finish="stop"),
        "error-answers",
    ),
    "half with stop": (
        AnsweringServer(pieces=lambda prompt: words(prompt, TOKENS // 2), finish="stop"),
        "other-lengths",
    ),
}


_OF_TOKENS = ("output_throughput", "mean_tpot_ms", "total_token_throughput")
RESTS_ON: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(
        (
            "usage x10",
            "negative usage",
            "no output tokens",
            "usage is half",
            "above the limit",
            "reasoning hidden",
            "reasoning not counted",
        ),
        _OF_TOKENS,
    ),
    **dict.fromkeys(("more accepted than drafted", "negative accepted"), ("acceptance_rate_percent",)),
    "more cached than read": ("cached_prompt_tokens",),
    "text after [DONE]": ("mean_tpot_ms", "median_itl_ms", "median_ttft_ms"),
    "blank first": ("median_ttft_ms", "mean_tpot_ms"),
}
"""Rows that rest on the number; all rows of speed where the work was another."""


MANY_PROMPTS = [kind for kind, (_, code) in INVALID.items() if code in ("other-lengths", "other-input")]
FEW_PROMPTS = [kind for kind in INVALID if kind not in MANY_PROMPTS]
STUDIES = [MANY_PROMPTS, *(FEW_PROMPTS[i::4] for i in range(4))]
"""Several kinds are arms of one study, which costs less than a study for each."""


@pytest.mark.parametrize("kinds", STUDIES, ids=", ".join)
def test_a_number_that_a_fact_refutes_is_invalid_and_makes_nothing_faster(kinds: list[str], compared):
    others = {f"other-{place}": INVALID[kind][0] for place, kind in enumerate(kinds)}
    result = compared(AnsweringServer(), others, prompts=12 if kinds == MANY_PROMPTS else 6)
    for arm, kind in zip(others, kinds, strict=True):
        assert "invalid" in result.found_of(arm).get(INVALID[kind][1], ()), kind
        wrong = {"faster", "slower"} & result.verdicts(*RESTS_ON.get(kind, SPEED_ROWS), arm=arm)
        assert not wrong, (kind, [(row["metric"], row["differences"]) for row in result.content["rows"]])
    assert result.code == 3
    assert not {"invalid"} & set().union(*result.found_of("base").values())


WARNED = {
    "other tokenizer, 2 and 6 characters": (
        AnsweringServer(usage=per_characters(2)),
        AnsweringServer(usage=per_characters(6)),
        "other-tokenizer",
        ("output_throughput", "mean_tpot_ms"),
    ),
    "events against usage": (
        AnsweringServer(),
        AnsweringServer(usage=lambda prompt, pieces: None, pieces=grouped(1)),
        "other-counter",
        ("output_throughput", "mean_tpot_ms"),
    ),
    "at once": (
        AnsweringServer(),
        AnsweringServer(at_once=True),
        "not-streamed",
        ("mean_tpot_ms", "median_itl_ms", "median_ttft_ms"),
    ),
    "blocks of 16 KB": (
        AnsweringServer(),
        AnsweringServer(block=16_384),
        "not-streamed",
        ("mean_tpot_ms", "median_itl_ms", "median_ttft_ms"),
    ),
    "a template of 200 tokens": (
        AnsweringServer(),
        AnsweringServer(usage=lambda prompt, pieces: counted(prompt, pieces, template=220)),
        "other-input",
        SPEED_ROWS,
    ),
}


WARNED_OF_THE_SAME = ["events against usage", "at once", "blocks of 16 KB", "a template of 200 tokens"]
"""Kinds with the same first arm, which are arms of one study."""


@pytest.mark.parametrize(
    "kinds", [WARNED_OF_THE_SAME, *([kind] for kind in WARNED if kind not in WARNED_OF_THE_SAME)], ids=", ".join
)
def test_numbers_that_are_not_alike_get_no_verdict(kinds: list[str], compared):
    others = {f"other-{place}": WARNED[kind][1] for place, kind in enumerate(kinds)}
    result = compared(WARNED[kinds[0]][0], others)
    for arm, kind in zip(others, kinds, strict=True):
        _, _, code, rows = WARNED[kind]
        assert {"warning", "invalid"} & result.found_of(arm).get(code, set()), kind
        assert result.verdicts(*rows, arm=arm) <= {"unknown", ""}, (
            kind,
            [(row["metric"], row["differences"]) for row in result.content["rows"] if row["metric"] in rows],
        )
