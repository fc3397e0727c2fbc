"""Members of each kind beyond the visible cases: what one known fact refutes, and honest set-ups next to each."""

import random
from collections.abc import Iterable, Iterator
from typing import Any

import pytest
from virtual_study import PROMPTS, Clock, Study

from inferometer.testing.answering_server import (
    TOKENS,
    AnsweringServer,
    Usage,
    counted,
    grouped,
    per_characters,
    timings,
    with_usage,
    words,
)
from inferometer.testing.scripted_server import Received, ScriptedAnswer, Send, Step, Wait

PLAIN = AnsweringServer()
THOUGHTS = tuple(f" thought{i}" for i in range(10))
SHORT_PROMPTS = tuple(f"Word {i}: " + "a b c d " * i for i in range(1, 9))
LONG = 60
OPEN_END: dict[str, Any] = {"max_tokens": 400}


@pytest.fixture
def study(monkeypatch: pytest.MonkeyPatch) -> Study:
    return Study(monkeypatch)


def output(count: int, **details: int) -> Any:
    """Usage with this many output tokens."""
    more = {"completion_tokens_details": details} if details else {}
    return lambda prompt, pieces: {**counted(prompt, pieces), "completion_tokens": count, **more}


def prompt_tokens(change: Any) -> AnsweringServer:
    """Reports another number of prompt tokens than it read."""

    def usage(prompt: str, pieces: list[str]) -> Usage:
        known = counted(prompt, pieces)
        return {**known, "prompt_tokens": change(known["prompt_tokens"])}

    return AnsweringServer(usage=usage)


# --- counts and texts -----------------------------------------------------------------------------

TOKEN_ROWS = {"output_throughput", "mean_tpot_ms", "total_token_throughput"}
TIME_ROWS = {"median_ttft_ms", "mean_tpot_ms", "median_itl_ms"}
REFUTED = {
    "reasoning streamed and not counted": (AnsweringServer(thoughts=THOUGHTS, usage=output(TOKENS)), TOKEN_ROWS),
    "three thoughts not counted": (AnsweringServer(thoughts=THOUGHTS[:3], usage=output(TOKENS)), TOKEN_ROWS),
    "one long thought not counted": (
        AnsweringServer(thoughts=(" I must think about this for a while." * 5,), usage=output(TOKENS)),
        TOKEN_ROWS,
    ),
    "reasoning counted and not streamed": (
        AnsweringServer(usage=output(TOKENS + 60, reasoning_tokens=60), first_s=0.2),
        TIME_ROWS,
    ),
    "more counted than streamed": (AnsweringServer(usage=output(6 * TOKENS), first_s=0.2), TOKEN_ROWS | TIME_ROWS),
    "a blank 30 ms before the text": (AnsweringServer(blank_s=0.03), {"median_ttft_ms", "mean_tpot_ms"}),
}


@pytest.mark.parametrize("kind", REFUTED)
@pytest.mark.parametrize("both", [False, True], ids=["one arm", "both arms"])
def test_a_refuted_number_gives_no_verdict_in_one_arm_or_in_both(kind: str, both: bool, study: Study):
    other, rows = REFUTED[kind]
    found = study(other if both else PLAIN, other, **OPEN_END)
    assert "refuted-numbers" in found.codes("invalid")
    assert not found.claims & rows


CUT = {
    "short prompts cut at 30 tokens": (PLAIN, prompt_tokens(lambda count: min(count, 30)), SHORT_PROMPTS),
    "one number for all prompts": (PLAIN, prompt_tokens(lambda count: 32), SHORT_PROMPTS),
    "equal prompts cut to half": (
        with_usage(prompt_tokens=120),
        with_usage(prompt_tokens=60),
        tuple(f"x{i:03d} " + "abcd " * 96 for i in range(8)),
    ),
}


@pytest.mark.parametrize("kind", CUT)
def test_a_cut_of_a_few_dozen_tokens_is_other_input(kind: str, study: Study):
    base, other, prompts = CUT[kind]
    found = study(base, other, prompts=prompts)
    assert "other-input" in found.codes("invalid")
    assert not found.claims


@pytest.mark.parametrize("change", [30, -30, -40], ids="{:+}".format)
def test_a_template_of_other_length_is_a_note_and_total_tokens_get_no_verdict(change: int, study: Study):
    found = study(prompt_tokens(lambda count: count + 40), prompt_tokens(lambda count: count + 40 + change))
    assert "other-input" in found.codes("note")
    assert not found.above_notes
    assert "total_token_throughput" not in found.claims


COUNTERS = {
    "usage in half of the requests": (
        PLAIN,
        AnsweringServer(usage=lambda prompt, pieces: counted(prompt, pieces) if len(prompt) % 2 else None),
    ),
    "usage in one of two trials": (PLAIN, [PLAIN, AnsweringServer(usage=lambda prompt, pieces: None)]),
    "long pieces that nobody counts": (
        PLAIN,
        AnsweringServer(usage=lambda prompt, pieces: None, pieces=grouped(2), gap_s=0.006),
    ),
    "tokens of 3 and 4 characters in other texts": (
        AnsweringServer(usage=per_characters(3)),
        AnsweringServer(usage=per_characters(4), pieces=lambda prompt: words(prompt + "x")),
    ),
}


@pytest.mark.parametrize("kind", COUNTERS)
def test_counts_of_other_kinds_give_no_verdict_on_tokens(kind: str, study: Study):
    odd = tuple(f"{'x' * i} why is the sea salt and the sky blue? " * 4 for i in range(8))
    found = study(*COUNTERS[kind], prompts=odd, **OPEN_END)
    assert found.codes("warning") & {"other-counter", "other-tokenizer"}
    assert not found.claims & {*TOKEN_ROWS, "median_itl_per_token_ms"}


def test_an_end_token_more_in_each_short_answer_is_a_note_and_makes_nothing_faster(study: Study):
    found = study(PLAIN, AnsweringServer(usage=output(TOKENS + 2)), **OPEN_END)
    assert "counts-disagree" in found.codes("note")
    assert "invalid" not in {one.severity for one in found.comparison.findings}
    assert not found.claims


@pytest.mark.parametrize("change", [lambda count: count // 2, lambda count: count + 9], ids=["half", "more"])
def test_a_prompt_has_one_count_in_all_trials(change: Any, study: Study):
    trials = [prompt_tokens(lambda count: count), prompt_tokens(change)]
    found = study(trials, [trials[0], prompt_tokens(lambda count: change(count) + 1)], prompts=SHORT_PROMPTS)
    assert "counts-disagree" in found.codes("invalid")
    honest = [trials[0], prompt_tokens(lambda count: count + 2)]
    assert not study(honest, honest, prompts=SHORT_PROMPTS).above_notes


REFUTED_DRAFTS = {
    "more accepted than the answer has": timings(draft_n=28, draft_n_accepted=24),
    "the first token too": timings(draft_n=24, draft_n_accepted=TOKENS),
    "below 0": timings(draft_n=-14, draft_n_accepted=-12),
}


@pytest.mark.parametrize("kind", REFUTED_DRAFTS)
@pytest.mark.parametrize("trials", ["all", "one"])
def test_refuted_drafts_have_no_rate_of_acceptance(kind: str, trials: str, study: Study):
    odd, sound = REFUTED_DRAFTS[kind], timings(draft_n=14, draft_n_accepted=7)
    found = study(PLAIN, [odd, odd] if trials == "all" else [sound, odd])
    assert "refuted-numbers" in found.codes("invalid")
    assert found.value("arm1", "acceptance_rate_percent") == (None if trials == "all" else pytest.approx(50))


@pytest.mark.parametrize("reported", [True, False], ids=["none used", "not reported"])
def test_prompts_that_a_cache_answered_in_one_arm_only_make_it_no_faster(reported: bool, study: Study):
    def cached(prompt: str, pieces: list[str]) -> Usage:
        known = counted(prompt, pieces)
        return {**known, "prompt_tokens_details": {"cached_tokens": known["prompt_tokens"] * 3 // 4}}

    base = with_usage(prompt_tokens_details={"cached_tokens": 0}) if reported else PLAIN
    found = study(base, AnsweringServer(usage=cached, first_s=0.004))
    assert "cache-helped" in found.codes("warning", "invalid")
    assert not found.claims


@pytest.mark.parametrize(("texts", "codes"), [(1, {"same-prompts"}), (2, {"same-prompts"}), (4, set())])
def test_few_prompts_again_and_again_are_named(texts: int, codes: set[str], study: Study):
    found = study(PLAIN, PLAIN, prompts=PROMPTS[:texts] * (8 // texts))
    assert found.above_notes == codes


# --- answers --------------------------------------------------------------------------------------


def said(text: str) -> list[str]:
    return [f" {word}" for word in text.split()]


CANNED = said("This is a sentence that answers no prompt at all , whatever one asks of it , again and again .")
OTHER_CANNED = said("Another reply that is always the same , and that has nothing to do with any of the prompts .")


@pytest.mark.parametrize(
    "pieces",
    [
        lambda prompt: CANNED if len(prompt) % 4 else words(prompt),
        lambda prompt: CANNED if len(prompt) % 3 == 0 else OTHER_CANNED,
        lambda prompt: [*CANNED, f" {len(prompt) * 7919:x}"],
    ],
    ids=["most prompts", "two texts", "with an identifier"],
)
def test_canned_answers_of_one_arm_make_nothing_faster(pieces: Any, study: Study):
    odd = tuple(f"{'x' * (i + 1)} why is the sea salt?" for i in range(9))
    found = study(PLAIN, AnsweringServer(pieces=pieces, gap_s=0.001), prompts=odd)
    assert "canned-answers" in found.codes("invalid")
    assert not found.claims


@pytest.mark.parametrize(
    "text",
    [
        "Sorry, an error occurred while processing your request",
        "upstream connect error or disconnect/reset before headers",
        "The server is currently overloaded. Please try again later.",
        "Internal Server Error (request 7f3a)",
        "maximum context length exceeded",
    ],
)
def test_words_of_an_error_are_no_answer(text: str, study: Study):
    failing = AnsweringServer(pieces=lambda prompt: said(text), finish="stop")
    found = study(failing, failing)
    assert "error-answers" in found.codes("invalid")
    assert not found.claims


@pytest.mark.parametrize(("count", "severity"), [(16, "warning"), (18, "note"), (19, "note")])
def test_answers_a_little_shorter_take_no_less_time(count: int, severity: str, study: Study):
    found = study(PLAIN, AnsweringServer(pieces=lambda prompt: words(prompt, count), finish="stop"))
    assert "token-totals" in found.codes(severity)
    assert not found.claims & {"mean_latency_ms", "duration", "request_throughput"}


@pytest.mark.parametrize("count", [17, 22, 25])
def test_longer_answers_over_which_a_prompt_is_spread_make_no_token_faster(count: int, study: Study):
    slow_start = [AnsweringServer(pieces=lambda p, n=n: words(p, n), first_s=0.2, finish="stop") for n in (20, count)]
    found = study(*slow_start, **OPEN_END)
    assert "token-totals" in found.codes("warning", "note")
    assert not found.claims & {"output_throughput", "output_chars_throughput", "total_token_throughput"}


def test_longer_answers_of_a_server_that_is_twice_as_fast_are_faster(study: Study):
    quick = AnsweringServer(pieces=lambda prompt: words(prompt, 23), first_s=0.1, gap_s=0.0015, finish="stop")
    found = study(AnsweringServer(first_s=0.2, finish="stop"), quick, **OPEN_END)
    assert "output_throughput" in found.claims


def test_an_end_token_that_is_counted_makes_no_token_faster(study: Study):
    found = study(PLAIN, AnsweringServer(pieces=lambda prompt: words(prompt, 19), usage=output(TOKENS), finish="stop"))
    assert not found.claims & {"mean_tpot_ms", "median_tpot_ms"}


# --- delivery -------------------------------------------------------------------------------------


class Held:
    """A proxy that passes on `pieces` at a time, the first time `first`."""

    def __init__(self, inner: ScriptedAnswer, pieces: int, first: int = 0) -> None:
        self._inner = inner
        self._pieces = pieces
        self._first = first or pieces

    def __call__(self, request: Received) -> Iterator[Step]:
        held, count, wanted = b"", 0, self._first
        for step in self._inner(request):
            if not isinstance(step, Send):
                yield step
                continue
            held, count = held + step.data, count + 1
            if count == wanted:
                yield Send(held)
                held, count, wanted = b"", 0, self._pieces
        yield Send(held)


STREAM = AnsweringServer(pieces=lambda prompt: words(prompt, LONG))
HELD_BACK: dict[str, ScriptedAnswer] = {
    "8 pieces at a time": Held(STREAM, 8),
    "16 pieces at a time": Held(STREAM, 16),
    "the first 16": Held(STREAM, 1, first=16),
    "nearly all at the end": Held(STREAM, 1, first=58),
    "all but the first": Held(STREAM, 200, first=2),
    "blocks of 1 KB": AnsweringServer(pieces=STREAM.pieces, block=1024),
}


@pytest.mark.parametrize("kind", HELD_BACK)
def test_a_stream_that_was_held_back_has_no_verdict_on_times_of_tokens(kind: str, study: Study):
    found = study(STREAM, HELD_BACK[kind], max_tokens=LONG)
    assert "not-streamed" in found.codes("warning")
    assert not found.claims & {*TIME_ROWS, "mean_itl_ms", "mean_ttft_ms"}


def test_short_answers_of_a_quick_engine_that_come_in_one_read_are_a_note(study: Study):
    tiny = AnsweringServer(pieces=lambda prompt: words(prompt, 8), gap_s=0.0, first_s=0.001)
    found = study(tiny, tiny, max_tokens=8)
    assert "not-streamed" in found.codes("note")
    assert not found.above_notes
    slow = AnsweringServer(pieces=tiny.pieces, at_once=True, gap_s=0.03)
    assert "not-streamed" in study(slow, slow, max_tokens=8).codes("warning")


# --- load -----------------------------------------------------------------------------------------


class Queue:
    """`slots` requests at a time, each of which takes about `service_s`."""

    def __init__(self, clock: Clock, service_s: float, slots: int = 1) -> None:
        self._clock = clock
        self._service_s = service_s
        self._free_s = [0.0] * slots
        self._rng = random.Random(5)

    def __call__(self, request: Received) -> Iterable[Step]:
        slot = min(range(len(self._free_s)), key=self._free_s.__getitem__)
        took_s = self._service_s * self._rng.lognormvariate(0, 0.1)
        wait_s = max(0.0, self._free_s[slot] - self._clock.now_s)
        self._free_s[slot] = self._clock.now_s + wait_s + took_s
        yield Wait(wait_s)
        yield from AnsweringServer(first_s=took_s / 5, gap_s=took_s * 0.8 / TOKENS)(request)


def poisson(rate_per_s: float, count: int) -> list[float]:
    rng, at_s, found = random.Random(3), 0.0, []
    for _ in range(count):
        at_s += rng.expovariate(rate_per_s)
        found.append(at_s)
    return found


@pytest.mark.parametrize(
    ("due_s", "slots"),
    [
        (poisson(25, 60), 1),
        (poisson(30, 120), 8),
        ([at / 25 for at in range(60)], 1),
        ([at / 30 for at in range(30)], 1),
    ],
    ids=["60 at random", "8 at a time", "constant", "30 requests"],
)
def test_a_load_above_the_capacity_of_17_a_second_gives_no_verdict_on_latency(due_s: list[float], slots: int, study):
    prompts = [f"prompt {at} " + "abc " * 30 for at in range(len(due_s))]
    arms = [[Queue(study.clock, factor * slots / 17, slots) for _ in "ab"] for factor in (1.0, 0.9)]
    found = study(*arms, prompts=prompts, due_s=due_s)
    assert "saturated" in found.codes("warning")
    assert not found.claims & {"median_ttft_ms", "mean_latency_ms", "median_latency_from_due_ms"}


# --- honest ---------------------------------------------------------------------------------------

HONEST: dict[str, tuple[ScriptedAnswer, ScriptedAnswer]] = {
    "the same": (PLAIN, PLAIN),
    "reasoning counted in the details": (
        AnsweringServer(thoughts=THOUGHTS, usage=output(TOKENS + 10, reasoning_tokens=10)),
        AnsweringServer(thoughts=THOUGHTS, usage=output(TOKENS + 10, reasoning_tokens=10)),
    ),
    "an empty thought": (AnsweringServer(thoughts=("\n\n",)), AnsweringServer(thoughts=("\n\n",))),
    "a line break first": (
        AnsweringServer(pieces=lambda prompt: ["\n", *words(prompt, TOKENS - 1)]),
        AnsweringServer(pieces=lambda prompt: ["\n", *words(prompt, TOKENS - 1)]),
    ),
    "digits": (
        AnsweringServer(pieces=lambda prompt: [f"{(len(prompt) * i) % 997:03d}" for i in range(20)], usage=output(60)),
        AnsweringServer(pieces=lambda prompt: [f"{(len(prompt) * i) % 997:03d}" for i in range(20)], usage=output(60)),
    ),
    "two pieces together": (STREAM, Held(STREAM, 2)),
    "a stream interval of four": (
        STREAM,
        AnsweringServer(
            pieces=lambda prompt: ["".join(words(prompt, LONG)[at : at + 4]) for at in range(0, LONG, 4)],
            usage=output(LONG),
            gap_s=0.012,
        ),
    ),
}


@pytest.mark.parametrize("kind", HONEST)
def test_an_honest_neighbour_of_each_kind_raises_nothing_above_a_note(kind: str, study: Study):
    assert study(*HONEST[kind], **OPEN_END).above_notes == set()
