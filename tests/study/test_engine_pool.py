"""Engines that stay for several trials, and arms that share one because only the fields of their requests differ."""

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from inferometer.base.errors import TrialFailed
from inferometer.core.endpoint import Endpoint
from inferometer.core.spec import Arm, Spec
from inferometer.core.workload_settings import Builtin
from inferometer.results.read import read_study
from inferometer.study.engine_pool import EnginePool, engine_names
from inferometer.study.loop import run_study

ARM = Arm(engine="command", model="m", args=("-x",))
COLD, WARM = (msgspec.structs.replace(ARM, request={"temperature": degrees}) for degrees in (0, 1))


class Starts:
    """Counts the engines that started, and those that ended."""

    def __init__(self) -> None:
        self.started = self.ended = 0

    @contextlib.contextmanager
    def __call__(self) -> Iterator[Endpoint]:
        self.started += 1
        try:
            yield Endpoint("http://h", "/v1", "m", "openai")
        finally:
            self.ended += 1


def test_arms_that_differ_in_their_requests_only_share_an_engine():
    other = msgspec.structs.replace(ARM, args=("-y",))
    arms = {"a": ARM, "b": COLD, "c": other, "d": WARM}
    assert engine_names(arms, keeps=True) == {"a": "a", "b": "a", "c": "c", "d": "a"}
    assert engine_names(arms, keeps=False) == {name: name for name in arms}


def test_equal_arms_have_engines_of_their_own():
    assert engine_names({"a": COLD, "b": COLD}, keeps=True) == {"a": "a", "b": "b"}


def test_a_shared_engine_outlives_the_trial_that_failed():
    starts = Starts()
    with EnginePool(keeps=True) as pool:
        with pool.engine("a", starts):
            with pytest.raises(TrialFailed), pool.engine("a", starts):
                raise TrialFailed("the server refused the field")
            assert (starts.started, starts.ended) == (1, 0)
        assert starts.ended == 1
        with pool.engine("a", starts):
            assert starts.started == 2
    assert starts.ended == 2


def test_engines_that_do_not_fit_together_run_one_at_a_time():
    starts = Starts()
    with EnginePool(keeps=True) as pool:
        pool.one_at_a_time()
        for name in ("a", "a", "b"):
            with pool.engine(name, starts):
                assert starts.started - starts.ended == 1
    assert starts.started == 2


def test_a_setting_of_the_requests_needs_no_second_start(tmp_path: Path):
    command = (sys.executable, "-m", "inferometer.testing.scripted_engine", "--port", "{port}", "--gap-ms", "1")
    long = Arm(engine="command", model="m", command=command)
    arms = {"long": long, "short": msgspec.structs.replace(long, request={"max_tokens": 2})}
    workload = Builtin(num_prompts=2, max_tokens=5)
    for _ in run_study(
        Spec(arms=arms, workload=workload, tokenizer="none", trials=2, restart="never", warmups=0), tmp_path / "s"
    ):
        pass
    study = read_study(tmp_path / "s")
    assert {
        (one.arm, record.usage and record.usage.completion_tokens) for one in study.trials for record in one.records
    } == {
        ("long", 5),
        ("short", 2),
    }
    assert [file.name for file in (tmp_path / "s" / "logs").iterdir()] == ["long-1.log"]
