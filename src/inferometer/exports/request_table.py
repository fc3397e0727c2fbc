"""Requests and the events of their answers as two tables, over studies. Pure.

Times are ns from the trial's start, as stored; latencies are in ms, by the rules of the metric dialect.
"""

from collections.abc import Callable, Iterator, Sequence
from statistics import median
from typing import Any, cast

import msgspec
import numpy as np

from inferometer.base.units import ms
from inferometer.core.record import KINDS, Events, RequestRecord, ServerTimings, Trial
from inferometer.core.record_columns import RecordColumns
from inferometer.core.request import Request
from inferometer.core.spec import Api
from inferometer.exports.export_columns import Batch, ColumnKind, ExportColumn, ExportTable
from inferometer.metrics.request_measures import lateness_ns
from inferometer.metrics.request_timing import MetricDialect, RequestTiming, request_timing
from inferometer.metrics.token_latency import Delivery, delivery

_REQUESTS_PER_BATCH = 1000


class ExportedTrial(msgspec.Struct, frozen=True):
    """A trial with the name of its study, the API of its arm, and the requests by index."""

    study: str
    trial: Trial
    api: Api
    requests: dict[int, Request]


class _Row(msgspec.Struct, frozen=True):
    played: ExportedTrial
    record: RequestRecord
    timing: RequestTiming | None
    delivery: Delivery | None

    @property
    def request(self) -> Request | None:
        return self.played.requests.get(self.record.index)


def request_table(trials: Sequence[ExportedTrial], dialect: MetricDialect, *, with_text: bool) -> ExportTable:
    """Every request of every trial, including warm-ups and failed ones, in the plan's order."""
    made = [*_REQUEST, *(_TEXTS if with_text else ())]
    return ExportTable(tuple(column for column, _ in made), _request_batches(trials, dialect, [of for _, of in made]))


def event_table(trials: Sequence[ExportedTrial], *, with_text: bool) -> ExportTable:
    """Every event of every answer, in order of arrival."""
    return ExportTable((*EVENT_COLUMNS, *((EVENT_TEXT,) if with_text else ())), _event_batches(trials, with_text))


def _parts(trials: Sequence[ExportedTrial]) -> Iterator[tuple[ExportedTrial, Sequence[RequestRecord]]]:
    for played in trials:
        records = RecordColumns.of(played.trial.records).by_index()
        for i in range(0, len(records), _REQUESTS_PER_BATCH):
            yield played, records[i : i + _REQUESTS_PER_BATCH]


# --- requests -------------------------------------------------------------------------------------


def _request_batches(
    trials: Sequence[ExportedTrial], dialect: MetricDialect, made: Sequence[Callable[[_Row], Any]]
) -> Iterator[Batch]:
    for played, records in _parts(trials):
        rows = [_Row(played, r, request_timing(r, dialect, played.api), delivery(r) if r.ok else None) for r in records]
        yield [[of(row) for row in rows] for of in made]


def _column(
    name: str, kind: ColumnKind, description: str, of: Callable[[_Row], Any]
) -> tuple[ExportColumn, Callable[[_Row], Any]]:
    return ExportColumn(name, kind, description), of


def _timed(of: Callable[[RequestTiming], Any]) -> Callable[[_Row], Any]:
    """The value from the request's timing; None if the request failed."""
    return lambda row: None if row.timing is None else of(row.timing)


def _delivered(of: Callable[[Delivery], Any]) -> Callable[[_Row], Any]:
    return lambda row: None if row.delivery is None else of(row.delivery)


def _by_server(of: Callable[[ServerTimings], Any]) -> Callable[[_Row], Any]:
    return lambda row: None if row.record.timings is None else of(row.record.timings)


def _in_ms(ns: float | None) -> float | None:
    return None if ns is None else ms(ns)


def _median_ms(gaps_ns: Sequence[float]) -> float | None:
    return ms(median(gaps_ns)) if gaps_ns else None


def _cached_tokens(row: _Row) -> int | None:
    usage, timings = row.record.usage, row.record.timings
    cached = None if usage is None else usage.cached_tokens
    return cached if cached is not None or timings is None else timings.cache_n


_REQUEST = (
    _column("study", "text", "the study's name", lambda row: row.played.study),
    _column("arm", "text", "the arm", lambda row: row.played.trial.arm),
    _column("trial", "int", "the trial's number within its arm, from 1", lambda row: row.played.trial.number),
    _column("trial_state", "text", "done, failed or running (cut off)", lambda row: row.played.trial.state),
    _column("index", "int", "place in the plan, equal in every trial", lambda row: row.record.index),
    _column("request_id", "text", "the request's name in its data set", lambda row: row.record.request_id),
    _column("measured", "bool", "false: a warm-up, which is in no metric", lambda row: row.record.measured),
    _column("outcome", "text", "ok, or how it failed", lambda row: row.record.outcome),
    _column("status", "int", "HTTP status", lambda row: row.record.status),
    _column(
        "finish_reason", "text", "why the answer ended, as the server reports", lambda row: row.record.finish_reason
    ),
    _column("error", "text", "what went wrong, empty if nothing did", lambda row: row.record.error),
    _column("model", "text", "the model that the server named", lambda row: row.record.model),
    _column("max_tokens", "int", "the token limit of the request", lambda row: row.request and row.request.max_tokens),
    _column(
        "tags",
        "text",
        'JSON object of the prompt\'s kind, as {"language": "Python"}',
        lambda row: msgspec.json.encode(row.request.tags).decode() if row.request and row.request.tags else None,
    ),
    _column("plan_started_ns", "int", "when the trial's plan began", lambda row: row.played.trial.plan_started_ns),
    _column("due_ns", "int", "when it was due; none in a closed loop", lambda row: row.record.due_ns),
    _column("sent_ns", "int", "just before its first byte was sent", lambda row: row.record.sent_ns),
    _column(
        "connected_ns",
        "int",
        "when its connection was made, if it opened a new one",
        lambda row: row.record.connected_ns,
    ),
    _column("first_byte_ns", "int", "the first byte of the answer", lambda row: row.record.first_byte_ns),
    _column("done_ns", "int", "the end of the answer, or when the client gave up", lambda row: row.record.done_ns),
    _column("lateness_ms", "float", "sent − due", lambda row: _in_ms(lateness_ns(row.record))),
    _column("ttft_ms", "float", "sent to the first token", _timed(lambda timing: ms(timing.ttft_ns))),
    _column("latency_ms", "float", "sent to the end", _timed(lambda timing: ms(timing.latency_ns))),
    _column("tpot_ms", "float", "time per output token after the first", _timed(lambda timing: _in_ms(timing.tpot_ns))),
    _column("median_itl_ms", "float", "median gap between chunks", _timed(lambda timing: _median_ms(timing.itl_ns))),
    _column(
        "median_itl_per_token_ms",
        "float",
        "median gap divided by its tokens",
        _delivered(lambda found: _median_ms(found.token_gaps_ns)),
    ),
    _column("prompt_tokens", "int", "tokens of the prompt", _timed(lambda timing: timing.prompt_tokens)),
    _column("prompt_tokens_by", "text", "who counted them", _timed(lambda timing: timing.prompt_source)),
    _column("cached_prompt_tokens", "int", "prompt tokens from the server's prefix cache", _cached_tokens),
    _column("output_tokens", "int", "tokens of the answer", _timed(lambda timing: timing.output_tokens)),
    _column("output_tokens_by", "text", "who counted them", _timed(lambda timing: timing.output_source)),
    _column("bursts", "int", "number of moments in which output arrived", _delivered(lambda found: len(found.bursts))),
    _column(
        "stalls", "int", "gaps of more than 3 times the median one", _delivered(lambda found: len(found.stalls_ns))
    ),
    _column(
        "drafted_tokens", "int", "drafted tokens, as the server reports", _by_server(lambda timings: timings.draft_n)
    ),
    _column("accepted_tokens", "int", "accepted draft tokens", _by_server(lambda timings: timings.draft_n_accepted)),
    _column(
        "server_prompt_ms",
        "float",
        "reading the prompt, by the server's clock",
        _by_server(lambda timings: timings.prompt_ms),
    ),
    _column(
        "server_decode_ms",
        "float",
        "writing the answer, by the server's clock",
        _by_server(lambda timings: timings.predicted_ms),
    ),
    _column(
        "events", "int", "number of events of the answer: see the events table", lambda row: len(row.record.events)
    ),
    _column("coalesced", "int", "events with the same stamp as the event before", lambda row: row.record.coalesced),
    _column("stamp_errors", "int", "reads without a valid kernel time stamp", lambda row: row.record.stamp_errors),
    _column("resent", "int", "how often it was sent again over a new connection", lambda row: row.record.resent),
)
_TEXTS = (
    _column("prompt", "text", "the prompt, its messages joined", lambda row: row.request and row.request.prompt),
    _column("text", "text", "the answer, without reasoning and tool calls", lambda row: row.record.text),
)
REQUEST_COLUMNS = tuple(column for column, _ in (*_REQUEST, *_TEXTS))
"""All columns; the last two are present only with text."""


# --- events ---------------------------------------------------------------------------------------

EVENT_COLUMNS = (
    ExportColumn("study", "text", "the study's name"),
    ExportColumn("arm", "text", "the arm"),
    ExportColumn("trial", "int", "the trial's number within its arm, from 1"),
    ExportColumn("index", "int", "the request's place in the plan"),
    ExportColumn("event", "int", "the event's place in its answer, from 0"),
    ExportColumn("at_ns", "int", "when it came"),
    ExportColumn("kind", "text", "text, reasoning or tool (output); role, empty, usage, done or error"),
    ExportColumn("chars", "int", "code points of output in it"),
    ExportColumn("tokens", "int", "tokens of the event, if the server reports them"),
)
EVENT_TEXT = ExportColumn("text", "text", "the output in it")


def _event_batches(trials: Sequence[ExportedTrial], with_text: bool) -> Iterator[Batch]:
    for played, records in _parts(trials):
        answers = [cast("Events", record.events) for record in records]
        counts = [len(answer) for answer in answers]
        total = sum(counts)
        tokens = [count or None for answer in answers for count in answer.tokens or [0] * len(answer)]
        batch: list[Sequence[Any]] = [
            [played.study] * total,
            [played.trial.arm] * total,
            [played.trial.number] * total,
            np.repeat([record.index for record in records], counts).tolist(),
            [place for count in counts for place in range(count)],
            [at_ns for answer in answers for at_ns in answer.at_ns],
            [KINDS[kind] for answer in answers for kind in answer.kinds],
            [chars for answer in answers for chars in answer.chars],
            tokens,
        ]
        if with_text:
            batch.append([event.text for answer in answers for event in answer])
        yield batch
