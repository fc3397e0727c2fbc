"""On a real engine, the smallest there is."""

import subprocess
import sys
from pathlib import Path

import pytest

from inferometer.base.clock import SystemClock, trial_clock
from inferometer.base.errors import InferometerError
from inferometer.core.endpoint import Endpoint
from inferometer.core.spec import Arm
from inferometer.engines.embedded import Embedded
from inferometer.engines.llama_cpp import METRIC_NAMES
from inferometer.probes.engine_watch import EngineWatch
from inferometer.standin.pairs import standin_pair


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    target, _ = standin_pair(tmp_path_factory.mktemp("model"), "tiny")
    return str(target)


def test_an_engine_is_watched_from_its_spawn_and_its_counters_from_its_first_token(model: str, tmp_path: Path):
    clock = trial_clock(SystemClock())
    watch = EngineWatch(clock, {}, METRIC_NAMES)
    arm = Arm(engine="embedded", model=model, threads=1, context=512)
    with Embedded().start(arm, tmp_path / "log", watch.spawned) as endpoint:
        ready_ns = clock.now_ns()
        watch.ready(endpoint)
        watch.stop()
    samples = watch.take()
    loading = {sample.quantity for sample in samples if sample.at_ns < ready_ns}
    assert loading >= {"rss_bytes", "engine_threads"}
    counters = [sample for sample in samples if sample.source == "/metrics"]
    assert {sample.quantity for sample in counters} >= {"requests_running", "requests_waiting"}
    assert all(sample.at_ns >= ready_ns for sample in counters)
    facts = {fact.name: fact.value for fact in watch.facts()}
    assert float(facts["sampling_percent_of_a_core"]) > 0
    assert "server_elsewhere" not in facts
    assert facts["no_kv_cache_usage_percent"] == "the server's /metrics does not contain it"
    assert not watch.take()


def test_a_launcher_whose_server_runs_elsewhere_is_named():
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as launcher:
        watch = EngineWatch(trial_clock(SystemClock()), {}, METRIC_NAMES)
        watch.ready(Endpoint("http://127.0.0.1:9", "/v1/chat/completions", "openai-chat", "", (launcher.pid,)))
        watch.stop()
        launcher.kill()
    facts = {fact.name for fact in watch.facts()}
    assert ("server_elsewhere" in facts) == Path("/proc/self/fd").exists()


def test_what_an_engine_did_that_never_became_ready_is_kept(model: str, tmp_path: Path):
    cut = tmp_path / "cut.gguf"
    cut.write_bytes(Path(model).read_bytes()[:-1000])
    watch = EngineWatch(trial_clock(SystemClock()), {}, METRIC_NAMES)
    arm = Arm(engine="embedded", model=str(cut), threads=1, context=512)
    with pytest.raises(InferometerError), Embedded().start(arm, tmp_path / "log", watch.spawned):
        pass
    watch.stop()
    assert "rss_bytes" in {sample.quantity for sample in watch.take()}


def test_of_a_server_that_we_did_not_start_the_machine_is_watched_and_the_rest_has_reasons():
    watch = EngineWatch(trial_clock(SystemClock()), {}, METRIC_NAMES)
    watch.ready(Endpoint("http://127.0.0.1:9", "/v1/chat/completions", "openai-chat", ""))
    watch.stop()
    facts = {fact.name: fact.value for fact in watch.facts()}
    assert "did not start the server" in facts["no_process_memory"]
    assert "did not start the server" in facts["no_process_use"]
    assert "memory_used_bytes" in {sample.quantity for sample in watch.take()}


def test_a_watch_that_saw_no_engine_can_be_stopped():
    watch = EngineWatch(trial_clock(SystemClock()), {}, METRIC_NAMES)
    watch.stop()
    assert not watch.take()
    assert watch.facts() == ()
