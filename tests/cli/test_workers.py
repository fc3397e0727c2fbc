"""Several load processes, as the user asks for them; and one of them dies."""

import json
import os
import signal
import time
from pathlib import Path

import psutil
import pytest
from warm_program import start

from inferometer.base.errors import RequestWrong, SpecInvalid
from inferometer.core.spec import Arm
from inferometer.core.spec_file import parse
from inferometer.results.read import read_study
from inferometer.study.preconditions import require_reachable
from inferometer.testing.scripted_server import ScriptedServer, inference_server

STUDY = """
workload: {{kind: builtin, num_prompts: {count}, max_tokens: 20}}
schedule: {{kind: closed, concurrency: 4}}
tokenizer: none
trials: 1
arms:
  only: {{engine: external, url: "{url}"}}
"""


def prompts(server: ScriptedServer) -> list[str]:
    return sorted(r.body["messages"][0]["content"] for r in server.load_requests)


def test_bench_and_run_share_a_plan_among_workers(tmp_path: Path):
    sent: list[list[str]] = []
    for workers in ("1", "3"):
        with ScriptedServer(inference_server(tokens=2)) as server:
            words = ("--base-url", server.url, "--num-prompts", "9", "--out", workers, "--workers", workers)
            bench = start("bench", "--backend", "openai-chat", *words, cwd=tmp_path)
            _, said = bench.communicate(timeout=60)
        assert bench.returncode == 0, said
        assert said.count("trial 1/1") == 1
        study = read_study(tmp_path / workers)
        assert study.spec.workers == int(workers)
        assert [record.outcome for record in study.trials[0].records] == ["ok"] * 10
        sent.append(prompts(server))
    assert sent[0] == sent[1]

    with ScriptedServer(inference_server(tokens=2)) as server:
        (tmp_path / "study.yaml").write_text(STUDY.format(url=server.url, count=6))
        run = start("run", "study.yaml", "--out", "s", "--workers", "2", cwd=tmp_path)
        _, said = run.communicate(timeout=60)
    assert run.returncode == 0, said
    facts = {fact.name: fact.value for fact in read_study(tmp_path / "s").trials[0].facts}
    assert facts["load_workers"] == "2"


def test_a_worker_that_is_killed_is_in_the_records_the_findings_and_the_table(tmp_path: Path):
    with ScriptedServer(inference_server(tokens=20, gap_s=0.01)) as server:
        (tmp_path / "study.yaml").write_text(STUDY.format(url=server.url, count=24))
        run = start("run", "study.yaml", "--out", "s", "--workers", "2", cwd=tmp_path)
        while len(prompts(server)) < 11 and run.poll() is None:
            time.sleep(0.01)
        workers = sorted(
            process.pid
            for process in psutil.Process(run.pid).children()
            if "inferometer.load.worker" in process.cmdline()
        )
        os.kill(workers[1], signal.SIGKILL)
        shown, said = run.communicate(timeout=60)
    assert len(workers) == 2
    assert run.returncode == 3, said  # what is left is of another load
    (trial,) = read_study(tmp_path / "s").trials
    assert trial.state == "done"
    outcomes = [record.outcome for record in trial.records if record.measured]
    assert len(outcomes) == 24
    assert set(outcomes) == {"ok", "lost"}
    assert outcomes.count("ok") >= 12
    (finding,) = (finding for finding in trial.findings if finding.code == "worker-lost")
    assert finding.severity == "invalid"
    assert finding.message == (
        f"load worker 1 was killed by SIGKILL; {outcomes.count('lost')} of its requests have no answer."
    )
    warning = f"only, trial 1: {finding.message}"
    assert warning in " ".join(shown.split())
    compared = start("compare", "s", "--format", "json", cwd=tmp_path)
    document, _ = compared.communicate(timeout=60)
    assert any(line.startswith(warning) for line in json.loads(document)["warnings"])


def test_more_workers_than_the_plan_can_feed_are_refused_before_anything_is_sent(tmp_path: Path):
    with ScriptedServer(inference_server()) as server:
        common = ("bench", "--backend", "openai-chat", "--base-url", server.url, "--num-prompts", "3", "--workers", "4")
        for more, problem in (
            ((), "workers: 4 cannot share 3 request(s); give at most 3"),
            (("--max-concurrency", "2"), "workers: 4 cannot share a concurrency of 2; give at most 2"),
            (("--workers", "0"), "workers: must be at least 1, not 0"),
        ):
            bench = start(*common, *more, cwd=tmp_path)
            shown, said = bench.communicate(timeout=60)
            assert (bench.returncode, shown) == (2, "")
            assert problem in said
    assert server.received == []


def test_a_study_file_with_more_workers_than_its_concurrency_is_refused():
    text = "schedule: {kind: closed, concurrency: 2}\nworkers: 3\narms: {a: {engine: external, url: 'http://h:1'}}"
    with pytest.raises(SpecInvalid, match="workers: 3 cannot share a concurrency of 2"):
        parse(text, "study.yaml")


@pytest.mark.parametrize(
    ("arm", "said"),
    [
        (Arm(engine="embedded", model="standin:tiny"), "arm a is an engine that Inferometer starts"),
        (Arm(engine="external", url="http://127.0.0.1:8080"), "means a different server on each"),
        (Arm(engine="external", url="http://localhost:8080"), "means a different server on each"),
        (Arm(engine="external", url="unix:///run/server.sock"), "means a different server on each"),
    ],
)
def test_what_other_machines_cannot_reach_is_refused(arm: Arm, said: str):
    with pytest.raises(RequestWrong, match=said):
        require_reachable({"a": arm})


def test_what_other_machines_can_reach_is_taken():
    assert require_reachable({"a": Arm(engine="external", url="http://10.0.0.7:8080")}) is None
