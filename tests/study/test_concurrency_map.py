"""A map over concurrency, of two servers whose speed is known."""

from collections.abc import Iterable
from pathlib import Path

import msgspec
import pytest

from inferometer.base.errors import RequestWrong
from inferometer.core.spec import Arm, Spec
from inferometer.core.workload_settings import Builtin
from inferometer.report.drawings.gain_map import gain_map
from inferometer.study.concurrency_map import ConcurrencyMap
from inferometer.testing.scripted_server import Received, ScriptedServer, Step, inference_server


def spec(arms: dict[str, Arm]) -> Spec:
    return Spec(arms=arms, workload=Builtin(num_prompts=8, max_tokens=5), tokenizer="none", trials=2, warmups=0)


def beyond_the_limit(request: Received) -> Iterable[Step]:
    """Nine tokens, although five are asked for."""
    return inference_server(9, 0.0, 0.001)(msgspec.structs.replace(request, body={**request.body, "max_tokens": 9}))


def test_a_faster_arm_pays_at_every_concurrency_and_for_every_task(tmp_path: Path):
    with (
        ScriptedServer(inference_server(5, 0.0, 0.05)) as slow,
        ScriptedServer(inference_server(5, 0.0, 0.005)) as fast,
        ScriptedServer(beyond_the_limit) as beyond,
    ):
        servers = {"a": slow, "b": fast, "more than asked": beyond}
        arms = {name: Arm(engine="external", url=server.url, model="m") for name, server in servers.items()}
        made = ConcurrencyMap(spec(arms), [2, 1], tmp_path / "m", {}, by="task", resume=False)
        for run in made.runs():
            list(run)
    every = made.lines()
    beyond_limit = next(line for line in every if line.arm == "more than asked" and not line.group)
    assert beyond_limit.points == ()
    assert "At 1 stream(s) its result is not valid: " in beyond_limit.sentence
    lines = [line for line in every if line.arm != "more than asked"]
    assert [point.concurrency for point in lines[0].points] == [1, 2]
    assert all(point.gain > 0.3 for point in lines[0].points)
    assert {line.arm for line in lines} == {"b"}
    assert len({line.group for line in lines}) > 1
    drawing = gain_map([(line.name, line.points) for line in lines if line.points])
    assert drawing.rows[1][:2] == ("b", "1")


@pytest.mark.parametrize(
    ("count", "streams", "message"),
    [(1, [1, 2], "one arm"), (2, [1], "two or more"), (2, [1, 16], "8 prompts cannot keep 16 streams busy")],
)
def test_a_map_that_cannot_be_made_is_refused(count: int, streams: list[int], message: str, tmp_path: Path):
    arms = {name: Arm(engine="external", url=f"http://{name}", model="m") for name in "ab"[:count]}
    with pytest.raises(RequestWrong, match=message):
        ConcurrencyMap(spec(arms), streams, tmp_path, {}, by="", resume=False)


@pytest.mark.parametrize(
    ("held", "by", "message"),
    [
        ("study.db", "", "already holds a study"),
        ("c-001/study.db", "", "holds a map: continue it with --resume"),
        ("", "author", "--by author: no prompt of this workload has a author. Tags there: language, task"),
    ],
)
def test_what_can_be_refused_before_the_first_study_is_refused_then(held: str, by: str, message: str, tmp_path: Path):
    arms = {name: Arm(engine="external", url=f"http://{name}", model="m") for name in "ab"}
    if held:
        (tmp_path / held).parent.mkdir(exist_ok=True)
        (tmp_path / held).touch()
    with pytest.raises(RequestWrong, match=message):
        ConcurrencyMap(spec(arms), [1, 2], tmp_path, {}, by=by, resume=False)
