"""Workers on the nodes of a Ray cluster: here two nodes on this machine.

`-m ray` chooses these tests. They need the extra `ray`; the cluster takes some seconds to start.
"""

import importlib.util
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from inferometer.base.errors import RequestWrong
from inferometer.core.endpoint import Endpoint
from inferometer.core.plan import Plan, PlanItem
from inferometer.core.record import Events, RequestRecord
from inferometer.core.request import user_request
from inferometer.core.spec import Sampling
from inferometer.load import Started, WorkerLost, compiled, play
from inferometer.load.audit import LoadReport
from inferometer.load.ray_workers import Cluster, Fetched, Node, compressed, connected, decompressed
from inferometer.load.wire import Exchange, decode_from_worker
from inferometer.load.worker_pool import Worker, local_workers
from inferometer.results.read import read_study
from inferometer.testing.scripted_server import ScriptedServer, inference_server

pytestmark = [
    pytest.mark.ray,
    pytest.mark.timeout(180),
    pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::FutureWarning", "ignore::DeprecationWarning"),
]
needs_ray = pytest.mark.skipif(
    importlib.util.find_spec("ray") is None, reason="Ray is not installed: pip install 'inferometer[ray]'"
)


@pytest.fixture(scope="module")
def ray_nodes() -> Iterator:
    """A cluster of a head and one more node, each with one CPU; further nodes can be added and killed."""
    from ray.cluster_utils import Cluster as TestCluster

    head = {"num_cpus": 1, "object_store_memory": 80_000_000, "include_dashboard": False}
    cluster = TestCluster(initialize_head=True, head_node_args=head)
    try:
        cluster.add_node(num_cpus=1, object_store_memory=80_000_000)
        yield cluster
    finally:
        cluster.shutdown()


@pytest.fixture(scope="module")
def cluster(ray_nodes) -> Iterator[Cluster]:
    with connected(ray_nodes.address) as found:
        yield found


def a_plan(count: int, concurrency: int) -> Plan:
    warmups = [PlanItem(0, user_request("warm", "warm", max_tokens=2), None, measured=False)]
    items = [PlanItem(1 + i, user_request(f"r{i}", f"prompt {i}", max_tokens=20), None) for i in range(count)]
    return Plan((*warmups, *items), concurrency, seed=1)


def at(server: ScriptedServer) -> Endpoint:
    return Endpoint(server.url, "/v1/chat/completions", "openai-chat", "scripted")


def asked(server: ScriptedServer) -> list[str]:
    return sorted(request.body["messages"][0]["content"] for request in server.received)


@needs_ray
def test_two_nodes_play_the_plan_between_them(cluster: Cluster):
    zero_ns = time.monotonic_ns()
    with ScriptedServer(inference_server(tokens=3, first_s=0.02)) as server, cluster.worker_pool(2) as crew:
        happened = list(play(a_plan(10, concurrency=4), at(server), Sampling(), zero_ns, crew))
    now_ns = time.monotonic_ns() - zero_ns
    records = sorted((h for h in happened if isinstance(h, RequestRecord)), key=lambda record: record.index)
    (started,) = (h for h in happened if isinstance(h, Started))
    (report,) = (h for h in happened if isinstance(h, LoadReport))
    assert len(cluster.nodes) == 2
    assert cluster.is_all_here
    assert [record.index for record in records] == list(range(11))
    assert {record.outcome for record in records} == {"ok"}
    assert asked(server) == sorted(["warm", *(f"prompt {i}" for i in range(10))])
    assert report.workers == 2
    # whatever the nodes' clocks say, the records lie on ours, the measured ones after the start
    assert all(0 < record.sent_ns < record.done_ns <= now_ns for record in records)
    assert all(record.sent_ns >= started.at_ns for record in records[1:])
    assert all(record.done_ns - record.sent_ns >= 20_000_000 for record in records)


@needs_ray
def test_a_cluster_gives_the_same_records_as_this_host_from_packed_columns(cluster: Cluster):
    crossed: list[bytes] = []
    played = []
    with ScriptedServer(inference_server(tokens=20, gap_s=0.002)) as server:
        for pool in (local_workers(2), cluster.worker_pool(2)):
            for worker in pool.workers:
                keep_payloads(worker, crossed)
            with pool:
                events = list(play(a_plan(6, concurrency=2), at(server), Sampling(), time.monotonic_ns(), pool))
            played.append({h.index: content(h) for h in events if isinstance(h, RequestRecord)})
    assert len(played[0]) == 7
    assert played[0] == played[1]
    answers = [message for message in map(decode_from_worker, crossed) if isinstance(message, Exchange)]
    assert len(answers) == 14
    if compiled.pack is not None:
        assert all(answer.packed and not answer.raw for answer in answers)


def keep_payloads(worker: Worker, kept: list[bytes]) -> None:
    """From now on, every payload of the worker is also put into `kept`."""
    listen = worker.listen

    def keeping(deliver, ended) -> None:
        def keep(payload: bytes) -> None:
            kept.append(payload)
            deliver(payload)

        listen(keep, ended)

    worker.listen = keeping


def content(record: RequestRecord) -> tuple:
    """Everything in a record that does not depend on when it was played."""
    events = record.events
    assert isinstance(events, Events)
    return (record.request_id, record.measured, record.outcome, record.finish_reason, record.text, bytes(events.kinds))


@needs_ray
def test_more_workers_than_nodes_share_the_nodes(cluster: Cluster):
    with ScriptedServer(inference_server(tokens=2)) as server, cluster.worker_pool(3) as crew:
        happened = list(play(a_plan(9, concurrency=3), at(server), Sampling(), time.monotonic_ns(), crew))
    assert sum(isinstance(h, RequestRecord) and h.ok for h in happened) == 10
    assert len(asked(server)) == 10


@needs_ray
def test_no_worker_process_is_left_when_the_crew_is_closed_in_the_middle(cluster: Cluster):
    with ScriptedServer(inference_server(tokens=20, gap_s=0.2)) as server:
        with cluster.worker_pool(2) as crew:
            for happening in play(a_plan(8, concurrency=2), at(server), Sampling(), time.monotonic_ns(), crew):
                if isinstance(happening, Started):
                    break
            workers = worker_processes()
        assert len(workers) == 2
        psutil.wait_procs(workers, timeout=20)
    assert [worker for worker in workers if worker.is_running() and worker.status() != psutil.STATUS_ZOMBIE] == []


def worker_processes() -> list[psutil.Process]:
    """Worker processes below this one: those of actors on nodes that this test started."""
    below = psutil.Process().children(recursive=True)
    return [process for process in below if "inferometer.load.worker" in _words(process)]


def _words(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:  # it has ended meanwhile
        return []


@needs_ray
def test_a_bench_over_the_cluster_says_who_played_it(ray_nodes, tmp_path: Path):
    with ScriptedServer(inference_server(tokens=3)) as server:
        words = ["bench", "--backend", "openai-chat", "--base-url", server.url, "--num-prompts", "8", "--out", "s"]
        done = subprocess.run(
            [sys.executable, "-m", "inferometer", *words, "--ray", ray_nodes.address],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("============ Serving Benchmark Result ============\n")
    study = read_study(tmp_path / "s")
    (trial,) = study.trials
    alive = len(ray_nodes.list_all_nodes())
    assert study.spec.workers == alive
    facts = {fact.name: fact.value for fact in trial.facts}
    assert facts["load_workers"] == str(alive)
    assert facts["load_hosts"].count(",") == alive - 1
    assert sum(record.ok for record in trial.records if record.measured) == 8


@needs_ray  # after the other tests: Ray lists the node for half a minute more
def test_a_node_that_is_lost_in_the_middle_loses_its_shard_and_only_that(
    ray_nodes, cluster: Cluster, capsys: pytest.CaptureFixture[str]
):
    third = ray_nodes.add_node(num_cpus=1, object_store_memory=80_000_000)
    doomed = Node(third.node_id, "the third", is_here=True)
    records: list[RequestRecord] = []
    lost: list[WorkerLost] = []
    killed = False
    with (
        ScriptedServer(inference_server(tokens=20, gap_s=0.01)) as server,
        Cluster((cluster.nodes[0], doomed)).worker_pool(2) as crew,
    ):
        for happening in play(a_plan(24, concurrency=2), at(server), Sampling(), time.monotonic_ns(), crew):
            if isinstance(happening, RequestRecord):
                records.append(happening)
            if isinstance(happening, WorkerLost):
                lost.append(happening)
            if not killed and sum(record.index % 2 == 0 and record.measured for record in records) >= 3:
                killed = True
                ray_nodes.remove_node(third, allow_graceful=False)
    assert [event.number for event in lost] == [1]
    assert lost[0].how.startswith(
        ("on the third was lost: ", "on the third was killed")
    )  # as its last word came or not
    assert sorted(record.index for record in records) == list(range(25))
    outcomes = {record.index: record.outcome for record in records if record.measured}
    assert {outcomes[index] for index in range(1, 25, 2)} == {"ok"}
    second = [outcomes[index] for index in range(2, 25, 2)]
    assert second.count("ok") >= 3
    assert second.count("lost") == lost[0].missing >= 1
    assert second.count("ok") + second.count("lost") == 12
    assert {record.error for record in records if record.outcome == "lost"} == {f"its load worker {lost[0].how}"}
    assert capsys.readouterr().out == ""  # where Ray would tell of the node in the middle of a report


# --- what cannot be reached -----------------------------------------------------------------------


@needs_ray
@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("somewhere", "must be HOST:PORT"),
        ("ray://127.0.0.1:10001", "ray start --address"),
        ("127.0.0.1:1", "no Ray cluster can be reached at 127.0.0.1:1"),
    ],
)
def test_an_address_that_is_none_is_refused_at_once(address: str, said: str):
    with pytest.raises(RequestWrong, match=said), connected(address):
        pass


@needs_ray
def test_something_that_is_no_ray_is_refused_before_anything_is_sent(tmp_path: Path):
    with ScriptedServer(inference_server()) as server:
        done = subprocess.run(
            [
                *(sys.executable, "-m", "inferometer", "bench", "--backend", "openai-chat", "--base-url", server.url),
                *("--num-prompts", "2", "--out", "s", "--ray", f"127.0.0.1:{server.port}"),
            ],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert [request.body for request in server.received if request.body] == []
    assert done.returncode == 2
    assert f"no Ray cluster can be reached at 127.0.0.1:{server.port}: the server there is not Ray" in done.stderr
    assert not (tmp_path / "s").exists()


def test_without_ray_the_extra_is_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(RequestWrong, match=r"pip install 'inferometer\[ray\]'"), connected("127.0.0.1:6379"):
        pass


def test_the_answers_of_a_stream_take_less_than_a_tenth_of_their_bytes_on_the_way():
    stream = b"".join(
        b'data: {"id":"chatcmpl-%032d","choices":[{"index":0,"delta":{"content":" word%d"}}]}\n\n' % (7, number)
        for number in range(100)
    )
    payloads = [stream + b"%d" % number for number in range(20)]
    block = compressed(Fetched(payloads, "ended with exit code 0"))
    assert len(block) * 10 < sum(map(len, payloads))
    assert decompressed(block) == Fetched(payloads, "ended with exit code 0")
