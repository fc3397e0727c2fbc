"""Other tools' runs beside our own trials."""

import msgspec
import pytest

from inferometer.analysis.compare import compare
from inferometer.analysis.comparison import Comparison
from inferometer.core.record import Event, RequestRecord, TokenUsage
from inferometer.foreign.foreign_run import ForeignRun
from inferometer.foreign.foreign_trials import (
    contradicting_rates,
    different_work,
    percentiles_of,
    single_run_notes,
    trial_of,
    with_chunk_gaps,
)
from inferometer.metrics.summary import TrialSummary

MS = 1_000_000


def run(**values: float | None) -> ForeignRun:
    return ForeignRun("r", "Tool 1.0", values)


def trial(foreign: ForeignRun, arm: str = "theirs", number: int = 1) -> TrialSummary:
    return trial_of(foreign, arm, number, ("file.json", number), "inferometer", (99,))


def ours(number: int = 1, **values: float | None) -> TrialSummary:
    return TrialSummary("ours", number, values, study="s")


def row(comparison: Comparison, key: str):
    return next(row for row in comparison.rows if row.metric == key)


def request(index: int, gap_ms: int) -> RequestRecord:
    """Three tokens, `gap_ms` apart, the first 10 ms after sending; each sent when the one before was done."""
    sent = index * 1000 * MS
    events = tuple(Event(sent + (10 + gap_ms * i) * MS, "text", "x") for i in range(3))
    return RequestRecord(
        index, f"r{index}", True, "ok", None, sent, events[-1].at_ns, events=events, usage=TokenUsage(5, 3)
    )


def test_a_row_of_unlike_definitions_has_a_mark_a_line_and_no_verdict():
    theirs = msgspec.structs.replace(run(mean_tpot_ms=20.0, mean_ttft_ms=5.0), differs={"mean_tpot_ms": "to [DONE]"})
    known = {"mean_tpot_ms": 10.0, "mean_ttft_ms": 5.0}
    comparison = compare([*(ours(n, **known) for n in (1, 2)), *(trial(theirs, number=n) for n in (1, 2))])
    tpot = row(comparison, "mean_tpot_ms")
    assert tpot.label == "Mean TPOT (ms) [1]"
    assert tpot.differs == {"theirs": "to [DONE]"}
    (found,) = tpot.differences
    assert (found.percent, found.verdict) == (pytest.approx(100.0), "unknown")
    assert found.reason == "the two columns define it differently"
    assert "[1] ours: our definition; theirs: to [DONE]" in comparison.notes
    assert row(comparison, "mean_ttft_ms").label == "Mean TTFT (ms)"


@pytest.mark.parametrize(
    ("stated", "found"),
    [
        ({"output_throughput": 1200.0}, ["output throughput is stated as 1200, but 600 in 5 s are 120."]),
        ({"output_throughput": 60.0}, ["output throughput is stated as 60, but 600 in 5 s are 120."]),
        ({"request_throughput": 0.5}, ["request throughput is stated as 0.5, but 10 in 5 s are 2."]),
        ({"output_throughput": 118.0, "request_throughput": 2.1}, []),
        ({"output_throughput": None, "request_throughput": 0.0}, []),
    ],
    ids=["tenfold", "of two GPUs each", "requests", "to the tool's own end", "unknown"],
)
def test_a_rate_that_its_own_total_and_duration_refute_has_no_verdict(stated: dict[str, float], found: list[str]):
    totals: dict[str, float | None] = {"completed": 10.0, "total_output_tokens": 600.0, "duration": 5.0}
    theirs, mine = trial(run(**totals | stated)), TrialSummary("ours", 1, totals | {"output_throughput": 9.0})
    findings = contradicting_rates([theirs, mine])
    assert [one.message for one in findings] == found
    assert all(one.withholds for one in findings)


def test_the_dialect_that_a_tool_s_numbers_are_of_makes_them_alike_but_for_memory():
    theirs = ForeignRun(
        "r", "vLLM", {"mean_tpot_ms": 2.0}, {"mean_tpot_ms": "to [DONE]", "memory_gib": "noted"}, dialect="vllm-0.6.5"
    )
    assert trial(theirs).differs == theirs.differs
    assert trial_of(theirs, "a", 1, ("f", 1), "vllm-0.6.5", (99,)).differs == {"memory_gib": "noted"}


def test_another_tool_s_itl_stands_in_the_row_of_chunk_gaps_where_we_have_that_row():
    theirs = msgspec.structs.replace(run(median_itl_ms=7.0), differs={"median_itl_ms": "of text"})
    alone, beside = with_chunk_gaps([trial(theirs)]), with_chunk_gaps([ours(median_chunk_gap_ms=4.0), trial(theirs)])
    assert "median_chunk_gap_ms" not in alone[0].values
    assert (beside[1].values["median_chunk_gap_ms"], beside[1].differs["median_chunk_gap_ms"]) == (7.0, "of text")
    assert beside[0].values == {"median_chunk_gap_ms": 4.0}  # ours are left alone


def test_requests_told_one_by_one_are_measured_again_and_have_an_interval_over_prompts():
    """Gaps of 4, 5 … 11 ms: a mean TPOT of 7.5 ms. Memory and what else only the tool knows stays."""
    told = run(mean_tpot_ms=99.0, memory_gib=3.0)
    known = frozenset({"mean_tpot_ms", "completed", "duration"})
    records = tuple(request(i, 4 + i) for i in range(8))
    told = msgspec.structs.replace(told, differs={"median_tpot_ms": "to [DONE]"})
    theirs = trial(msgspec.structs.replace(told, records=records, keys_from_records=known))
    assert theirs.differs["mean_tpot_ms"] == "to [DONE]"  # of the same requests
    assert set(theirs.values) == {*known, "memory_gib"}  # no stalls, say: what the file tells is too little for them
    assert set(theirs.replicates) == {"mean_tpot_ms", "duration"}
    assert theirs.values["mean_tpot_ms"] == pytest.approx(7.5)
    assert (theirs.values["completed"], theirs.values["memory_gib"], theirs.requests) == (8, 3.0, 8)
    assert theirs.values["duration"] == pytest.approx(7 + (10 + 2 * 11) / 1000)
    estimate = row(compare([theirs]), "mean_tpot_ms").estimates["theirs"]
    assert estimate.basis == "prompts"
    assert estimate.low < 7.5 < estimate.high
    assert single_run_notes([theirs]) == []


def test_requests_of_which_nobody_told_how_long_they_took_are_measured_without_rates():
    """Sent and ended at one moment: the total of their times is 0, which other rates would be divided by."""
    at_once = RequestRecord(0, "r", True, "ok", None, 0, 0, events=(Event(0, "text", "x"),), usage=TokenUsage(5, 1))
    told = ForeignRun("r", "t", {}, records=(at_once, at_once), keys_from_records=frozenset({"completed"}))
    assert trial(told).values == {"completed": 2}


def test_trials_of_two_files_are_no_pairs():
    files = {
        arm: trial_of(run(mean_tpot_ms=2.0), arm, 1, (f"{arm}.json", 1), "inferometer", (99,)) for arm in ("a", "b")
    }
    comparison = compare(list(files.values()))
    assert row(comparison, "mean_tpot_ms").differences[0].paired is False


def test_runs_of_one_name_are_trials_of_one_column_with_an_interval():
    trials = [trial(run(mean_tpot_ms=value), "a", n) for n, value in enumerate((4.0, 5.0, 6.0), start=1)]
    estimate = row(compare(trials), "mean_tpot_ms").estimates["a"]
    assert (estimate.value, estimate.n, estimate.basis) == (5.0, 3, "trials")
    assert single_run_notes(trials) == []


def test_rows_that_our_tables_leave_out_are_there_where_another_tool_tells_them():
    keys = [row.metric for row in compare([trial(run(mean_e2el_ms=5.0))]).rows if row.values["theirs"] is not None]
    assert keys == ["mean_e2el_ms"]
    assert "mean_e2el_ms" not in [row.metric for row in compare([ours(mean_e2el_ms=5.0)]).rows]


def test_percentiles_are_those_that_any_run_tells():
    assert percentiles_of([run(p90_ttft_ms=1.0, p50_ttft_ms=1.0, p99_9_oddity=2.0), run(**{"p99.9_itl_ms": 2.0})]) == (
        90,
        99,
        99.9,
    )


def test_columns_of_other_work_are_warned_of_where_one_is_another_tool_s():
    one, other = trial(run(completed=50, total_input_tokens=5926), "a"), trial(run(completed=40), "b")
    (finding,) = different_work([one, other])
    assert "successful requests a 50, b 40" in finding.message
    assert different_work([one]) == []
    assert different_work([ours(completed=50), ours(completed=40)]) == []  # findings of studies say more
