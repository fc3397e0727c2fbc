"""Several workers on one plan: together they are one, and one that dies takes only its own part with it."""

import os
import signal
import time
from collections.abc import Iterator

import pytest

from inferometer.base.errors import LoadFailed
from inferometer.core.endpoint import Endpoint
from inferometer.core.plan import Plan, PlanItem
from inferometer.core.record import RequestRecord
from inferometer.core.request import user_request
from inferometer.core.spec import Sampling
from inferometer.load import LoadEvent, Started, WorkerLost, play
from inferometer.load.audit import LoadReport
from inferometer.load.local_workers import LocalWorker
from inferometer.load.wire import Tick
from inferometer.load.worker_pool import WorkerPool, local_workers
from inferometer.testing.scripted_server import ScriptedServer, inference_server


def a_plan(count: int, concurrency: int | None, due_ns: list[int] | None = None) -> Plan:
    warmups = [PlanItem(0, user_request("warm", "warm", max_tokens=2), None, measured=False)]
    items = [
        PlanItem(1 + i, user_request(f"r{i}", f"prompt {i}", max_tokens=20), None if due_ns is None else due_ns[i])
        for i in range(count)
    ]
    return Plan((*warmups, *items), concurrency, seed=1)


def at(server: ScriptedServer) -> Endpoint:
    return Endpoint(server.url, "/v1/chat/completions", "openai-chat", "scripted")


def played(plan: Plan, server: ScriptedServer, crew: WorkerPool) -> Iterator[LoadEvent]:
    return play(plan, at(server), Sampling(), time.monotonic_ns(), crew)


def records_of(happened: list[LoadEvent]) -> list[RequestRecord]:
    return sorted((h for h in happened if isinstance(h, RequestRecord)), key=lambda record: record.index)


def most_at_once(records: list[RequestRecord]) -> int:
    edges = sorted([(r.sent_ns, 1) for r in records] + [(r.done_ns, -1) for r in records])
    under_way = peak = 0
    for _, step in edges:
        under_way += step
        peak = max(peak, under_way)
    return peak


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_any_number_of_workers_sends_the_same_requests_and_keeps_the_concurrency(workers: int):
    with ScriptedServer(inference_server(tokens=3, first_s=0.02)) as server, local_workers(workers) as crew:
        happened = list(played(a_plan(20, concurrency=4), server, crew))
    records = records_of(happened)
    assert [record.index for record in records] == list(range(21))
    assert {record.outcome for record in records} == {"ok"}
    asked = [request.body["messages"][0]["content"] for request in server.received]
    assert asked[0] == "warm"
    assert sorted(asked[1:]) == sorted(f"prompt {i}" for i in range(20))
    assert most_at_once([record for record in records if record.measured]) == 4
    assert sum(isinstance(h, Started) for h in happened) == 1
    assert [h.workers for h in happened if isinstance(h, LoadReport)] == [workers]
    assert [h.ended for h in happened if isinstance(h, Tick)][-1] <= 21


def test_due_times_are_kept_whoever_sends_them():
    due = [i * 20_000_000 for i in range(9)]
    with ScriptedServer(inference_server(tokens=2)) as server, local_workers(3) as crew:
        happened = list(played(a_plan(9, concurrency=None, due_ns=due), server, crew))
    (started,) = (h for h in happened if isinstance(h, Started))
    records = [record for record in records_of(happened) if record.measured]
    assert [record.due_ns - started.at_ns for record in records] == due
    assert all(record.sent_ns >= record.due_ns for record in records)


def test_a_worker_that_is_killed_in_the_middle_loses_only_its_own_part():
    happened: list[LoadEvent] = []
    workers = [LocalWorker(), LocalWorker()]
    with ScriptedServer(inference_server(tokens=20, gap_s=0.005)) as server, WorkerPool(workers) as crew:
        for happening in played(a_plan(16, concurrency=2), server, crew):
            happened.append(happening)
            if isinstance(happening, RequestRecord) and happening.index == 4:  # the second of worker 1's
                os.kill(workers[1].pid, signal.SIGKILL)
    (lost,) = (h for h in happened if isinstance(h, WorkerLost))
    assert (lost.number, lost.how) == (1, "was killed by SIGKILL")
    records = records_of(happened)
    assert [record.index for record in records] == list(range(17))
    assert {record.outcome for record in records if record.index % 2} == {"ok"}
    assert [record.outcome for record in records if record.index in (2, 4)] == ["ok", "ok"]
    gone = [record for record in records if record.outcome == "lost"]
    assert len(gone) == lost.missing >= 4
    assert {record.error for record in gone} == {"its load worker was killed by SIGKILL"}
    assert [h.workers for h in happened if isinstance(h, LoadReport)] == [1]


def test_when_no_worker_is_left_what_they_delivered_comes_before_the_error():
    records: list[RequestRecord] = []
    workers = [LocalWorker(), LocalWorker()]

    def kill_both(server: ScriptedServer, crew: WorkerPool) -> None:
        for happening in played(a_plan(12, concurrency=2), server, crew):
            if isinstance(happening, RequestRecord):
                records.append(happening)
                if happening.index in (3, 4):
                    os.kill(workers[(happening.index - 1) % 2].pid, signal.SIGKILL)

    with (
        ScriptedServer(inference_server(tokens=20, gap_s=0.005)) as server,
        WorkerPool(workers) as crew,
        pytest.raises(LoadFailed, match="no load worker finished the plan; the last one was killed by SIGKILL"),
    ):
        kill_both(server, crew)
    assert sorted(record.index for record in records) == list(range(13))
    assert {record.outcome for record in records} == {"ok", "lost"}


def test_a_worker_that_dies_before_the_start_ends_the_trial():
    workers = [LocalWorker(), LocalWorker()]
    os.kill(workers[1].pid, signal.SIGKILL)
    with (
        ScriptedServer(inference_server()) as server,
        WorkerPool(workers) as crew,
        pytest.raises(LoadFailed, match="was killed by SIGKILL"),
    ):
        list(played(a_plan(4, concurrency=2), server, crew))


@pytest.mark.parametrize("workers", [1, 2])
def test_a_stop_during_the_warm_ups_cancels_the_rest(workers: int):
    happened: list[LoadEvent] = []
    with ScriptedServer(inference_server(tokens=1, first_s=5)) as server, local_workers(workers) as crew:
        for happening in played(a_plan(6, concurrency=2), server, crew):
            happened.append(happening)
            if server.received:
                crew.stop()
    records = records_of(happened)
    assert [record.index for record in records] == list(range(7))
    assert {record.outcome for record in records} == {"cancelled"}
    assert len(server.received) == 1
