"""`order: requests`: the arms of a round take turns, request by request, and nothing else about a study changes."""

import itertools
from collections.abc import Iterable
from pathlib import Path

import pytest

from inferometer.core import quantities
from inferometer.core.interleaving import block_orders, block_problems
from inferometer.core.record import Trial
from inferometer.core.schedule import Closed, Constant
from inferometer.core.spec import Arm, Order, Spec
from inferometer.core.workload_settings import Builtin
from inferometer.load.wire import Interleaving
from inferometer.metrics.turns import turns_of
from inferometer.probes.free_memory import HOST, FreeMemory
from inferometer.results.read import read_study
from inferometer.results.study_comparison import comparison_of
from inferometer.study.interleaved_round import StudyOrder
from inferometer.study.loop import run_study
from inferometer.study.memory_fit import why_too_little
from inferometer.study.progress import FindingRaised, OrderChosen
from inferometer.testing.scripted_server import Close, Received, ScriptedServer, Step, inference_server, is_probe

PROMPTS = 6


class Servers:
    """A server for each arm; `asked`: whose server got each streamed request, in order."""

    def __init__(self, names: str, gap_s: float = 0.001, dies_after: dict[str, int] | None = None) -> None:
        self.asked: list[str] = []
        self.dies_after = dies_after or {}
        self._answer = inference_server(10, 0.0, gap_s)
        self._servers = {name: ScriptedServer(self._answering(name)) for name in names}

    def _answering(self, name: str):
        def answer(received: Received) -> Iterable[Step]:
            if received.body.get("stream") and not is_probe(received):
                self.asked.append(name)
            if name in self.dies_after and self.asked.count(name) > self.dies_after[name]:
                return iter((Close(),))
            return self._answer(received)

        return answer

    def __enter__(self) -> dict[str, Arm]:
        for server in self._servers.values():
            server.__enter__()
        return {name: Arm(engine="external", url=one.url, model="m") for name, one in self._servers.items()}

    def __exit__(self, *_: object) -> None:
        for server in self._servers.values():
            server.__exit__()


def spec(arms: dict[str, Arm], **fields: object) -> Spec:
    known: dict[str, object] = {
        "workload": Builtin(num_prompts=PROMPTS, max_tokens=10),
        "schedule": Closed(1),
        "tokenizer": "none",
        "trials": 2,
    }
    return Spec(arms=arms, **(known | fields))  # pyright: ignore[reportArgumentType] # fields of Spec


def test_each_request_goes_to_every_arm_before_the_next_one(tmp_path: Path):
    servers = Servers("abc")
    with servers as arms:
        told = list(run_study(spec(arms, trials=1), tmp_path / "s"))
    assert [one.order for one in told if isinstance(one, OrderChosen)] == ["requests"]
    measured = servers.asked[3:]  # after one warm-up for each arm
    items = ["".join(measured[place : place + 3]) for place in range(0, len(measured), 3)]
    assert len(items) == PROMPTS
    assert all(set(item) == set("abc") for item in items)
    assert sorted(item[0] for item in items) == sorted("abc" * (PROMPTS // 3))
    assert len(set(items)) == 6  # a Williams square of three arms and its reverse


@pytest.mark.parametrize("arms", [2, 3, 4, 5])
def test_over_the_orders_of_a_round_each_arm_is_first_equally_often(arms: int):
    for number in (1, 2, 3):
        firsts = [order[0] for order in block_orders(arms, number)]
        assert {firsts.count(arm) for arm in range(arms)} == {len(firsts) // arms}


@pytest.mark.parametrize("arms", [2, 3, 4])
def test_a_slow_time_of_the_machine_meets_all_arms_alike(arms: int):
    """However long it is, each arm has as many blocks in it as another, or one more; two more where the order turns."""
    blocks = 60
    turns = Interleaving(arms, block_orders(arms, 1), 1)
    orders = [turns.order_of(block, blocks) for block in range(blocks)]
    run = list(itertools.chain(*orders[: blocks // len(turns.orders)]))
    whole = list(itertools.chain(*orders))
    assert {orders.count(order) for order in turns.orders} == {len(run) // arms}
    for played, most in ((run, 1), (whole, 2)):
        for start in range(len(played)):
            counts = [0] * arms
            for arm in played[start : start + 40]:
                counts[arm] += 1
                assert max(counts) - min(counts) <= most


def test_an_arm_s_duration_is_the_time_of_its_own_turns(tmp_path: Path):
    with Servers("a") as fast, Servers("b", gap_s=0.02) as slow:
        list(run_study(spec({**fast, **slow}, trials=1), tmp_path / "s"))
    study = read_study(tmp_path / "s")
    for trial in study.trials:
        records = [record for record in trial.records if record.measured]
        turns = turns_of(trial)
        assert len(turns) == len(records) == PROMPTS
        for record, (start, end) in zip(sorted(records, key=lambda one: one.sent_ns or 0), turns, strict=True):
            assert start <= (record.sent_ns or 0) < record.done_ns <= end
        duration = study.summary(trial, "inferometer").values["duration"]
        assert duration == pytest.approx(sum(end - start for start, end in turns) / 1e9)


@pytest.mark.parametrize(
    ("schedule", "block", "turns"), [(Closed(2), 3, 2), (Closed(2), None, 1), (Constant(50.0), "0.06s", 2)]
)
def test_a_block_is_drained_before_the_next_arm_has_its_turn(schedule, block, turns: int, tmp_path: Path):
    servers = Servers("ab", gap_s=0.005)
    with servers as arms:
        list(run_study(spec(arms, schedule=schedule, block=block, trials=1), tmp_path / "s"))
    trials = read_study(tmp_path / "s").trials
    assert [len(turns_of(trial)) for trial in trials] == [turns, turns]
    runs = ["".join(group) for _, group in itertools.groupby(servers.asked[2:])]
    size = PROMPTS // turns
    assert runs == (["a" * size, "b" * size] if turns == 1 else ["a" * size, "b" * PROMPTS, "a" * size])
    assert all(record.ok for trial in trials for record in trial.records)


def test_an_arm_that_dies_in_the_middle_leaves_the_others_their_trials(tmp_path: Path):
    with Servers("abc", dies_after={"b": 3}) as arms:
        list(run_study(spec(arms, trials=1), tmp_path / "s"))
    trials = {trial.arm: trial for trial in read_study(tmp_path / "s").trials}
    for name in "ac":
        assert trials[name].state == "done"
        assert sum(record.ok and record.measured for record in trials[name].records) == PROMPTS


def test_a_resumed_study_plays_an_incomplete_round_as_a_whole(tmp_path: Path):
    with Servers("ab", dies_after={"b": 0}) as arms:
        asked = spec(arms, trials=1)
        list(run_study(asked, tmp_path / "s"))
        states = {trial.arm: trial.state for trial in read_study(tmp_path / "s").trials}
    assert states == {"a": "done", "b": "failed"}
    servers = Servers("ab")
    with servers as arms:
        fresh = tmp_path / "t"
        list(run_study(spec(arms, trials=1), fresh))
        list(run_study(spec(arms, trials=1), fresh, resume=True))
    assert len(servers.asked) == 2 * (PROMPTS + 1)  # a complete round is not played again


def test_trials_of_interleaved_rounds_are_pairs_and_the_note_says_what_intervals_cover(tmp_path: Path):
    with Servers("ab") as arms:
        list(run_study(spec(arms), tmp_path / "s"))
    comparison = comparison_of([tmp_path / "s"], "inferometer")
    assert comparison.primary_row is not None
    assert comparison.primary_row.against("a", "b").paired
    assert any("interleaved" in note and "other starts" in note for note in comparison.notes)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"block": "soon"}, "block: must be a number"),
        ({"block": 0}, "at least 1 request"),
        ({"block": "3s"}, "a closed loop has no times"),
        ({"order": "requests", "schedule": Closed(None)}, "all requests at once"),
        ({"block": 2, "order": "trials"}, "belongs to order: requests"),
        ({"order": "requests", "parallel": True}, "at the same time"),
        ({"order": "requests", "workers": 2}, "2 workers share the load"),
        ({"order": "requests", "arms": {"a": Arm("external", url="http://h:1")}}, "only one arm"),
        ({"order": "requests", "arms": {n: Arm("external", url="http://h:1") for n in "ab"}}, "the same address"),
        ({"order": "requests", "arms": {n: Arm("llama-server", args=("--port", "9")) for n in "ab"}}, "port 9"),
    ],
)
def test_what_cannot_be_interleaved_is_refused_with_the_reason(fields: dict[str, object], said: str):
    arms = {"a": Arm("external", url="http://h:1"), "b": Arm("external", url="http://h:2")}
    (problem,) = block_problems(spec(**({"arms": arms} | fields)))  # pyright: ignore[reportArgumentType]
    assert said in problem


def test_arms_that_do_not_fit_into_memory_are_found_by_what_the_first_one_took():
    gib = 1 << 30
    arms = {name: Arm("vllm", model="m") for name in "ab"}
    before = {HOST: FreeMemory(64 * gib), "GPU 0": FreeMemory(80 * gib)}
    took_most = {HOST: FreeMemory(60 * gib), "GPU 0": FreeMemory(8 * gib)}
    took_half = {HOST: FreeMemory(60 * gib), "GPU 0": FreeMemory(44 * gib)}
    said = why_too_little("a", arms, before, took_most)
    assert "a took 72.00 GiB of GPU 0" in said
    assert "--gpu-memory-utilization 0.45" in said
    assert why_too_little("a", arms, before, took_half) == ""
    assert "--mem-fraction-static" in why_too_little("a", {n: Arm("sglang") for n in "ab"}, before, took_most)


def test_a_gpu_for_one_process_at_a_time_is_a_reason():
    arms = {name: Arm("llama-server", model="m.gguf") for name in "ab"}
    before, after = ({"GPU 0": FreeMemory(gib << 30, is_exclusive=True)} for gib in (80, 79))
    assert "EXCLUSIVE_PROCESS" in why_too_little("a", arms, before, after)
    assert why_too_little("a", arms, before, before) == ""  # the engine runs elsewhere


@pytest.mark.parametrize(
    ("asked", "decided", "said"),
    [("auto", "trials", "would need"), ("requests", "requests", "starts the engines of all")],
)
def test_more_arms_than_memory_are_a_reason_or_a_warning(asked: Order, decided: str, said: str):
    arms = {name: Arm("llama-server", model="m.gguf") for name in "abc"}
    order = StudyOrder(spec(arms, order=asked), arms, "" if asked == "auto" else asked)
    before, after = ({HOST: FreeMemory(gib << 30)} for gib in (30, 18))
    (told,) = order.decide("a", before, after)
    assert order.order == decided
    assert isinstance(told, OrderChosen | FindingRaised)
    text = told.why if isinstance(told, OrderChosen) else told.text
    assert said in text
    assert "a took 12.00 GiB" in text


def test_auto_plays_trials_where_the_arms_do_not_fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("inferometer.study.interleaved_round.why_too_little", lambda *_: "they do not fit")
    servers = Servers("ab")
    with servers as arms:
        told = list(run_study(spec(arms), tmp_path / "s"))
    assert [(one.order, one.why) for one in told if isinstance(one, OrderChosen)] == [("trials", "they do not fit")]
    trials = read_study(tmp_path / "s").trials
    assert [(one.arm, one.number, one.state) for one in trials] == [
        ("a", 1, "done"), ("b", 1, "done"), ("b", 2, "done"), ("a", 2, "done"),
    ]  # fmt: skip
    assert "".join(servers.asked) == "a" * 7 + "b" * 14 + "a" * 7
    assert {order_of(trial) for trial in trials} == {"trials"}


def order_of(trial: Trial) -> str:
    return next(fact.value for fact in trial.facts if fact.name == quantities.ORDER)
