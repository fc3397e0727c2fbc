"""Inputs of public reports, in ../shared/cases: each has the outcome that its expected.md states.

One test for each folder, which says in a sentence what must hold. What goes wrong today is marked, strictly: whoever
puts it right takes the mark away.
"""

import json
import re
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from typer.testing import CliRunner

from inferometer.analysis.compare import Comparison
from inferometer.base.errors import DatasetUnusable, InferometerError, RequestWrong
from inferometer.cli import app
from inferometer.cli.bench_flags import spread_flags
from inferometer.foreign.foreign_run import ForeignRun
from inferometer.foreign.inputs import inputs_of, runs_in
from inferometer.llama_bench.side_by_side import side_by_side, side_by_side_sheet
from inferometer.results.study_comparison import comparison_of
from inferometer.workloads.sharegpt import ShareGpt, ShareGptFile

_ROOT = Path(__file__).parents[2]
CASES = next(
    (found for up in ("..", "../..") if (found := _ROOT / up / "shared" / "cases").is_dir()),
    _ROOT.parent / "shared" / "cases",
)
_SERVER = CASES / "_server" / "server.py"

pytestmark = pytest.mark.skipif(not CASES.is_dir(), reason="the public cases are not here: ../shared/cases")

_CHECKS: list[Any] = []


def case(folder: str, wrong_today: str = "") -> Callable[[Callable[[Path], None]], Callable[[Path], None]]:
    """Registers what must hold of one folder; `wrong_today`: why it does not hold yet."""

    def registered(check: Callable[[Path], None]) -> Callable[[Path], None]:
        marks = [pytest.mark.xfail(strict=True, reason=wrong_today)] if wrong_today else []
        _CHECKS.append(
            pytest.param(folder, check, id=folder if folder not in _known() else check.__name__, marks=marks)
        )
        return check

    return registered


def _known() -> set[str]:
    return {parameters.values[0] for parameters in _CHECKS}


# --- files ----------------------------------------------------------------------------------------


def runs(folder: Path, name: str) -> Sequence[ForeignRun]:
    return runs_in(folder / name)


def only(folder: Path, name: str) -> ForeignRun:
    (run,) = runs(folder, name)
    return run


def refused(folder: Path, name: str) -> str:
    with pytest.raises(RequestWrong) as error:
        runs_in(folder / name)
    return str(error.value)


def compared(*files: Path) -> Comparison:
    found = inputs_of([str(file) for file in files])
    return comparison_of([], "inferometer", found.percentiles, foreign=found.trials("inferometer"))


def is_the_block(run: ForeignRun) -> None:
    """900 requests, 5914.31 tok/s, mean TTFT 73.23 ms."""
    assert run.values["completed"] == 900
    assert run.values["output_throughput"] == pytest.approx(5914.31, abs=0.01)
    assert run.values["mean_ttft_ms"] == pytest.approx(73.23, abs=0.01)


@case("01-vllm-fork-averages")
def two_runs_are_told_apart_by_name(folder: Path) -> None:
    base, ngram = runs(folder, "notes.txt")
    assert ("base" in base.name, "ngram" in ngram.name) == (True, True)
    assert [run.values["output_throughput"] for run in (base, ngram)] == pytest.approx([52.31, 56.72], abs=0.01)
    (row,) = (row for row in compared(folder / "notes.txt").rows if row.metric == "mean_ttft_ms")
    assert list(row.values.values()) == [135.34, 115.42]


@case("02-vllm-speculative-section")
def the_section_on_speculation_is_read(folder: Path) -> None:
    values = only(folder, "bench.log").values
    assert values["acceptance_rate_percent"] == 52.41
    assert values["mean_accepted_length"] == 2.57
    assert (values["drafted_tokens"], values["accepted_tokens"]) == (1111830, 582702)


@case("03-log-with-timestamps")
def a_block_in_a_log_is_read(folder: Path) -> None:
    for name in ("actions.log", "compose.log"):
        is_the_block(only(folder, name))


@case("05-block-and-json-in-one-log")
def a_block_and_its_json_are_one_run(folder: Path) -> None:
    first, second = runs(folder, "results.md")
    is_the_block(first)
    assert second.values["output_throughput"] == pytest.approx(11481.02, abs=0.01)
    assert second.values["mean_ttft_ms"] == pytest.approx(902.25, abs=0.01)
    first, second = runs(folder, "combined.json")
    is_the_block(first)
    assert second.values["output_throughput"] == 11481.0


@case("06-sglang-jsonl-of-2025")
def zeros_of_sglang_are_unknown(folder: Path) -> None:
    first, second = runs(folder, "bench.jsonl")
    assert first.values["output_throughput"] == pytest.approx(3267.09, abs=0.01)
    assert second.values["output_throughput"] == 3750
    for run in (first, second):
        assert run.values["mean_ttft_ms"] is run.values["median_ttft_ms"] is None
        assert not [key for key, value in run.values.items() if "itl" in key and value is not None]


@case("07-sglang-block-failed-half")
def requests_that_failed_are_named(folder: Path) -> None:
    run = only(folder, "issue.md")
    assert (run.values["completed"], run.settings["requests"]) == (1648, "3000")
    assert run.notes == ("1648 of 3000 requests succeeded",)


@case("08-sgl-jax")
def a_fork_of_sglang_is_read(folder: Path) -> None:
    run = only(folder, "readme.md")
    assert run.tool == "SGLang's block"
    assert [run.values[key] for key in ("p90_e2el_ms", "p99_e2el_ms", "mean_tpot_ms")] == [4212.05, 4213.89, 27.48]
    assert run.values["output_throughput"] == pytest.approx(237.89, abs=0.01)


@case("12-nothing-succeeded")
def statistics_of_nothing_are_unknown(folder: Path) -> None:
    run = only(folder, "failed.log")
    assert (run.values["completed"], run.values["failed"]) == (0, 10)
    assert not [key for key, value in run.values.items() if key.endswith("_ms") and value is not None]
    comparison = compared(CASES / "02-vllm-speculative-section" / "bench.log", folder / "failed.log")
    (row,) = (row for row in comparison.rows if row.metric == "mean_ttft_ms")
    assert row.values["failed"] is None


@case("13-comparison-table")
def a_comparison_table_is_named(folder: Path) -> None:
    assert "It has a table of figures" in refused(folder, "table.md")


@case("14-quoted-crlf-ansi")
def a_quoted_block_is_read(folder: Path) -> None:
    for name in ("mail.txt", "nbsp.html.txt", "wide.txt", "details.md", "oneline.md"):
        is_the_block(runs(folder, name)[0])


@case("15-hardware-beneath-a-block")
def the_size_of_a_card_is_not_the_engine_s_memory(folder: Path) -> None:
    for path in folder.glob("post*.md"):
        assert only(folder, path.name).values.get("memory_gib") is None, path


@case("16-command-on-several-lines")
def a_command_on_several_lines_is_read(folder: Path) -> None:
    assert only(folder, "issue.md").settings == {
        "requests": "128", "concurrency": "8", "model": "org/model", "seed": "3", "dataset": "random"
    }  # fmt: skip


@case("20-llama-bench-of-2024")
def llama_bench_of_2024_is_read(folder: Path) -> None:
    rows = only(folder, "pr.md").rows
    assert len(rows) == 4
    assert {(row.devices, row.engine) for row in rows} == {(("NVIDIA GeForce RTX 4090",), "llama-bench b1798")}


@case("21-ik-llama-gp")
def generation_after_a_prompt_are_read(folder: Path) -> None:
    assert [row.test.label for row in only(folder, "ik.md").rows] == ["pp512", "pp4096", "tg64 @ d512", "tg64 @ d4096"]
    assert [row.rate_per_s for row in only(folder, "only-gp.md").rows] == [53.08, 52.87]


@case("23-added-column")
def a_column_that_somebody_added_is_passed_over(folder: Path) -> None:
    run = only(folder, "issue.md")
    assert [row.rate_per_s for row in run.rows] == [79.75, 264.83, 712.15]
    assert "Cost_Coefficient_(c)" in run.notes[0]


@case("25-json-with-device-lines")
def json_behind_device_lines_is_read(folder: Path) -> None:
    rows = only(folder, "out.json").rows
    assert [row.test.label for row in rows] == ["pp512", "tg128"]
    assert rows == only(folder, "clean.json").rows


@case("27-rows-without-head")
def rows_without_a_head_are_named(folder: Path) -> None:
    assert "rows of llama-bench without the head of their table" in refused(folder, "pr.md")


@case("29-batched-and-sweep-bench")
def other_benches_of_llama_cpp_are_named(folder: Path) -> None:
    assert "llama-batched-bench" in refused(folder, "batched.md")
    assert "llama-sweep-bench" in refused(folder, "sweep.md")
    run = only(folder, "both.md")
    assert (len(run.rows), "not understood" in run.notes[0]) == (3, True)


@case("30-two-rate-columns")
def two_rates_in_a_row_are_named(folder: Path) -> None:
    assert "several rates in a row" in refused(folder, "pr.md")


@case("32-guidellm-0.3")
def guidellm_of_0_3_is_read(folder: Path) -> None:
    run = only(folder, "benchmarks.json")
    assert (run.tool, run.values["completed"]) == ("guidellm", 10)


@case("33-vllm-json-variants")
def json_of_forks_and_old_versions_is_read(folder: Path) -> None:
    for name in ("crlf-bom.json", "inferencex.json", "utf16.json"):
        run = only(folder, name)
        assert run.values["output_throughput"] == pytest.approx(5914.31, abs=0.01)
        assert run.records == ()
    assert len(runs(folder, "two-pretty.json")) == 2
    assert only(folder, "v0.5.json").values["mean_tpot_ms"] is None
    assert only(folder, "failed-null.json").values["mean_ttft_ms"] is None


@case("35-setting-differs-between-columns")
def settings_that_differ_are_named(folder: Path) -> None:
    found = inputs_of([str(folder / "a.md"), str(folder / "b.md")])
    content = side_by_side(found.engine_rows)
    assert content.unlike == {"n_ubatch": {"a": "2048", "b": "512"}, "mmap": {"a": "0", "b": "1"}}
    assert any("n_ubatch 2048, 512; mmap 0, 1" in note for note in side_by_side_sheet(content).notes)
    assert msgspec.to_builtins(content)["unlike"]["mmap"] == {"a": "0", "b": "1"}


# --- data sets ------------------------------------------------------------------------------------


def prompts(path: Path) -> list[str]:
    found = ShareGptFile(ShareGpt(str(path), 20)).sample(1, None)
    return [request.prompt for request in (*found.requests, *found.spare)]


def read_or_refused(path: Path) -> str:
    """The sentence that refuses the file; "" where it is read."""
    try:
        return "" if prompts(path) else "no prompts"
    except DatasetUnusable as error:
        return str(error)


@case("71-messages-form")
def other_forms_of_data_sets_are_read_or_named(folder: Path) -> None:
    for path in folder.glob("*.json*"):
        said = read_or_refused(path)
        assert not said or "conversations" in said, path


@case("72-null-and-empty-values", "null becomes the prompt 'None', and empty prompts are sent")
def null_and_empty_prompts_are_not_sent(folder: Path) -> None:
    assert not {"None", "", "null"} & set(prompts(folder / "data.json"))


@case("73-one-bad-entry")
def a_bad_entry_is_passed_over_or_named(folder: Path) -> None:
    said = read_or_refused(folder / "data.json")
    assert not said or re.search(r"entry \d+", said)


# --- servers --------------------------------------------------------------------------------------


class Ran(msgspec.Struct, frozen=True):
    """What the program printed, and the bodies that the server was sent."""

    code: int
    block: str
    said: str
    bodies: tuple[dict[str, Any], ...]

    def number(self, label: str) -> float | None:
        """The value of a line of the block; None for n/a."""
        found = re.search(rf"^{re.escape(label)}: +(\S+)", self.block, re.MULTILINE)
        assert found is not None, f"no line {label} in:\n{self.block}\n{self.said}"
        return None if found[1] == "n/a" else float(found[1])


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@contextmanager
def serving(mode: str, log: Path, port: int = 0) -> Iterator[int]:
    """The scripted server in a mode; its port."""
    if not re.search(rf"def {mode}\(|\"{mode}\"", _SERVER.read_text()):
        pytest.skip(f"the scripted server has no mode {mode}")
    port = port or _free_port()
    command = [sys.executable, str(_SERVER), mode, str(port), str(log)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline().strip() == "ready"
            yield port
        finally:
            process.kill()
            process.wait()


def inferometer(words: Sequence[str], **env: str) -> tuple[int, str, str]:
    """Exit status, standard output and standard error of the program, in this process."""
    environment: dict[str, str | None] = {"OPENAI_API_KEY": None, **env}
    result = CliRunner().invoke(app, spread_flags(words), env=environment)
    failed = result.exception
    if isinstance(failed, InferometerError):
        return failed.exit_code, result.stdout, f"{result.stderr}\n{failed}"
    if failed is not None and not isinstance(failed, SystemExit):
        raise failed
    return result.exit_code, result.stdout, result.stderr


def bench(mode: str, *flags: str, path: str = "", **env: str) -> Ran:
    """`inferometer bench` as the case's input.md gives it."""
    with tempfile.TemporaryDirectory() as name:
        log = Path(name) / "requests.jsonl"
        with serving(mode, log) as port:
            words = ["bench", "--backend", "openai-chat", "--base-url", f"http://127.0.0.1:{port}{path}"]
            words += ["--num-prompts", "6", "--max-concurrency", "2", "--skip-tokenizer-init", "--disable-tqdm"]
            words += ["--percentile-metrics", "ttft,tpot,itl,e2el", *flags]
            code, block, said = inferometer([*words, "--out", str(Path(name) / "study")], **env)
        bodies = tuple(json.loads(line)["body"] for line in log.read_text().splitlines()) if log.exists() else ()
    return Ran(code, block, said, bodies)


def study(folder: Path, file: str, modes: dict[str, str]) -> tuple[int, dict[str, Any]]:
    """Exit status of the study file and its comparison as JSON, with a server in each arm's mode."""
    text = (folder / file).read_text()
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        for arm, mode in modes.items():
            port = stack.enter_context(serving(mode, Path(name) / f"{arm}.jsonl"))
            text = re.sub(rf"( {arm}: .*127\.0\.0\.1:)\d+", rf"\g<1>{port}", text)
        file_path = Path(name) / "study.yaml"
        file_path.write_text(text)
        code, out, said = inferometer(["run", str(file_path), "--json", "--out", str(Path(name) / "out")])
    assert out, said
    return code, json.loads(out)


def verdicts(comparison: dict[str, Any], metric: str) -> set[str]:
    return {one["verdict"] for row in comparison["rows"] if row["metric"] == metric for one in row["differences"]}


@case("41-empty-finish-reason")
def text_in_the_first_chunk_counts(folder: Path) -> None:
    ran = bench("ollama_empty_finish")
    assert ran.number("Successful requests") == 6
    assert 45 < (ran.number("Median TTFT (ms)") or 0) < 500
    assert "counted as one token per output event" in ran.said


@case("42-reasoning-first")
def thoughts_count_as_tokens(folder: Path) -> None:
    ran = bench("reasoning")
    assert ran.number("Total generated tokens") == 120
    assert 45 < (ran.number("Median TTFT (ms)") or 0) < 500


@case("42-reasoning-first", "a comparison does not say that the first tokens of one arm are reasoning")
def thoughts_of_one_arm_are_named(folder: Path) -> None:
    _, comparison = study(folder, "th.yaml", {"plain": "plain", "thinks": "reasoning"})
    assert re.search(r"reasoning|thought", json.dumps([comparison["findings"], comparison["notes"]]))


@case("43-data-without-space")
def events_without_a_blank_are_read(folder: Path) -> None:
    assert bench("nospace").number("Total generated tokens") == 60


@case("46-bare-error-in-a-stream", "the server's words in a stream that is no event are dropped")
def the_server_s_words_are_shown(folder: Path) -> None:
    assert "exceeds the available context size" in bench("raw_error").said


@case("47-error-in-a-stream")
def errors_in_a_stream_are_failures(folder: Path) -> None:
    ran = bench("error_event")
    assert (ran.code != 0, "quota exceeded" in ran.said) == (True, True)
    ran = bench("error_midway")
    assert (ran.code != 0, "EngineCore encountered an issue" in ran.said) == (True, True)


@case("49-whole-answer-in-one-chunk", "an answer in one chunk counts as one token")
def a_whole_answer_is_not_one_token(folder: Path) -> None:
    assert bench("fake_stream").number("Total generated tokens") != 6


@case("49-whole-answer-in-one-chunk", "counts of different kinds are compared")
def counts_of_different_kinds_have_no_verdict(folder: Path) -> None:
    _, comparison = study(folder, "fk.yaml", {"plain": "plain", "fake": "fake_stream"})
    assert "slower" not in verdicts(comparison, "output_throughput")


@case("51-running-usage")
def running_counts_are_not_added_up(folder: Path) -> None:
    ran = bench("continuous")
    assert ran.number("Total generated tokens") == 240
    tpot, itl = ran.number("Mean TPOT (ms)") or 0, ran.number("Mean ITL (ms)") or 0
    assert 3 < itl / tpot < 5


@case("52-buffered-stream", "TPOT and ITL of an answer that came at once are shown as 0.00")
def an_answer_that_did_not_stream_has_no_tpot(folder: Path) -> None:
    ran = bench("buffered")
    assert ran.number("Mean TPOT (ms)") is None
    assert "warning" in ran.said


@case("52-buffered-stream", "an answer that came at once is faster per token")
def an_answer_that_did_not_stream_is_not_faster(folder: Path) -> None:
    _, comparison = study(folder, "two.yaml", {"direct": "plain", "proxy": "buffered"})
    assert "faster" not in verdicts(comparison, "mean_tpot_ms") | verdicts(comparison, "median_itl_ms")


@case("54-unknown-fields-refused")
def nothing_is_sent_that_was_not_asked_for(folder: Path) -> None:
    assert bench("strict_openai").number("Successful requests") == 6


@case("55-max-tokens-refused", "the readiness probe sends max_tokens in spite of --extra-body")
def max_tokens_can_be_left_out(folder: Path) -> None:
    ran = bench("strict_o1", "--extra-body", '{"max_tokens": null, "ignore_eos": null}')
    assert ran.number("Successful requests") == 6


@case("56-base-url-forms")
def a_base_url_may_end_in_v1(folder: Path) -> None:
    assert bench("plain", path="/v1").number("Successful requests") == 6


@case("57-model-not-there")
def a_model_that_is_not_there_is_an_error(folder: Path) -> None:
    ran = bench("no_model", "--model", "other")
    assert ran.code != 0
    assert ("other" in ran.said, ": m" in ran.said) == (True, True)


@case("58-loading-and-503")
def a_server_that_loads_is_waited_for(folder: Path) -> None:
    assert bench("loading").number("Successful requests") == 6
    ran = bench("half_503")
    assert (ran.code, ran.number("Failed requests")) == (3, 3)


@case("60-cut-and-rate-limited")
def cut_and_limited_requests_have_their_reason(folder: Path) -> None:
    assert bench("rate_limited").code == 3


@case("63-always-or-only-streams", "the readiness probe wants an answer without a stream")
def a_server_that_always_streams_can_be_measured(folder: Path) -> None:
    assert bench("always_sse").number("Successful requests") == 6


@case("65-no-finish-no-done")
def an_answer_without_an_end_is_whole(folder: Path) -> None:
    ran = bench("no_end")
    assert ran.number("Successful requests") == 6
    assert "counted as one token per output event" in ran.said


@case("66-late-role-and-tools")
def tool_calls_are_output(folder: Path) -> None:
    assert bench("role_late").number("Successful requests") == 6
    assert bench("tool_calls").number("Successful requests") == 6


@case("67-several-models", "the first of several models is measured, and nobody is told")
def several_models_are_listed(folder: Path) -> None:
    assert "big-32b" in bench("many_models").said


@case("68-prompts-from-the-cache")
def cached_prompts_are_a_warning(folder: Path) -> None:
    assert "of its prompt tokens came from the prefix cache" in bench("cached").said


@case("69-key")
def a_key_is_sent_and_asked_for(folder: Path) -> None:
    assert bench("unauthorized", OPENAI_API_KEY="sk-test-1").number("Successful requests") == 6
    assert "OPENAI_API_KEY" in bench("unauthorized").said


@case("80-command-lines-from-posts")
def a_posted_command_runs(folder: Path) -> None:
    words = (folder / "input.md").read_text().split()[2:]
    kept = [word for word in words if word != "org/m" and "PORT" not in word]
    flags = [word for word in kept if word not in ("--base-url", "--tokenizer", "--model", "--request-rate", "0.3")]
    ran = bench("plain", "--model", "org/m", "--request-rate", "20", *flags)
    assert ran.number("Successful requests") == 4
    assert {body["model"] for body in ran.bodies} == {"m"}
    assert ran.bodies[-1]["max_completion_tokens" if "max_completion_tokens" in ran.bodies[-1] else "max_tokens"] == 500


@pytest.mark.parametrize(("folder", "check"), _CHECKS)
def test_a_public_case_has_the_outcome_it_states(folder: str, check: Callable[[Path], None]):
    check(CASES / folder)


_IN_TESTS_OF_ENGINES = {"81-draft-ignored", "83-flags-of-last-year", "84-port-in-use"}
"""They need a llama-server: tests/engines has such cases with scripted programs."""


def test_every_public_case_has_a_test():
    folders = {path.parent.name for path in CASES.glob("*/expected.md")}
    assert folders - _IN_TESTS_OF_ENGINES == _known()
