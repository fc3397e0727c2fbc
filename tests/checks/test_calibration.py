"""The error of our stamps against a server that says when it sent: what is played, what follows, a short real run."""

import itertools
import json
import time
import urllib.request
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from warm_program import inferometer

from inferometer.base.errors import LoadFailed, RequestWrong
from inferometer.checks.calibration import (
    GAP_MS,
    RateStep,
    SteppedSchedule,
    StreamRecords,
    achieved,
    calibrate,
    conclusion,
    limits,
    stream_counts,
)
from inferometer.core.record import Event, RequestRecord
from inferometer.load.audit import LoadReport
from inferometer.testing.paced_server import PacedServer, PacedStats, server_sent_ns

MS = 1_000_000
IDLE_SERVER = PacedStats(300, 0.1, 0.4, 1.0, blocked=0, cpu_share=0.2, waited_share=0.0)
REPORT = LoadReport(1, "", 0.3, 0.5, 2.0, None, None, 100, 0, 0, 0)


# --- what is played -------------------------------------------------------------------------------


def test_rates_rise_to_the_largest_asked_for():
    assert stream_counts(1) == [1]
    assert stream_counts(2) == [1, 2]
    assert stream_counts(100) == [1, 10, 50, 100]
    assert stream_counts(1000) == [1, 10, 50, 100, 200, 400, 800, 1000]


@given(st.integers(1, 2000), st.floats(0.2, 5.0))
def test_streams_start_one_after_another_each_at_its_own_place_in_a_gap(streams: int, seconds: float):
    schedule = SteppedSchedule.of(streams, seconds)
    due = [item.due_ns or 0 for item in schedule.plan().measured]
    assert len(due) == streams
    assert due == sorted(due)
    assert due[-1] <= max(seconds * 250, GAP_MS) * MS
    places = sorted(at % (GAP_MS * MS) for at in due)
    apart = [b - a for a, b in itertools.pairwise(places)]
    even = GAP_MS * MS / streams
    assert all(abs(gap - even) <= 1 for gap in apart)
    begin_ns, end_ns = schedule.window_ns()
    assert end_ns > begin_ns


def test_all_connections_stand_before_the_first_stream():
    plan = SteppedSchedule.of(50, 1.0).plan()
    assert plan.concurrency == 50
    assert [len(plan.warmups), len(plan.measured)] == [1, 50]
    assert {item.request.max_tokens for item in plan.measured} == {100}


# --- what is computed -----------------------------------------------------------------------------

SCHEDULE = SteppedSchedule(streams=2, tokens=30, spread_ns=10 * MS)
ZERO_NS = 1_000 * MS  # of the trial, on the monotonic clock


def a_record(stream: int, errors_ms: list[float], late_ms: float = 0.0, tokens: int = 30) -> RequestRecord:
    """A stream as the schedule has it from 100 ms on, all sent `late_ms` later; the errors come round and round."""
    due_ns = 100 * MS + SCHEDULE.due_ns(stream)
    events: list[Event] = []
    for n in range(tokens):
        sent_ns = due_ns + round((20 + n * GAP_MS + late_ms) * MS)
        error_ns = round(errors_ms[n % len(errors_ms)] * MS)
        events.append(Event(sent_ns + error_ns, "text", f" t{sent_ns + ZERO_NS:019d}"))
    return RequestRecord(
        index=stream + 1,
        request_id=str(stream),
        measured=True,
        outcome="ok",
        due_ns=due_ns,
        sent_ns=due_ns + MS // 2,
        done_ns=events[-1].at_ns,
        events=(*events, Event(events[-1].at_ns, "usage"), Event(events[-1].at_ns, "done")),
        coalesced=3,
    )


def a_rate(*records: RequestRecord, server: PacedStats = IDLE_SERVER) -> RateStep:
    collected = StreamRecords(SCHEDULE, ZERO_NS)
    for record in records:
        collected.add(record)
    return collected.rate(REPORT, server)


def test_the_error_is_the_stamp_minus_the_time_in_the_token():
    rate = a_rate(a_record(0, [0.25, 0.5, 0.5]), a_record(1, [0.75, 0.5, 0.5]))
    assert rate.tokens == 60
    assert rate.error_median_ms == pytest.approx(0.5)
    assert rate.error_max_ms == pytest.approx(0.75)
    assert rate.ttft_error_median_ms == pytest.approx(0.5)  # of 0.25 and 0.75
    assert rate.ttft_error_max_ms == pytest.approx(0.75)
    assert rate.lateness_p99_ms == pytest.approx(0.5)
    assert rate.coalesced == pytest.approx(6 / 60)
    assert (rate.cpu_share, rate.lag_p99_ms, rate.lag_max_ms) == (0.3, 0.5, 2.0)


def test_a_schedule_that_was_kept_is_achieved_and_one_that_was_not_is_short():
    kept = a_rate(a_record(0, [0.1]), a_record(1, [0.1]))
    assert kept.achieved == pytest.approx(1.0, abs=0.02)
    assert kept.sent == pytest.approx(1.0, abs=0.02)
    assert achieved(kept)
    late = a_rate(a_record(0, [0.1], late_ms=100), a_record(1, [0.1], late_ms=100))
    assert late.sent == pytest.approx(19 / 29, abs=0.03)
    assert not achieved(late)


def test_a_stream_that_brings_too_few_tokens_has_failed_and_is_in_no_number():
    rate = a_rate(a_record(0, [0.1]), a_record(1, [9.0], tokens=29))
    assert (rate.failed, rate.first_failure) == (1, "29 tokens")
    assert rate.error_max_ms == pytest.approx(0.1)
    assert not achieved(rate)


def test_no_stream_that_ended_well_is_no_calibration():
    with pytest.raises(LoadFailed, match="all 2 stream"):
        a_rate(a_record(0, [0.1], tokens=3))


# --- what follows ---------------------------------------------------------------------------------

HELD = RateStep(
    streams=100,
    tokens=20_000,
    failed=0,
    first_failure="",
    achieved=1.0,
    sent=1.0,
    error_median_ms=0.01,
    error_p99_ms=0.05,
    error_max_ms=3.0,
    ttft_error_median_ms=0.01,
    ttft_error_p99_ms=0.07,
    ttft_error_max_ms=0.2,
    lateness_p99_ms=0.2,
    lag_p99_ms=1.5,
    lag_max_ms=3.0,
    coalesced=0.0,
    cpu_share=0.2,
    stamps="",
    server=IDLE_SERVER,
)


def like(rate: RateStep, **changed: object) -> RateStep:
    return msgspec.structs.replace(rate, **changed)


@pytest.mark.parametrize(
    ("well", "badly", "said"),
    [
        ({"error_p99_ms": 1.0}, {"error_p99_ms": 1.01}, "the error of a stamp was 1.01 ms at P99"),
        ({"ttft_error_p99_ms": 1.0}, {"ttft_error_p99_ms": 2.5}, "first token's stamp was 2.50 ms"),
        ({"coalesced": 0.05}, {"coalesced": 0.06}, "6.0% of the tokens"),
        ({"achieved": 0.97}, {"achieved": 0.96}, "96.0% of the rate arrived"),
        ({"failed": 0}, {"failed": 2, "first_failure": "refused: no"}, "2 stream(s) failed, the first: refused: no"),
    ],
)
def test_each_bound_has_two_sides(well: dict[str, object], badly: dict[str, object], said: str):
    assert limits(like(HELD, **well)) == []
    (limit,) = limits(like(HELD, **badly))
    assert limit.part == "client"
    assert said in limit.message


def test_a_server_that_sent_too_little_is_the_limit_unless_the_client_did_not_read():
    slow = like(HELD, achieved=0.9, sent=0.9)
    (limit,) = limits(slow)
    assert limit.part == "server"
    assert "it sent 90.0% of its schedule, 0.4 ms late at P99" in limit.message
    blocked = like(slow, server=msgspec.structs.replace(IDLE_SERVER, blocked=7))
    assert [limit.part for limit in limits(blocked)] == ["client"]


def test_the_ceiling_is_the_highest_rate_held_and_the_next_one_says_why():
    found = conclusion([like(HELD, streams=100), like(HELD, streams=200), like(HELD, streams=400, error_p99_ms=3.0)])
    assert (found.ceiling_streams, found.limited_by) == (200, "client")
    assert found.message == (
        "Up to 200 streams (20,000 tok/s) a stamp is 0.010 ms (median), 0.050 ms (P99) late; "
        "for first tokens 0.070 ms (P99). At 400 streams the client was the limit: "
        "the error of a stamp was 3.00 ms at P99, above 1 ms."
    )


def test_a_machine_that_held_all_that_was_asked_has_a_higher_ceiling():
    found = conclusion([HELD])
    assert (found.ceiling_streams, found.limited_by) == (100, None)
    assert "the ceiling is higher" in found.message


def test_where_the_server_is_the_limit_the_client_is_not_blamed_and_a_busy_machine_is_named():
    busy = msgspec.structs.replace(IDLE_SERVER, waited_share=0.4)
    found = conclusion([HELD, like(HELD, streams=200, achieved=0.5, sent=0.5, server=busy)])
    assert found.limited_by == "server"
    assert "At 200 streams the shipped server was the limit: it sent 50.0% of its schedule" in found.message
    assert "; the client held its bounds." in found.message
    assert found.message.endswith("The server waited for a core 40% of the time: the machine was busy.")


def test_a_server_at_its_limit_does_not_hide_the_client_s_error():
    found = conclusion([HELD, like(HELD, streams=200, achieved=0.5, sent=0.5, error_p99_ms=30.0)])
    assert found.limited_by == "server"
    assert "; of the client, the error of a stamp was 30.00 ms at P99, above 1 ms." in found.message


def test_no_rate_held():
    found = conclusion([like(HELD, error_p99_ms=5.0)])
    assert (found.ceiling_streams, found.limited_by) == (None, "client")
    assert found.message.startswith("No rate was held")


# --- the real thing -------------------------------------------------------------------------------


def test_the_paced_server_keeps_its_schedule_and_tells_its_send_times():
    with PacedServer() as server:
        body = json.dumps({"max_tokens": 4, "stream": True, "paced": {"first_ms": 30, "gap_ms": 5}}).encode()
        before_ns = time.monotonic_ns()
        with urllib.request.urlopen(f"{server.url}/v1/chat/completions", body) as answer:
            lines = answer.read().decode().splitlines()
        after_ns = time.monotonic_ns()
        stats = server.stop()
    data = [line.removeprefix("data: ") for line in lines if line]
    assert data[-1] == "[DONE]"
    chunks = [json.loads(text) for text in data[:-1]]
    sent = [server_sent_ns(chunk["choices"][0]["delta"]["content"]) for chunk in chunks[:4]]
    assert before_ns + 30 * MS <= sent[0]
    assert sent[3] <= after_ns
    assert sent == sorted(sent)
    assert sent[3] >= before_ns + 45 * MS  # late it may be, early never
    assert chunks[4]["choices"][0]["finish_reason"] == "length"
    assert chunks[5]["usage"]["completion_tokens"] == 4
    assert (stats.tokens, stats.blocked) == (4, 0)
    assert stats.lateness_max_ms is not None and stats.lateness_max_ms >= 0


@pytest.mark.parametrize("text", ["t0000000000000000001", " t1", " t00000000000000x0001", ""])
def test_a_text_of_another_server_is_no_time(text: str):
    with pytest.raises(ValueError):
        server_sent_ns(text)


def test_a_short_calibration_finds_errors_that_are_small_and_never_negative():
    rates = list(calibrate(2, 0.3))
    assert [rate.streams for rate in rates] in ([1, 2], [1])  # a machine that is very busy stops early
    for rate in rates:
        assert rate.failed == 0, rate.first_failure
        assert rate.tokens == rate.streams * 30
        assert rate.server.tokens == rate.tokens + 5  # the warm-up's
        assert 0 <= rate.error_median_ms <= rate.error_p99_ms <= rate.error_max_ms
        assert 0 <= rate.ttft_error_median_ms <= rate.ttft_error_max_ms <= rate.error_max_ms
        assert rate.error_median_ms < 50
        assert rate.lateness_p99_ms >= 0
        assert 0 < rate.cpu_share <= 1.1
        assert 0 < rate.achieved <= 1.1


def test_the_command_prints_json_and_writes_the_same_to_a_file(tmp_path: Path):
    done = inferometer(
        *("calibrate", "--max-streams", "1", "--seconds", "0.3", "--json", "--out", "calibration.json"), cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == (tmp_path / "calibration.json").read_text()
    assert "1 stream(s):" in done.stderr
    document = json.loads(done.stdout)
    assert set(document) == {
        *("stamps", "bounds", "rates", "ceiling_streams", "limited_by", "message"),
        *("seconds", "load_average_before", "machine"),
    }
    (rate,) = document["rates"]
    assert set(rate) == set(RateStep.__struct_fields__)
    assert rate["streams"] == 1
    assert rate["server"]["tokens"] == 35
    assert document["machine"]["os"]


def test_the_command_s_table_ends_in_what_it_means(tmp_path: Path):
    done = inferometer("calibrate", "--max-streams", "1", "--seconds", "0.3", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    head, row, *_, last = done.stdout.splitlines()
    assert head.split()[:3] == ["streams", "tok/s", "achieved"]
    assert row.split()[0] == "1"
    assert last.startswith(("Up to 1 streams", "No rate was held"))
    assert "Stamps: " in done.stdout


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--max-streams", "0"], "--max-streams must be at least 1, not 0"),
        (["--seconds", "-1"], "--seconds must be between 0.2 and 60, not -1"),
        (["--seconds", "nan"], "--seconds must be between"),
        (["--seconds", "inf"], "--seconds must be between"),
        (["--out", "nowhere/c.json"], "the folder nowhere does not exist"),
        (["--max-streams", "many"], "'--max-streams'"),
    ],
)
def test_what_cannot_be_played_is_refused_before_anything_starts(tmp_path: Path, words: list[str], said: str):
    done = inferometer("calibrate", *words, cwd=tmp_path)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_a_wrong_request_is_refused_when_it_is_made_not_when_it_is_played():
    with pytest.raises(RequestWrong):
        calibrate(0, 1.0)
