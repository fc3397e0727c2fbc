"""`compare`, `show` and `list` as their user calls them, in this process: starting another takes longer than each."""

import contextlib
import io
import json
import re
import shlex
import signal
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from inferometer.cli import main
from inferometer.core.record import Event, Fact, RequestRecord, TokenUsage
from inferometer.core.spec_file import parse
from inferometer.store import Store

SEED = Path(__file__).parents[1] / "golden" / "seed.md"
DOCUMENT = Path(__file__).parents[2] / "docs" / "how-to" / "compare.md"
RECORDED = Path(__file__).parents[1] / "foreign" / "recorded"
KEPT = Path(__file__).parents[2] / "studies" / "h200-qwen2.5-coder-32b-standin" / "study.zip"
MS = 1_000_000
STUDY = """
name: Two threads or one
workload: {kind: builtin, num_prompts: 2, max_tokens: 8}
schedule: {kind: closed, concurrency: 1}
trials: 2
arms:
  one: {engine: external, url: "http://127.0.0.1:1", model: m}
  two: {base: one}
"""


class Done(NamedTuple):
    returncode: int
    stdout: str
    stderr: str


def inferometer(*words: object) -> Done:
    out, err, code = io.StringIO(), io.StringIO(), 0
    argv, handler = sys.argv, signal.getsignal(signal.SIGTERM)
    sys.argv = ["inferometer", *map(str, words)]
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            main()
    except SystemExit as end:
        code = int(end.code or 0)
    finally:
        sys.argv = argv
        signal.signal(signal.SIGTERM, handler)
    return Done(code, out.getvalue(), err.getvalue())


def printed(*words: object) -> str:
    done = inferometer(*words)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def printed_of_any_result(*words: object) -> str:
    """Of a result that need not be valid."""
    done = inferometer(*words)
    assert done.returncode in (0, 3)
    return done.stdout


def one_line(text: str) -> str:
    return " ".join(text.split())


def a_study(folder: Path, *, failed: bool = False) -> Path:
    """Two arms, two trials each of two requests; gaps of 10 ms in the first arm and 5 ms in the second. Where `failed`,
    the last trial is."""
    store = Store.create(folder, parse(STUDY, "study.yaml"))
    store.set_meta("machine", [Fact("cpu_model", "Some CPU", "test")])
    store.set_meta("workload", {"dataset": "two prompts"})
    for arm, number, gap_ms in (("one", 1, 10), ("two", 1, 5), ("two", 2, 5), ("one", 2, 10)):
        trial = store.begin_trial(arm, number, False, f"2026-01-0{number}T00:00:00+00:00")
        store.set_plan_started(trial, 0)
        for index in range(2):
            sent = index * 100 * MS
            events = [Event(sent + (20 + gap_ms * i) * MS, "text", "x") for i in range(8)]
            events.append(Event(events[-1].at_ns, "done", ""))
            store.add_record(
                trial,
                RequestRecord(
                    index, f"r{index}", True, "ok", None, sent, events[-1].at_ns, events=events, usage=TokenUsage(30, 8)
                ),
            )
        bad = failed and (arm, number) == ("one", 2)
        store.end_trial(trial, "failed" if bad else "done", "the engine died" if bad else "", [], [])
    store.close()
    return folder


def test_blocks_of_a_text_stand_side_by_side_by_heading_in_every_format():
    wanted = [f"{SEED}#W7900 Q4_K_M", f"draft={SEED}#2"]
    text = printed("compare", *wanted)
    assert "Output token throughput (tok/s)    21.29   *34.21        60.7" in text
    assert "draft: output token throughput 1.607× that of W7900 Q4_K_M: unknown" in text
    markdown = one_line(printed("compare", *wanted, "--format", "md"))
    assert "| Output token throughput (tok/s) | 21.29 | **34.21** | 60.7 |" in markdown
    said = json.loads(printed("compare", *wanted, "--format", "json"))
    row = next(row for row in said["rows"] if row["metric"] == "output_throughput")
    assert said["arms"] == ["W7900 Q4_K_M", "draft"]
    assert row["differences"][0]["verdict"] == "unknown"
    assert row["differs"]["draft"] == "counted by the client's tokenizer"


def test_a_whole_text_gives_its_blocks_and_below_them_its_llama_bench_tables():
    text = printed("compare", SEED, "--format", "md")
    assert text.index("| Metric ") < text.index("| pp512 ")
    assert "| pp512        | 663.44 ± 1.50 | 1294.03 ± 7.76 (+95.0%) | 1335.70 ± 25.01 (+101.3%) |" in text
    said = json.loads(printed("compare", SEED, "--format", "json"))
    assert len(said["arms"]) == 5
    assert said["engine_rows"]["runs"] == ["W7900", "RTX 3090 #7", "RTX 3090 #8"]


@pytest.mark.parametrize("format", ["terminal", "md", "json"])
def test_llama_bench_s_files_of_any_kind_stand_beside_one_another(format: str):
    text = printed(
        "compare", RECORDED / "llama-bench-b11434-depth.sql", f"md={RECORDED / 'llama-bench-b11434-depth.md'}",
        RECORDED / "llama-bench-b11434.jsonl", "--format", format,
    )  # fmt: skip
    if format == "json":
        test = json.loads(text)["engine_rows"]["tests"][0]
        assert (test["test"], list(test["rates"])) == ("pp16", ["llama-bench-b11434-depth", "md", "llama-bench-b11434"])
    else:
        assert "23836.93 ± 176.21" in text
        assert "23836.93 ± 176.21 (0.0%)" in text or "23836.93 ± 176.21 (+0.0%)" in text
        assert "14678.72 ± 9872.71 (-38.4%)" in text
        assert "no verdict: one run per column" in text


def test_a_study_and_a_block_stand_side_by_side_and_unlike_definitions_are_marked(tmp_path: Path):
    study = a_study(tmp_path / "s")
    text = one_line(printed("compare", study, f"{SEED}#1", "--all"))
    assert "Mean TPOT (ms) [" in text
    assert "Median chunk gap (ms) [" in text  # the block's ITL stands there too
    assert "one, two: our definition; W7900 Q4_K_M: ends at [DONE], not at the last token" in text
    assert "successful requests one 2, two 2, W7900 Q4_K_M 50" in text
    vllm = printed("compare", study, f"{SEED}#1", "--metric-dialect", "vllm-0.6.5", "--all")
    assert "Mean TPOT (ms)  " in vllm  # by that version's rules both are alike


def test_a_file_may_be_the_baseline_of_a_study_and_takes_no_arm_s_name(tmp_path: Path):
    study = a_study(tmp_path / "s")
    said = json.loads(printed("compare", f"one={SEED}#1", study, "--format", "json"))
    assert said["arms"] == ["one", "s/one", "two"]


def test_the_rows_of_a_published_study_are_printed_alone_and_exclude_other_choices():
    text = printed("compare", f"base={SEED}#1", f"draft={SEED}#2", "--format", "md", "--rows", "seed")
    assert text.startswith("| Metric                          |    base |   draft |   % Difference |\n|:-----")
    assert len(text.splitlines()) == 2 + 17
    for words in (("--rows", "all"), ("--rows", "seed", "--all"), ("--rows", "seed", "--metrics", "ttft")):
        done = inferometer("compare", f"{SEED}#1", f"{SEED}#2", *words)
        assert (done.returncode, done.stdout) == (2, "") and "--rows" in done.stderr


def test_markdown_names_what_differs_and_each_command():
    text = printed_of_any_result("compare", KEPT, "--format", "md")
    line = next(line for line in text.splitlines() if line.startswith("- draft: llama-server b11434"))
    assert "n_max 16, n_min 1, p_min 0.7; command " in line and "llama-server -m standin" in line


def test_what_is_wrong_with_an_argument_is_one_message_and_exit_2(tmp_path: Path):
    (tmp_path / "found" / "steps").mkdir(parents=True)
    (tmp_path / "found" / "steps" / "study.db").touch()
    (tmp_path / "empty").mkdir()
    for word, said in (
        (f"{SEED}#nothing", "has no heading 'nothing'"),
        (tmp_path / "empty", "it has no study.db.\n"),
        (tmp_path / "found", f"it has no study.db. It contains studies: inferometer list {tmp_path / 'found'}"),
    ):
        done = inferometer("compare", word)
        assert (done.returncode, done.stdout) == (2, "")
        assert said in done.stderr
        assert "Traceback" not in done.stderr


def test_show_lists_what_is_in_a_text():
    text = printed("show", SEED)
    assert "Qwen2.5-Coder-32B-Instruct Perf Testing > W7900\n" in text
    assert (
        "   #2 W7900 Q4_K_M + 1.5B Q8 Draft           50     34.21    346.80     28.83     22.12  vLLM's block" in text
    )
    assert "pp512       1335.70 ± 25.01 tok/s  qwen2 32B Q4_K - Medium, CUDA, ngl 99, fa 1" in text
    said = json.loads(printed("show", SEED, "--json"))
    assert [(run["number"], run["heading"]) for run in said["runs"]][3] == (4, "RTX 3090 Q4_K_M w/ FA")
    assert said["runs"][5]["rows"][0]["rate_per_s"] == 663.44


def test_show_tells_of_a_study_its_arms_trials_and_figures(tmp_path: Path):
    text = printed("show", a_study(tmp_path / "s", failed=True))
    assert text.startswith(
        f"Two threads or one: {tmp_path / 's'}\nbegan 2026-01-01T00:00:00+00:00; machine: Some CPU\n"
    )
    assert "workload: dataset two prompts" in text
    # 16 tokens in 190 ms; in 155 ms
    assert "      one         2     84.21     20.00     10.00       n/a  1 done, 1 failed of 2\n" in text
    assert "      two         2    103.23     20.00      5.00       n/a  2 done of 2\n" in text
    assert "one, trial 2 failed: the engine died" in text
    inferometer("export", tmp_path / "s", "-o", tmp_path / "s.zip")
    assert "\nbegan 2026-01-01T00:00:00+00:00; " in printed("show", tmp_path / "s.zip")
    said = json.loads(printed("show", tmp_path / "s", "--json"))
    assert said["values"]["mean_tpot_ms"] == {"one": 10.0, "two": 5.0}
    assert [trial["state"] for trial in said["all_trials"]] == ["done", "done", "done", "failed"]


def test_list_tells_of_every_study_below_a_folder_in_the_order_in_which_they_began(tmp_path: Path):
    a_study(tmp_path / "deep" / "er" / "b")
    Store.create(tmp_path / "a", parse(STUDY, "study.yaml")).close()
    inferometer("export", tmp_path / "deep" / "er" / "b", "-o", tmp_path / "c.zip")
    (tmp_path / "notes.zip").write_text("no zip")
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "study.db").write_text("no database")
    text = one_line(printed("list", tmp_path))
    assert "2026-01-01 00:00 Two threads or one: one, two" in text
    assert "(4 done) two: faster, +23% (+23..+23%), for these two starts only." in text  # 103.23 / 84.21
    assert "(no trial) nothing measured yet" in text
    assert f"{tmp_path / 'broken'} {tmp_path / 'broken' / 'study.db'} cannot be read" in text
    said = json.loads(printed("list", tmp_path, "--json"))
    assert [entry["trials"] for entry in said["studies"]] == [{}, {}, {"done": 4}, {"done": 4}]


def test_list_and_show_say_where_there_is_nothing(tmp_path: Path):
    assert "contains no study" in inferometer("list", tmp_path).stderr
    assert "does not exist" in inferometer("list", tmp_path / "x").stderr
    a_study(tmp_path / "deep" / "s")
    done = inferometer("show", tmp_path)
    assert done.returncode == 2
    assert f"It contains studies: inferometer list {tmp_path}" in done.stderr


def test_every_command_of_the_document_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    a_study(tmp_path / "results" / "qwen-draft")
    (tmp_path / "notes.md").symlink_to(SEED)
    (tmp_path / "tests").symlink_to(SEED.parents[1])
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"^```\n(.*?)^```", DOCUMENT.read_text(), re.DOTALL | re.MULTILINE)
    commands = [shlex.split(line) for block in blocks for line in block.splitlines()]
    assert len(commands) == 8
    for program, *words in commands:
        assert program == "inferometer"
        assert printed(*words) != ""
