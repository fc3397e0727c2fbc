"""The program as its user calls it: a process of its own, against a real HTTP server on a script."""

import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path

import pytest
import warm_program

from inferometer.base.errors import RequestWrong
from inferometer.cli.bench_flags import spread_flags
from inferometer.core.record import Fact
from inferometer.results.read import read_study
from inferometer.study.preconditions import require_same_machine
from inferometer.testing.scripted_server import Close, Received, ScriptedServer, Step, inference_server, is_probe, whole


def inferometer(*words: str, cwd: Path, **env: str) -> subprocess.CompletedProcess[str]:
    return warm_program.inferometer(*words, cwd=cwd, env=os.environ | env)


def a_dataset(folder: Path, count: int = 60) -> Path:
    path = folder / "Python-Code-23k-ShareGPT.json"
    words = "one two three four five six"
    entries = [
        {"conversations": [{"from": "human", "value": f"{words} {i}"}, {"from": "gpt", "value": words * 4}]}
        for i in range(count)
    ]
    path.write_text(json.dumps(entries))
    return path


SEED_COMMAND = (
    "bench --backend openai-chat --host localhost --endpoint=/v1/chat/completions "
    "--model Qwen/Qwen2.5-Coder-32B-Instruct --dataset-name sharegpt --num-prompts 50 --max-concurrency 1 --seed 1"
).split()


def test_the_command_line_of_the_seed_runs_with_only_the_program_s_name_changed(tmp_path: Path):
    path = a_dataset(tmp_path)
    with ScriptedServer(inference_server(tokens=3)) as server:
        done = inferometer(*SEED_COMMAND, "--port", str(server.port), "--dataset-path", path.name, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("============ Serving Benchmark Result ============\n")
    assert "Successful requests:                     50        \n" in done.stdout
    assert "Total generated tokens:                  150       \n" in done.stdout
    sent = list(server.load_requests)
    assert len(sent) == 51
    assert sent[0].body["messages"] != sent[1].body["messages"]
    assert {request.body["model"] for request in sent} == {"Qwen/Qwen2.5-Coder-32B-Instruct"}


def test_a_data_set_that_repeats_its_prompts_is_played_and_the_warm_up_is_another_prompt(tmp_path: Path):
    path = a_dataset(tmp_path)
    path.write_text(json.dumps([json.loads(path.read_text())[0]] * 60))
    with ScriptedServer(inference_server(tokens=3)) as server:
        words = ["--base-url", server.url, "--num-prompts", "4", "--dataset-path", path.name]
        done = inferometer("bench", "--backend", "openai-chat", *words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    warm_up, *measured = [str(request.body["messages"]) for request in server.load_requests]
    assert len(measured) == 4
    assert warm_up not in measured


def test_the_block_of_vllm_0_6_5_has_its_lines_and_widths(tmp_path: Path):
    with ScriptedServer(inference_server(tokens=3)) as server:
        words = [
            "--base-url",
            server.url,
            "--num-prompts",
            "4",
            "--metric-dialect",
            "vllm-0.6.5",
            "--skip-tokenizer-init",
        ]
        done = inferometer("bench", "--backend", "openai-chat", *words, cwd=tmp_path)
    lines = done.stdout.splitlines()
    assert [line[:41].rstrip() for line in lines] == [
        "============ Serving Benchmark Result ===",
        "Successful requests:",
        "Benchmark duration (s):",
        "Total input tokens:",
        "Total generated tokens:",
        "Request throughput (req/s):",
        "Output token throughput (tok/s):",
        "Total Token throughput (tok/s):",
        "---------------Time to First Token-------",
        "Mean TTFT (ms):",
        "Median TTFT (ms):",
        "P99 TTFT (ms):",
        "-----Time per Output Token (excl. 1st tok",
        "Mean TPOT (ms):",
        "Median TPOT (ms):",
        "P99 TPOT (ms):",
        "---------------Inter-token Latency-------",
        "Mean ITL (ms):",
        "Median ITL (ms):",
        "P99 ITL (ms):",
        "=========================================",
    ]
    assert all(len(line) >= 50 for line in lines)


def test_the_saved_result_has_the_keys_of_its_version(tmp_path: Path):
    with ScriptedServer(inference_server(tokens=3)) as server:
        done = inferometer(
            *("bench", "--backend", "openai-chat", "--base-url", server.url, "--num-prompts", "3", "--model", "m"),
            *("--metric-dialect", "vllm-0.6.5", "--percentile-metrics", "ttft,e2el", "--metric-percentiles", "50,99"),
            *("--save-result", "--result-dir", "results", "--result-filename", "r.json"),
            *("--metadata", "gpu=W7900", "build=4398", "--disable-tqdm", "--max-concurrency", "2"),
            cwd=tmp_path,
        )
    assert done.returncode == 0, done.stderr
    result = json.loads((tmp_path / "results" / "r.json").read_text())
    first = "date backend model_id tokenizer_id best_of num_prompts gpu build request_rate burstiness max_concurrency"
    assert list(result)[:11] == first.split()
    assert result["gpu"] == "W7900"
    assert result["request_rate"] == "inf"
    assert len(result["ttfts"]) == 3
    assert "request_goodput:" in result
    assert {"p50_ttft_ms", "p99_ttft_ms", "p99_e2el_ms"} <= set(result)
    assert "mean_tpot_ms" not in result
    assert "requests," not in done.stderr


def test_a_rate_plays_an_open_loop(tmp_path: Path):
    with ScriptedServer(inference_server(tokens=2)) as server:
        done = inferometer(
            *("bench", "--backend", "openai-chat", "--base-url", server.url, "--num-prompts", "8"),
            *("--request-rate", "40", "--burstiness", "4", "--out", "s"),
            cwd=tmp_path,
        )
    assert done.returncode == 0, done.stderr
    (trial,) = read_study(tmp_path / "s").trials
    times = [(record.due_ns or 0, record.sent_ns or 0) for record in trial.records if record.measured]
    assert times == sorted(times)
    assert all(sent >= due > 0 for due, sent in times)


def test_keys_and_headers_are_sent_and_kept_nowhere(tmp_path: Path):
    with ScriptedServer(inference_server(tokens=2)) as server:
        done = inferometer(
            *("bench", "--backend", "openai-chat", "--base-url", server.url, "--num-prompts", "2", "--out", "s"),
            *("--header", "X-Team=sesame-2", "X-Other=3"),
            cwd=tmp_path,
            OPENAI_API_KEY="sesame-1",
        )
    assert done.returncode == 0, done.stderr
    sent = [request.headers for request in server.load_requests]
    assert {headers["authorization"] for headers in sent} == {"Bearer sesame-1"}
    assert {headers["x-team"] for headers in sent} == {"sesame-2"}
    left = b"".join(path.read_bytes() for path in (tmp_path / "s").rglob("*") if path.is_file())
    assert b"sesame" not in left + done.stdout.encode() + done.stderr.encode()


STUDY = """
name: one server against itself
workload: {{kind: builtin, num_prompts: 4, max_tokens: 3}}
trials: 2
arms:
  first: {{engine: external, url: "{url}"}}
  second: {{base: first}}
"""


def test_a_study_ends_in_a_table_and_a_folder_that_compare_reads(tmp_path: Path):
    with ScriptedServer(inference_server(tokens=3)) as server:
        (tmp_path / "study.yaml").write_text(STUDY.format(url=server.url))
        done = inferometer("run", "study.yaml", "--out", "s", "--why", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "Median TTFT (ms)" in done.stdout
    assert "trial 4/4: first #2" in done.stderr
    assert (tmp_path / "s" / "summary.md").read_text().startswith("# one server against itself\n")
    assert "report: s/report.html\n" in done.stderr
    assert "<title>one server against itself" in (tmp_path / "s" / "report.html").read_text(encoding="utf-8")
    document = json.loads(inferometer("compare", "s", "--format", "json", cwd=tmp_path).stdout)
    assert document["arms"] == ["first", "second"]
    rows = {row["label"]: row for row in document["rows"]}
    assert next(iter(rows)) == "Memory Usage (GiB)"
    assert rows["Memory Usage (GiB)"]["values"] == {"first": None, "second": None}
    assert rows["Total generated tokens"]["values"] == {"first": 12, "second": 12}
    assert rows["Total generated tokens"]["difference_percent"] == 0
    markdown = inferometer("compare", "s", "--format", "md", "--all", cwd=tmp_path).stdout
    assert "| Successful requests" in markdown
    assert json.loads(inferometer("compare", "s", "--json", cwd=tmp_path).stdout) == document
    chosen = inferometer("compare", "s", "--metrics", "median_tfft", cwd=tmp_path)
    assert (chosen.returncode, "Did you mean 'median ttft'?" in chosen.stderr) == (2, True)


def test_bench_gives_our_table_or_json_where_asked(tmp_path: Path):
    with ScriptedServer(inference_server(tokens=3)) as server:
        words = ["bench", "--backend", "openai-chat", "--base-url", server.url, "--num-prompts", "3", "--quiet"]
        as_json = inferometer(*words, "--json", cwd=tmp_path)
        rows = inferometer(*words, "--metrics", "ttft", cwd=tmp_path)
        both = inferometer(*words, "--json", "--format", "md", cwd=tmp_path)
    assert as_json.stderr == rows.stderr == ""
    assert {row["metric"]: row["values"] for row in json.loads(as_json.stdout)["rows"]}["completed"] == {"server": 3}
    labels = [line.partition(" (ms)")[0] for line in rows.stdout.splitlines() if " (ms)" in line]
    assert labels == ["Mean TTFT", "Median TTFT", "P99 TTFT"]
    assert (both.returncode, "--json and --format md" in both.stderr) == (2, True)


def test_every_arm_is_asked_the_same(tmp_path: Path):
    with ScriptedServer(inference_server(tokens=3)) as server:
        (tmp_path / "study.yaml").write_text(STUDY.format(url=server.url))
        inferometer("run", "study.yaml", "--out", "s", cwd=tmp_path)
    asked = [request.body["messages"][0]["content"] for request in server.load_requests]
    assert len(asked) == 4 * 5
    assert asked[:5] == asked[5:10] == asked[10:15] == asked[15:]
    assert len(set(asked[:5])) == 5


def test_a_study_cut_off_goes_on_where_it_was(tmp_path: Path):
    with ScriptedServer(inference_server(tokens=3)) as server:
        (tmp_path / "study.yaml").write_text(STUDY.format(url=server.url))
        inferometer("run", "study.yaml", "--out", "s", cwd=tmp_path)
        with sqlite3.connect(tmp_path / "s" / "study.db") as database:  # as a cut in the third trial of four leaves it
            database.execute("UPDATE trial SET state = 'running' WHERE id = 3")
            database.execute("DELETE FROM trial WHERE id = 4")
        before = len(server.load_requests)
        refused = inferometer("run", "study.yaml", "--out", "s", cwd=tmp_path)
        done = inferometer("run", "study.yaml", "--out", "s", "--resume", cwd=tmp_path)
        asked = len(server.load_requests) - before
    assert refused.returncode == 2
    assert "already holds a study" in refused.stderr
    assert done.returncode == 0, done.stderr
    assert asked == 2 * 5
    assert [trial.state for trial in read_study(tmp_path / "s").trials] == ["done"] * 4


def test_a_study_goes_on_only_where_it_began(tmp_path: Path):
    here, there = (Fact("cpu", "a CPU", "x"), Fact("gpu_0", "H100", "x")), (Fact("cpu", "a CPU", "x"),)
    require_same_machine((), here)
    require_same_machine(here, here)
    with pytest.raises(RequestWrong, match="its gpu_0 is H100, and here it is none"):
        require_same_machine(here, there)


def test_going_on_needs_a_folder(tmp_path: Path):
    (tmp_path / "study.yaml").write_text(STUDY.format(url="http://127.0.0.1:9"))
    done = inferometer("run", "study.yaml", "--resume", cwd=tmp_path)
    assert (done.returncode, "--resume needs --out" in done.stderr) == (2, True)


def test_ctrl_c_keeps_what_there_is_and_says_so(tmp_path: Path):
    with ScriptedServer(inference_server(tokens=3, gap_s=0.2)) as server:
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "inferometer", "bench", "--backend", "openai-chat", "--base-url", server.url),
                *("--max-concurrency", "1", "--num-prompts", "30", "--out", "s"),
            ],
            cwd=tmp_path,
            stderr=subprocess.PIPE,
            text=True,
        )
        while len(server.load_requests) < 5 and process.poll() is None:
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=20)
    assert process.returncode == 130
    assert "interrupted" in said
    assert "continue with `inferometer run s/study.yaml --resume --out s`" in said
    (trial,) = read_study(tmp_path / "s").trials
    assert (trial.state, trial.error) == ("failed", "interrupted")
    measured = [record for record in trial.records if record.measured]
    assert len(measured) == 30
    assert {record.outcome for record in measured} == {"ok", "cancelled"}


# --- bad input ------------------------------------------------------------------------------------


def refused(cwd: Path, *words: str) -> tuple[int, str]:
    done = inferometer(*words, cwd=cwd)
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    return done.returncode, done.stderr


def test_a_port_where_nothing_answers(tmp_path: Path):
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    code, said = refused(tmp_path, "bench", "--host", "127.0.0.1", "--port", str(port), "--num-prompts", "2")
    assert code == 1
    assert f"nothing answers at http://127.0.0.1:{port}" in said
    assert "--port" in said


@pytest.mark.parametrize(
    ("answer", "said"),
    [(whole(404, "nothing here", "text/plain"), "404"), (whole(200, "<html>hi</html>", "text/html"), "<html>hi")],
)
def test_a_server_that_is_no_inference_server(tmp_path: Path, answer: Step, said: str):
    def always(_: Received) -> Iterable[Step]:
        return [answer]

    with ScriptedServer(always) as server:
        code, message = refused(tmp_path, "bench", "--base-url", server.url, "--num-prompts", "2")
    assert code == 1
    assert said in message


def test_a_data_set_that_is_missing_or_malformed(tmp_path: Path):
    (tmp_path / "bad.json").write_text("<html>")
    with ScriptedServer(inference_server()) as server:
        for name, expected in (("nowhere.json", "no data set at"), ("bad.json", "is not JSON")):
            words = ("--backend", "openai-chat", "--base-url", server.url, "--dataset-path", name)
            code, said = refused(tmp_path, "bench", *words)
            assert code == 2
            assert expected in said
            assert name in said


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["run", "nowhere.yaml"], "nowhere.yaml cannot be read"),
        (["comapre"], "there is no command 'comapre'. Did you mean compare or map?"),
        (["run", "typo.yaml"], "did you mean 'workload'?"),
        (["run", "engine.yaml"], "did you mean 'llama-server'?"),
        (["run", "model.yaml"], "model.yaml"),
        (["compare", "."], "is not a study"),
        (["compare", ".", "--format", "xml"], "unknown format 'xml'"),
        (["bench", "--request-rate", "0"], "rate_per_s must be greater than 0"),
        (["bench", "--num-prompts", "0"], "num_prompts must be at least 1"),
        (["bench", "--max-concurrency", "0"], "concurrency must be greater than 0"),
        (["bench", "--backend", "tgi"], "unknown --backend 'tgi'"),
        (["bench", "--metric-dialect", "vllm-1"], "unknown metric dialect 'vllm-1'"),
        (["bench", "--extra-body", "[1]"], "must be a JSON object"),
        (["bench", "--extra-body", "{"], "--extra-body is not valid JSON"),
        (["bench", "--metadata", "x"], "KEY=VALUE"),
        (["bench", "--header", "x"], "NAME=VALUE"),
        (["bench", "--percentile-metrics", "ttft,foo"], "unknown section 'foo'"),
        (["bench", "--metric-percentiles", "101"], "between 0 and 100"),
        (["bench", "--dataset-name", "sonnet"], "unknown --dataset-name 'sonnet'"),
        (["bench", "--dataset-name", "sharegpt"], "needs --dataset-path"),
        (["bench", "--no-such-flag"], "--no-such-flag"),
    ],
)
def test_a_wrong_request_is_one_message_with_code_2(tmp_path: Path, words: list[str], said: str):
    (tmp_path / "typo.yaml").write_text("workloud: 3\narms: {a: {engine: embedded, model: m}}")
    (tmp_path / "engine.yaml").write_text("arms: {a: {engine: lama-server, model: m}}")
    (tmp_path / "model.yaml").write_text("arms: {a: {engine: embedded, model: model.yaml}}")
    code, message = refused(tmp_path, *words)
    assert code == 2, message
    assert said in message


@pytest.mark.parametrize("cache", ["/proc/none/cache", "a-file"])
def test_a_folder_that_cannot_be_written_is_named_without_a_traceback(tmp_path: Path, cache: str):
    (tmp_path / "a-file").touch()
    done = inferometer("models", "get", "smollm2-135m", cwd=tmp_path, INFEROMETER_CACHE=str(tmp_path / cache))
    assert done.returncode == 2
    assert " cannot be used: " in done.stderr and "; set INFEROMETER_CACHE to another folder." in done.stderr
    assert "Traceback" not in done.stderr


def test_flags_that_take_many_values_are_spread():
    words = ["bench", "--metadata", "a=1", "b=2", "--seed", "3", "--header", "c=4"]
    assert spread_flags(words) == ["bench", "--metadata", "a=1", "--metadata", "b=2", "--seed", "3", "--header", "c=4"]


def test_a_server_that_can_no_longer_count_costs_only_the_count(tmp_path: Path):
    """Its /tokenize answers until the plan has been played, and then breaks the connection."""
    plain = inference_server(tokens=3)
    played: list[bool] = []

    def answer(request: Received) -> Iterable[Step]:
        if request.path == "/tokenize":
            return [Close()] if played else [whole(200, '{"tokens": [1, 2, 3, 4, 5]}')]
        if request.body.get("stream") and not is_probe(request):
            played.append(True)
        return plain(request)

    with ScriptedServer(answer) as server:
        words = ("--backend", "openai-chat", "--base-url", server.url, "--num-prompts", "2", "--out", "s")
        done = inferometer("bench", *words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "Successful requests:                     2 " in done.stdout
    (trial,) = read_study(tmp_path / "s").trials
    assert trial.state == "done"
    assert [record.our_tokens for record in trial.records] == [None] * 3
    assert any("could not be counted" in finding.message for finding in trial.findings)
