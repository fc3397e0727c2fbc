"""When the client's own effect counts against a trial: each check on both sides of its threshold."""

import msgspec
import numpy as np
import pytest

from inferometer.core.record import Event, RequestRecord
from inferometer.load.audit import Audit, LoadReport
from inferometer.study.trial_findings import client_findings

QUIET = LoadReport(
    workers=1,
    stamps="",
    cpu_share=0.2,
    lag_p99_ms=0.3,
    lag_max_ms=4.0,
    lateness_p99_ms=0.1,
    lateness_max_ms=0.4,
    events=1000,
    coalesced=10,
    stamp_errors=0,
    clock_steps=0,
    delay_share=0.01,
    lateness_share=0.002,
)


def verdicts(**changed: object) -> dict[str, str]:
    report = msgspec.structs.replace(QUIET, **changed)
    found = {name: verdict for name, _, verdict in report.checks()}
    assert report.near_the_limit == ("warning" in found.values())
    return found


def test_a_quiet_client_is_ok_in_every_check_and_says_so_in_one_line():
    assert QUIET.line() == (
        "client: CPU 20% of a core ok, worst lag 4.00 ms (1.0% of the time) ok, coalesced 1.0% ok, "
        "lateness P99 0.10 ms (0.2% of the time) ok, "
        "stamp errors 0 ok, clock steps 0 ok"
    )
    assert not QUIET.near_the_limit


@pytest.mark.parametrize(
    ("check", "well", "badly"),
    [
        ("CPU", {"cpu_share": 0.85}, {"cpu_share": 0.86}),
        ("CPU", {"cpu_share": 0.5, "stamps": "switched off"}, {"cpu_share": 0.51, "stamps": "switched off"}),
        ("worst lag", {"lag_max_ms": 500.0, "delay_share": 0.05}, {"delay_share": 0.051}),
        ("lateness P99", {"lateness_p99_ms": 9.0}, {"lateness_p99_ms": 9.0, "lateness_share": 0.051}),
        ("lateness P99", {"lateness_share": 0.2}, {"lateness_p99_ms": 1.01, "lateness_share": 0.2}),
        ("coalesced", {"coalesced": 500, "lag_p99_ms": 11.0}, {"coalesced": 501, "lag_p99_ms": 11.0}),
        ("stamp errors", {"stamp_errors": 0}, {"stamp_errors": 1}),
        ("clock steps", {"clock_steps": 0}, {"clock_steps": 1}),
    ],
)
def test_each_check_warns_above_its_threshold_and_no_other_with_it(
    check: str, well: dict[str, object], badly: dict[str, object]
):
    assert set(verdicts(**well).values()) == {"ok"}
    assert [name for name, verdict in verdicts(**badly).items() if verdict == "warning"] == [check]


def test_tokens_that_a_server_sends_in_one_moment_are_no_fault_of_a_client_that_reads_in_time():
    assert verdicts(coalesced=600, lag_p99_ms=10.0)["coalesced"] == "ok"
    assert verdicts(coalesced=600, lag_p99_ms=10.1)["coalesced"] == "warning"
    assert verdicts(coalesced=600, lag_p99_ms=None, lag_max_ms=None, stamps="switched off")["coalesced"] == "ok"


def test_gaps_get_no_verdict_where_a_late_client_read_one_event_in_twenty_with_another():
    few, many = (msgspec.structs.replace(QUIET, lag_p99_ms=11.0, coalesced=count) for count in (50, 51))
    assert [finding.withholds for finding in client_findings(few)] == [()]
    (note,) = client_findings(many)
    assert (note.severity, note.withholds) == ("note", ("chunk_gaps",))


def test_what_could_not_be_known_is_left_out_and_never_ok():
    unstamped = msgspec.structs.replace(
        QUIET, stamps="a Unix socket has none", lag_p99_ms=None, lag_max_ms=None, lateness_p99_ms=None, events=0
    )
    assert [name for name, _, _ in unstamped.checks()] == ["CPU", "stamps", "stamp errors", "clock steps"]
    assert "stamps our own (a Unix socket has none)" in unstamped.line()


def a_record(due_ns: int | None, sent_ns: int | None, coalesced: int = 0, stamp_errors: int = 0) -> RequestRecord:
    return RequestRecord(
        index=0,
        request_id="r",
        measured=True,
        outcome="ok",
        due_ns=due_ns,
        sent_ns=sent_ns,
        done_ns=9,
        events=(Event(1, "text", "a"), Event(1, "text", "b"), Event(2, "done")),
        coalesced=coalesced,
        stamp_errors=stamp_errors,
    )


def lags(*ms: float) -> np.ndarray:
    return np.array([value * 1e6 for value in ms], np.int64)


def test_the_report_is_of_all_records_and_the_busiest_worker():
    audit = Audit()
    audit.add(a_record(0, 1_000_000, coalesced=1), lags(0.5, 1.5))
    audit.add(a_record(0, 3_000_000, stamp_errors=2), lags(300.0))
    report = audit.report([0.2, 0.7], "", clock_steps=1)
    assert (report.workers, report.cpu_share) == (2, 0.7)
    assert (report.events, report.coalesced, report.stamp_errors, report.clock_steps) == (6, 1, 2, 1)
    assert report.lag_max_ms == 300.0
    assert report.lateness_max_ms == 3.0
    assert report.lateness_p99_ms == pytest.approx(2.98)


def test_the_share_of_the_time_is_from_each_answer_s_end_to_its_reading():
    audit = Audit()
    for _ in range(3):
        audit.add(msgspec.structs.replace(a_record(0, 2_000_000), done_ns=102_000_000), lags(40.0, 1.0))
    report = audit.report([0.1], "", 0)
    assert (report.delay_share, report.lateness_share) == (pytest.approx(0.01), pytest.approx(0.02))


def test_a_percentile_of_the_lag_is_the_upper_edge_of_ten_microseconds():
    audit = Audit()
    audit.add(a_record(None, 0), lags(*[0.042] * 99, 7.0))
    assert audit.report([0.1], "", 0).lag_p99_ms == pytest.approx(0.05)


def test_without_stamps_due_times_and_events_nothing_is_made_up():
    report = Audit().report([0.1], "no SO_TIMESTAMPING", 0)
    assert (report.lag_p99_ms, report.lag_max_ms, report.lateness_p99_ms, report.lateness_max_ms) == (None,) * 4
    assert not report.near_the_limit


def test_waiting_for_a_free_slot_is_not_the_client_s_lateness():
    audit = Audit(capped=True)
    audit.add(a_record(0, 500_000_000), lags())
    assert audit.report([0.1], "", 0).lateness_p99_ms is None
