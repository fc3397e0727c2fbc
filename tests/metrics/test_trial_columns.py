"""Columns of a whole trial give the same numbers as the definitions for one request."""

from collections import Counter
from dataclasses import replace
from itertools import accumulate, chain

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferometer.core.record import KINDS, Event, RequestRecord, ServerTimings, TokenUsage, Trial
from inferometer.core.record_columns import UNKNOWN, RecordColumns, joined
from inferometer.core.request import Message, Request
from inferometer.metrics import acceptance
from inferometer.metrics import request_measures as per_request
from inferometer.metrics import trial_measures as per_trial
from inferometer.metrics.consistency import BLANK_FIRST, contradictions, visible_after_blank_ns
from inferometer.metrics.request_columns import SOURCES
from inferometer.metrics.shared_waits import WaitsSoFar
from inferometer.metrics.summary import view

IN_COLUMNS = (
    per_request.tpot_ns,
    per_request.itl_ns,
    per_request.chunk_gap_ns,
    per_request.token_gap_ns,
    per_request.burst_tokens,
    per_request.burst_gap_total_ns,
    per_request.stall_total_ns,
    per_request.ttft_ns,
    per_request.latency_ns,
    per_request.ttft_from_due_ns,
    per_request.latency_from_sent_ns,
    per_request.latency_from_due_ns,
    per_request.request_lateness_ns,
    per_request.success,
    per_request.output_tokens,
    per_request.output_characters,
    per_request.prompt_and_output_tokens,
    acceptance.drafted,
    acceptance.accepted,
    acceptance.decoded,
    acceptance.steps,
)
gaps = st.sampled_from((0, 1000, 999_999, 1_000_000, 2_000_000, 10_000_000, 100_000_000))
token_counts = st.sampled_from((None, 0, 2, 3, 4, 40))
texts = st.sampled_from(
    ("", " ", "\u3000", "\n\u2003", "a", " tok", "é", "\U0001f600\U0001f600", "a longer piece of text")
)


timings = st.builds(
    ServerTimings,
    cache_n=token_counts,
    prompt_n=token_counts,
    predicted_n=token_counts,
    draft_n=token_counts,
    draft_n_accepted=token_counts,
)


@st.composite
def records(draw, index: int) -> RequestRecord:
    at_ns = sent_ns = draw(st.integers(0, 10_000_000))
    events: list[Event] = []
    states_tokens = draw(st.booleans())
    for kind in draw(st.lists(st.sampled_from((*KINDS, "text", "text", "text")), max_size=12)):
        at_ns += draw(gaps)
        tokens = draw(st.integers(0, 3)) if states_tokens else 0
        events.append(Event(at_ns, kind, draw(texts) if kind in ("text", "reasoning", "tool") else "", tokens))
    return RequestRecord(
        index=index,
        request_id=f"r{index}",
        measured=draw(st.sampled_from((True, True, True, False))),
        outcome=draw(st.sampled_from(("ok", "ok", "ok", "cut", "no_tokens"))),
        due_ns=draw(st.sampled_from((None, sent_ns - 5))),
        sent_ns=draw(st.sampled_from((sent_ns, sent_ns, None))),
        done_ns=at_ns,
        events=events,
        usage=draw(
            st.one_of(
                st.none(),
                st.builds(TokenUsage, st.just(5) | token_counts, st.just(len(events)) | token_counts, token_counts),
            )
        ),
        timings=draw(st.one_of(st.none(), timings)),
        prompt_tokens=draw(token_counts),
        our_tokens=draw(token_counts),
    )


@given(st.data(), st.integers(0, 6), st.sampled_from(("inferometer", "vllm-0.6.5", "vllm-0.33")))
def test_the_values_of_all_requests_at_once_are_those_of_each_request(data, count, dialect):
    trial = Trial("a", 1, "done", 0, tuple(data.draw(records(index)) for index in range(count)))
    asked = {index: Request(f"r{index}", (Message("user", "hello"),), max_tokens=5) for index in range(0, count, 2)}
    whole = view(trial, dialect, requests=asked)
    played = whole.without({index for index in range(count) if data.draw(st.integers(0, 4)) == 0})
    for values_of in IN_COLUMNS:
        found = played.series(values_of)
        by_request = [[] if request.left_out else list(values_of(request)) for request in played.requests]
        assert found.requests == len(played.requests)
        assert found.values.tolist() == pytest.approx(list(chain.from_iterable(by_request)), rel=1e-12)
        expected = np.repeat(np.arange(len(by_request)), [len(values) for values in by_request])
        assert found.positions.tolist() == expected.tolist()


@given(st.data(), st.integers(0, 6))
def test_stalls_and_the_busiest_second_are_counted_over_all_requests(data, count):
    played = view(Trial("a", 1, "done", 0, tuple(data.draw(records(index)) for index in range(count))))
    delivered = [one for request in played.requests if (one := per_request.request_delivery(request)) is not None]
    assert per_trial.stalls(played) == (sum(len(one.stalls_ns) for one in delivered) if delivered else None)
    sent = [(r.record.sent_ns, r.timing) for r in played.requests if r.timing and r.record.sent_ns is not None]
    first_ns = min((sent_ns for sent_ns, _ in sent), default=0)
    seconds = Counter(
        (sent_ns - first_ns + timing.ttft_ns + passed) // 1_000_000_000
        for sent_ns, timing in sent
        for passed in accumulate(timing.itl_ns, initial=0)
    )
    assert per_trial.peak_chunks(played) == max(seconds.values(), default=0)


@given(st.data(), st.integers(0, 6))
def test_the_columns_hold_what_each_request_s_timing_and_contradictions_say(data, count):
    trial = Trial("a", 1, "done", 0, tuple(data.draw(records(index)) for index in range(count)))
    asked = {index: Request(f"r{index}", (Message("user", "hello"),), max_tokens=5) for index in range(0, count, 2)}
    whole = view(trial, requests=asked)
    waits = WaitsSoFar()
    for record in trial.records:
        if record.measured:
            waits.add(record, visible_after_blank_ns(record))
    for place, request in enumerate(whole.requests):
        of_itself = tuple(one for one in request.contradictions if one != BLANK_FIRST)  # which most of a trial show
        assert of_itself == contradictions(request.record, request.asked, waits.waits())
        assert whole.timing.timed[place] == (request.timing is not None)
        if request.timing is not None:
            for name in ("ttft_ns", "latency_ns", "output_tokens", "prompt_tokens"):
                value = int(getattr(whole.timing, name)[place])
                assert (None if value == UNKNOWN else value) == getattr(request.timing, name)
            sources = (SOURCES[whole.timing.output_source[place]], SOURCES[whole.timing.prompt_source[place]])
            assert sources == (request.timing.output_source, request.timing.prompt_source)


@given(st.data(), st.integers(0, 6), st.integers(0, 6))
def test_records_in_columns_are_the_records(data, count, cut):
    made = [data.draw(records(index)) for index in range(count)]
    columns = joined([_without_objects(made[:cut]), _without_objects(made[cut:])])
    assert list(columns) == made
    wanted = np.array([data.draw(st.booleans()) for _ in made], np.bool_)
    assert list(columns.chosen(wanted)) == [one for one, is_wanted in zip(made, wanted, strict=True) if is_wanted]


def _without_objects(made: list[RequestRecord]) -> RecordColumns:
    return replace(RecordColumns.of(made), made=None)
