"""One worker that plays two plans in turn: its times are as true as those of a worker with one plan."""

import time
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from statistics import median

from inferometer.core.endpoint import Endpoint
from inferometer.core.interleaving import block_orders
from inferometer.core.plan import Plan, PlanItem, warmup_request
from inferometer.core.record import RequestRecord
from inferometer.core.spec import Sampling
from inferometer.load import LoadEvent, Turn, play
from inferometer.load.interleaved import InterleavedLoad
from inferometer.testing.paced_server import PacedServer, server_sent_ns

REQUESTS, TOKENS = 20, 10
ERROR_MS, HANDOVER_MS = 1.0, 5.0


def played(load: InterleavedLoad, lane: int, url: str, zero_ns: int) -> list[LoadEvent]:
    items = tuple(PlanItem(index, warmup_request(index, TOKENS), None) for index in range(REQUESTS))
    endpoint = Endpoint(url, "/v1/chat/completions", "openai-chat", "paced")
    pace = Sampling(extra_body={"paced": {"first_ms": 20, "gap_ms": 5}})
    with load.pool(lane) as pool:
        return list(play(Plan(items, 1, 1), endpoint, pace, zero_ns, pool))


def test_stamps_of_interleaved_requests_are_those_of_the_servers_and_the_handover_is_short():
    zero_ns = time.monotonic_ns()
    with PacedServer() as a, PacedServer() as b, InterleavedLoad(2) as load, ThreadPoolExecutor(2) as threads:
        load.configure(block_orders(2, 1), (1, None))
        both = [threads.submit(played, load, lane, server.url, zero_ns) for lane, server in enumerate((a, b))]
        events = [one.result() for one in both]
    ttfts_ms: list[float] = []
    for own in events:
        records = [event for event in own if isinstance(event, RequestRecord)]
        assert [record.outcome for record in records] == ["ok"] * REQUESTS
        tokens = [event for record in records for event in record.events if event.text]
        assert len(tokens) == REQUESTS * TOKENS
        error_ms = [(event.at_ns + zero_ns - server_sent_ns(event.text)) / 1e6 for event in tokens]
        assert median(error_ms) < ERROR_MS
        assert min(error_ms) > -ERROR_MS
        ttfts_ms.append(median(((one.first_output_ns or 0) - (one.sent_ns or 0)) / 1e6 for one in records))
    assert abs(ttfts_ms[0] - ttfts_ms[1]) < ERROR_MS  # neither arm pays for the other
    turns = sorted((event.start_ns, event.end_ns) for own in events for event in own if isinstance(event, Turn))
    assert len(turns) == 2 * REQUESTS
    gaps_ms = [(after[0] - before[1]) / 1e6 for before, after in pairwise(turns)]
    assert min(gaps_ms) >= 0  # two arms never work at once
    assert median(gaps_ms) < HANDOVER_MS


def test_a_lane_that_is_given_up_does_not_hold_up_the_other():
    with PacedServer() as server, InterleavedLoad(2) as load:
        load.give_up(1)
        load.configure(block_orders(2, 1), (1, None))
        events = played(load, 0, server.url, time.monotonic_ns())
    assert sum(isinstance(event, RequestRecord) and event.ok for event in events) == REQUESTS
