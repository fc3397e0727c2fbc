"""Results as logs, posts and CI systems show them: behind log heads, with remarks, between other lines."""

import itertools
import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from inferometer.foreign.foreign_run import ForeignRun
from inferometer.foreign.readers import read, unread_results

LINES = [
    "============ Serving Benchmark Result ============",
    "Successful requests:                     900       ",
    "Failed requests:                         0         ",
    "Benchmark duration (s):                  40.57     ",
    "Total input tokens:                      899100    ",
    "Total generated tokens:                  239959    ",
    "Output token throughput (tok/s):         5914.31   ",
    "---------------Time to First Token----------------",
    "Mean TTFT (ms):                          73.23     ",
    "P99 TTFT (ms):                           169.39    ",
    "==================================================",
]
BLOCK = "\n".join(LINES)
VALUES = {
    "completed": 900, "failed": 0, "duration": 40.57, "total_input_tokens": 899100, "total_output_tokens": 239959,
    "output_throughput": 5914.31, "mean_ttft_ms": 73.23, "p99_ttft_ms": 169.39,
}  # fmt: skip
RESULT = {
    "date": "20250530-203916", "backend": "vllm", "model_id": "org/m", "num_prompts": 900, "request_rate": "inf",
    "duration": 40.57259, "completed": 900, "total_input_tokens": 899100, "total_output_tokens": 239959,
    "request_throughput": 22.18, "output_throughput": 5914.3116, "mean_ttft_ms": 73.2273, "p99_ttft_ms": 169.3921,
}  # fmt: skip
HEAD = "| model | size | params | backend | ngl | test | t/s |"
RULE = "| --- | ---: | ---: | --- | --: | ---: | ---: |"


def row(test: str, rate: str, model: str = "llama 7B Q4_0") -> str:
    return f"| {model} | 3.56 GiB | 6.74 B | CUDA | 99 | {test} | {rate} |"


def found(text: str) -> list[ForeignRun]:
    return list(read(text, "file") or ())


def only(text: str) -> ForeignRun:
    (run,) = found(text)
    return run


def seconds(form: str) -> Callable[[int], str]:
    """A head that has the time of the line in it."""
    return lambda at: form.replace("SS", f"{16 + at:02d}").replace("N", str(98 + at))


HEADS = {
    "ISO with zone": seconds("2025-05-30T20:39:SS.0000011Z "),
    "ISO, zeros of the fraction left out": lambda at: f"2025-05-30T20:39:{16 + at}{'' if at == 3 else f'.{at}5'}Z ",
    "ISO with offset": seconds("2025-05-30T20:39:SS+02:00 "),
    "ISO without zone": seconds("2025-05-30 20:39:SS,123 "),
    "clock in brackets": seconds("[12:34:SS] "),
    "glog": seconds("I0101 12:34:SS.789012 123 file.cc:N] "),
    "kubectl --prefix": lambda at: "[pod/bench-7d9f-x2/main] ",
    "kubectl pod and bar": lambda at: "pod/x | ",
    "stern": lambda at: "bench-7d9f main ",
    "docker compose": lambda at: "name_1  | ",
    "docker compose with time": seconds("bench-1  | 2025-05-30T20:39:SS.12Z "),
    "vLLM's process": lambda at: "(EngineCore pid=1) ",
    "vLLM's process and logger": seconds("(APIServer pid=7) INFO 05-30 12:34:SS [serve.py:N] "),
    "Ray": lambda at: "(Bench pid=4711, ip=10.0.0.3) ",
    "journald": seconds("May 30 20:39:SS host bench[4242]: "),
    "GitHub Actions": seconds("2025-05-30T20:39:SS.1234567Z "),
    "gh run view --log": seconds("bench\tRun benchmark\t2025-05-30T20:39:SS.1234567Z "),
    "GitLab with section": seconds("2025-05-30T20:39:SS.123456Z 01O "),
    "Python's logging": seconds("INFO:bench:"),
    "loguru": seconds("2025-05-30 20:39:SS.123 | INFO     | bench:main:N - "),
    "structlog": seconds("2025-05-30 20:39:SS [info     ] "),
    "containerd": seconds("2025-05-30T20:39:SS.123456789+00:00 stdout F "),
    "quoted": lambda at: "> ",
    "commented": lambda at: "# ",
    "only the first line": lambda at: "INFO 05-30 12:34:56 [serve.py:98] " if at == 0 else "",
}


@pytest.mark.parametrize("head", HEADS.values(), ids=HEADS)
def test_a_block_is_read_behind_the_heads_of_a_log(head: Callable[[int], str]):
    run = only("\n".join(head(at) + line for at, line in enumerate(LINES)))
    assert {key: run.values[key] for key in VALUES} == VALUES
    assert run.notes == ()


@pytest.mark.parametrize("head", HEADS.values(), ids=HEADS)
@pytest.mark.parametrize("indent", [None, 2], ids=["one line", "pretty"])
def test_json_is_read_behind_the_heads_of_a_log(head: Callable[[int], str], indent: int | None):
    lines = ["starting", *json.dumps(RESULT, indent=indent).splitlines(), "done"]
    run = only("\n".join(head(at) + line for at, line in enumerate(lines)))
    assert (run.values["output_throughput"], run.values["mean_ttft_ms"]) == (5914.3116, 73.2273)


@pytest.mark.parametrize("head", HEADS.values(), ids=HEADS)
def test_a_table_of_llama_bench_is_read_behind_the_heads_of_a_log(head: Callable[[int], str]):
    lines = [HEAD, RULE, row("pp512", "11.50 ± 0.10"), row("tg128", "2.00 ± 0.01")]
    run = only("\n".join(head(at) + line for at, line in enumerate(lines)))
    assert [(row.test.label, row.rate_per_s) for row in run.rows] == [("pp512", 11.5), ("tg128", 2.0)]


@pytest.mark.parametrize("head", [HEADS["GitHub Actions"], HEADS["docker compose"], HEADS["quoted"]])
def test_csv_of_llama_bench_is_read_behind_the_heads_of_a_log(head: Callable[[int], str]):
    lines = (Path(__file__).parent / "recorded" / "llama-bench-b11434-fa.csv").read_text().splitlines()
    assert only("\n".join(head(at) + line for at, line in enumerate(lines))).rows == only("\n".join(lines)).rows


@pytest.mark.parametrize("field", ["log", "message", "MESSAGE"])
def test_a_block_in_a_log_of_json_objects_is_read(field: str):
    text = "\n".join(json.dumps({field: line + "\n", "stream": "stdout"}) for line in LINES)
    assert only(text).values["mean_ttft_ms"] == 73.23


@pytest.mark.parametrize(
    "remark",
    ["", " (+2%)", "  # note", " ms", "ms", " ± 0.4", " <- the best", " *", "** (better)", " | ok |", " [1]", ", warm"],
)
def test_a_remark_behind_a_value_does_not_hide_the_value(remark: str):
    run = only(BLOCK.replace("73.23     ", f"73.23{remark}"))
    assert run.values["mean_ttft_ms"] == 73.23
    assert run.notes == ()


@pytest.mark.parametrize("written", ["899,100", "899 100", "899\u202f100", "899'100", "899_100"])
def test_thousands_are_read_as_people_separate_them(written: str):
    assert only(BLOCK.replace("899100", written)).values["total_input_tokens"] == 899100


@pytest.mark.parametrize(
    ("known", "written"), [("899100", "899.100"), ("73.23     ", "73.23     71.10"), ("73.23     ", "73.23 | 71.10")]
)
def test_a_value_that_may_be_another_number_is_unknown_and_counted(known: str, written: str):
    run = only(BLOCK.replace(known, written))
    assert run.values["total_input_tokens" if known == "899100" else "mean_ttft_ms"] is None
    assert "1 line of the block was not understood" in run.notes[0]


@pytest.mark.parametrize(
    "text",
    [
        "**Serving Benchmark Result**\n" + "\n".join(LINES[1:]),
        "### Serving Benchmark Result\n\n" + "\n".join(f"- {line}" for line in LINES[1:-1]),
        "=== Serving Benchmark Result ===\n" + "\n".join(LINES[1:]),
        "<p>" + "<br>".join(line.replace(" ", "&nbsp;") for line in LINES) + "</p>",
        BLOCK.replace("\n", "\r"),
    ],
)
def test_a_block_is_read_under_a_title_of_another_form(text: str):
    run = only(text)
    assert {key: run.values[key] for key in VALUES} == VALUES


def test_a_dict_as_python_prints_it_is_read():
    text = f"bench: { ({**RESULT, 'mean_ttft_ms': math.nan}) }\nits prompts aren't in {{'the': log}}"
    assert (only(text).values["output_throughput"], only(text).values["mean_ttft_ms"]) == (5914.3116, None)


def test_results_in_one_object_have_the_names_of_its_fields():
    assert [run.name for run in found(json.dumps({"base": RESULT, "draft": {**RESULT, "duration": 9}}))] == [
        "base",
        "draft",
    ]


def test_json_that_is_broken_is_counted():
    assert "2 lines with figures were not understood" in unread_results(f"{json.dumps(RESULT)[:-1]},}}\nttft: 3\n")


@pytest.mark.parametrize(("written", "number"), [("1,073.23", 1073.23), ("**73.23**", 73.23), ("7.3e1", 73.0)])
def test_numbers_are_read_as_people_write_them(written: str, number: float):
    assert only(BLOCK.replace("73.23", written)).values["mean_ttft_ms"] == number


@pytest.mark.parametrize("written", ["135.34 -> 115.42", "73.23 / 80.10", "73,23", "5.9k", "0.07 s", "slow"])
def test_a_value_that_may_mean_two_numbers_is_unknown_and_named(written: str):
    run = only(BLOCK.replace("73.23     ", written))
    assert run.values["mean_ttft_ms"] is None
    assert run.notes == (f"1 line of the block was not understood, first: Mean TTFT (ms): {' ' * 25}{written}",)


def test_lines_of_others_inside_a_block_are_counted():
    lines = [*LINES[:3], "server-1 | INFO: 127.0.0.1 POST /v1/chat", "Frobnication factor (x): 3.2", *LINES[3:]]
    run = only("\n".join(lines))
    assert {key: run.values[key] for key in VALUES} == VALUES
    assert run.notes == ("2 lines of the block were not understood, first: server-1 | INFO: 127.0.0.1 POST /v1/chat",)


def test_a_block_that_breaks_off_does_not_swallow_the_log_below():
    run = only("\n".join([*LINES[:5], *(f"worker {n}: P99 TTFT (ms) is {n}" for n in range(30)), "Mean TTFT (ms): 1"]))
    assert "mean_ttft_ms" not in run.values


@pytest.mark.parametrize(
    ("text", "names"),
    [
        (f"# A\n{BLOCK}\n# B\n{BLOCK}\n", ["A", "B"]),
        (f"# Runs\n## A\n{BLOCK}\n\ntext\n## B\n{BLOCK}\n", ["Runs > A", "Runs > B"]),
        (f"base:\n```\n{BLOCK}\n```\n\n**ngram**\n```\n{BLOCK}\n```\n", ["base", "ngram"]),
        (f"*) base (concurrency = 1):\n{BLOCK}\n\n*) ngram (concurrency = 1):\n{BLOCK}\n",
         ["base (concurrency = 1)", "ngram (concurrency = 1)"]),
    ],
)  # fmt: skip
def test_blocks_without_a_fence_keep_the_names_above_them(text: str, names: list[str]):
    runs = found(text)
    assert [run.name for run in runs] == names
    assert all(run.values["mean_ttft_ms"] == 73.23 for run in runs)


def test_memory_below_an_unfenced_block_is_its_own():
    assert only(f"# A\n{BLOCK}\n- 20.567 GiB\n").values["memory_gib"] == pytest.approx(20.567)


# --- JSON -----------------------------------------------------------------------------------------


def other(**changed: object) -> dict[str, object]:
    return RESULT | {"duration": 80.5, "output_throughput": 2980.0, "mean_ttft_ms": 20.0} | changed


@pytest.mark.parametrize(
    "text",
    [
        json.dumps([RESULT, other()]),
        json.dumps([RESULT, other()], indent=2),
        json.dumps(RESULT) + json.dumps(other()),
        json.dumps({"date": 1, "runs": [RESULT, other()]}),
        json.dumps({"a": RESULT, "b": other()}, indent=2),
        json.dumps(RESULT, indent=1) + "\n" + json.dumps(other(), indent=1),
        json.dumps([RESULT]) + "\n" + json.dumps([other()]),
        "Namespace(x=1)\n" + json.dumps(RESULT) + "\nrunning {3 of 4}\nresult: " + json.dumps(other()) + " ok\n",
        f"```json\n{json.dumps(RESULT, indent=4)}\n```\nand\n```json\n{json.dumps(other())}\n```\n",
        f"<<<START>>>{json.dumps(RESULT)}<<<END>>>\n<<<START>>>{json.dumps(other())}<<<END>>>",
        f"{json.dumps({'tp': 4})}\n{json.dumps(RESULT)}\n{json.dumps({'tp': 8})}\n{json.dumps(other())}\n",
    ],
)
def test_several_results_in_one_text_are_all_read_in_order(text: str):
    assert [run.values["output_throughput"] for run in found(text)] == [5914.3116, 2980.0]


def test_a_block_and_the_json_of_the_same_run_are_one_run():
    run = only(f"# A\n{BLOCK}\n<<<RESULT>>>\n{json.dumps(RESULT)}\n")
    assert (run.name, run.tool) == ("A", "vllm")
    assert (run.values["mean_ttft_ms"], run.values["failed"]) == (73.2273, 0)
    assert run.settings["model"] == "org/m"
    assert len(found(f"{json.dumps(RESULT)}\n{BLOCK}\n")) == 1
    assert len(found(f"{BLOCK}\n{json.dumps(other())}\n")) == 2  # of another run


def test_json_that_is_no_result_is_counted():
    text = f"{json.dumps({'tp': 4})}\n{json.dumps(RESULT)}\n{json.dumps({'my_throughput': 3.5})}\n"
    assert only(text).notes == ('2 lines with figures were not understood, first: {"tp": 4}',)


def test_rows_of_llama_bench_between_its_log_s_lines_are_one_run():
    lines = (Path(__file__).parent / "recorded" / "llama-bench-b11434.jsonl").read_text().splitlines()
    logged = "\n".join(itertools.chain.from_iterable(("ggml_cuda_init: found 1 CUDA devices:", line) for line in lines))
    assert only(logged).rows == only("\n".join(lines)).rows


def test_an_opening_bracket_that_never_closes_hides_nothing():
    assert only("set {\nlist [\n" + json.dumps(RESULT)).values["completed"] == 900
    assert found("[\n" * 20_000 + '{"throughput": ') == []


# --- commands -------------------------------------------------------------------------------------

ASKED = {"model": "org/m", "requests": "128", "concurrency": "8", "seed": "3", "dataset": "random"}


@pytest.mark.parametrize(
    "command",
    [
        "vllm bench serve \\\n  --dataset-name random \\\n  --model org/m \\\n  --num-prompts 128 \\\n"
        "  --max-concurrency 8 \\\n  --seed 3",
        "vllm bench serve ^\n  --dataset-name random --model org/m ^\n  --num-prompts 128 --max-concurrency 8 --seed 3",
        "vllm bench serve `\n  --dataset-name random --model org/m `\n  --num-prompts 128 --max-concurrency 8 --seed 3",
        "> $ vllm bench serve \\\n>   --dataset-name random --model 'org/m' \\\n"
        ">   --num_prompts=128 --max_concurrency=8 --seed=3",
        'python3 -m sglang.bench_serving --dataset-name "random" --model org/m --num-prompts 128 \\  \n'
        "--max-concurrency 8 --seed 3",
        'command: ["vllm", "bench", "serve", "--dataset-name", "random", "--model", "org/m", "--num-prompts", "128", '
        '"--max-concurrency", "8", "--seed", "3"]',
        "Namespace(backend='vllm', dataset_name='random', model='org/m', num_prompts=128, max_concurrency=8, seed=3, "
        "dataset_path=None)",
    ],
)
def test_settings_are_taken_from_a_command_however_it_is_written(command: str):
    assert only(f"Run:\n{command}\n\nResult:\n{BLOCK}").settings == ASKED


def test_a_command_of_another_program_asks_for_nothing():
    assert only(f"train.py \\\n  --model org/m \\\n  --seed 3\n{BLOCK}").settings == {}


# --- tables ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("test", "label"),
    [
        ("tg64@pp512", "tg64 @ d512"),
        ("tg16@pp4096", "tg16 @ d4096"),
        ("pp 512", "pp512"),
        ("pp512+tg128", "pp512+tg128"),
        ("PP512", "pp512"),
        ("tg128 @ d 4096", "tg128 @ d4096"),
    ],
)
def test_tests_of_all_versions_and_forks_are_read(test: str, label: str):
    assert only("\n".join([HEAD, RULE, row(test, "10.70 ± 0.00")])).rows[0].test.label == label


@pytest.mark.parametrize(
    ("head", "line", "model"),
    [
        (HEAD, row("pp512", "1.00 ± 0.00", "llama | instruct"), "llama | instruct"),
        (HEAD, row("pp512", "1.00 ± 0.00", "a | b | c"), "a | b | c"),
        (HEAD, row("pp512", "1.00 ± 0.00", "a \\| b"), "a | b"),
        (HEAD, row("pp512", "1.00 ± 0.00") + " the best |", "llama 7B Q4_0"),
        (HEAD.strip("| "), row("pp512", "1.00 ± 0.00").strip("| "), "llama 7B Q4_0"),
        (HEAD.replace(" |", " | dev |", 1), row("pp512", "1.00").replace(" |", " | CUDA0|CUDA1 |", 1), "llama 7B Q4_0"),
    ],
)
def test_a_bar_that_nobody_escaped_does_not_lose_the_row(head: str, line: str, model: str):
    (read_row,) = only(f"{head}\n{line}\n").rows
    assert (read_row.description, read_row.test.label, read_row.rate_per_s) == (model, "pp512", 1.0)


@pytest.mark.parametrize(
    ("written", "rate", "deviation"),
    [
        ("**11.50 ± 0.10**", 11.5, 0.1), ("1,234.50 ± 2.00", 1234.5, 2.0), ("11.50 (+5%)", 11.5, None),
        ("1 234.50 ± 2.00", 1234.5, 2.0), ("1\u00a0234.50", 1234.5, None), ("11.50 12.60", None, None),
        ("11.50 +/- 0.10", 11.5, 0.1), ("11.50 � 0.10", 11.5, 0.1), ("11,5", None, None), ("n/a", None, None),
    ],
)  # fmt: skip
def test_rates_are_read_as_people_write_them(written: str, rate: float | None, deviation: float | None):
    (read_row,) = only("\n".join([HEAD, RULE, row("pp512", written)])).rows
    assert (read_row.rate_per_s, read_row.deviation_per_s) == (rate, deviation)


def test_a_rate_that_is_not_understood_is_counted():
    run = only("\n".join([HEAD, RULE, row("pp512", "out of memory"), row("tg128", "11,5"), row("tg64", "n/a")]))
    assert "2 rows of the table were not understood" in run.notes[0]


def test_a_table_goes_on_after_a_blank_line_and_under_its_head_again():
    run = only("\n".join([HEAD, RULE, row("pp512", "1.5"), "", row("tg128", "2.5"), HEAD, RULE, row("tg64", "3.5")]))
    assert [one.rate_per_s for one in run.rows] == [1.5, 2.5, 3.5]
    assert run.notes == ()


@pytest.mark.parametrize("head", ["tok/s", "Tokens/s"])
def test_the_rate_s_column_may_have_another_head(head: str):
    assert only("\n".join([HEAD.replace("t/s", head), RULE, row("pp512", "1.5")])).rows[0].rate_per_s == 1.5


def test_a_head_in_other_letters_and_behind_a_name_with_model_in_it_is_one():
    head = "| **Model** | Size | Params | Backend | ngl | Test | t/s |"
    lines = [f"my-model-1  | {line}" for line in (head, RULE, row("pp512", "11.50 ± 0.10"))]
    assert only("\n".join(lines)).rows[0].settings == {"n_gpu_layers": "99"}


def test_rows_that_are_not_understood_are_counted():
    run = only("\n".join([HEAD, RULE, row("pp512", "1.00"), row("mixed 3", "2.00"), row("sum", "3.00")]))
    assert len(run.rows) == 1
    assert run.notes[0].startswith("2 rows of the table were not understood, first: | llama 7B Q4_0 |")


def test_a_column_that_somebody_added_is_a_value_and_tells_no_rows_apart():
    head, rule = HEAD + " cost | W |", RULE + " --- | --- |"
    run = only("\n".join([head, rule, row("pp512", "1.00") + " 0.3 | 200 |", row("tg128", "2.00") + " 0.4 | 210 |"]))
    assert [row.settings for row in run.rows] == [{"n_gpu_layers": "99"}] * 2
    assert run.notes == ("columns that are not a known setting and were left out: cost, W",)


def test_a_fork_s_settings_are_settings():
    head = "| model | threads | mla | fmoe | rtr | test | t/s |"
    (read_row,) = only(f"{head}\n| deepseek2 16B | 8 | 2 | 1 | 1 | pp512 | 5.00 ± 0.10 |").rows
    assert read_row.settings == {"n_threads": "8", "mla": "2", "fmoe": "1", "rtr": "1"}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (row("pp512", "1.00"), "It has rows of llama-bench without the head of their table"),
        ("| PP | TG | B | N_KV | T_PP s |\n|---|---|---|---|---|\n| 1 | 2 | 3 | 4 | 0.5 |", "llama-batched-bench"),
        ("| PP | TG | N_KV | T_PP s |\n|---|---|---|---|\n| 1 | 2 | 4 | 0.5 |", "llama-sweep-bench"),
        ("| Metric | A | B |\n|---|---|---|\n| TTFT (ms) | 1 | 2 |", "It has a table of figures"),
        (json.dumps({"mean_ttft_ms": 5.5, "by": "my own tool"}), 'first: {"mean_ttft_ms": 5.5'),
        ("mean TTFT: 12 and so on", "1 line with figures was not understood, first: mean TTFT: 12"),
        ("Nothing of that kind, since 2024.", ""),
    ],
)
def test_what_looks_like_a_result_and_is_none_is_named(text: str, said: str):
    assert read(text, "f") is None
    assert said in unread_results(text)
    assert bool(unread_results(text)) == bool(said)


def test_prose_with_numbers_is_no_result():
    prose = "We saw 12.3 tok/s [1] at 09:12:33, {see below}, and TTFT: 40 ms.\nSuccessful requests: 900\n| a | 1 |\n"
    assert read(prose * 20, "f") is None


# --- not measured ---------------------------------------------------------------------------------


def changed(**values: str) -> Iterator[str]:
    for line in LINES:
        label = line.partition(":")[0]
        yield f"{label}: {values[label]}" if label in values else line


@pytest.mark.parametrize(
    ("written", "unknown"),
    [
        ({"Mean TTFT (ms)": "0.00", "P99 TTFT (ms)": "0.00"}, ["mean_ttft_ms", "p99_ttft_ms"]),
        ({"Mean TTFT (ms)": "0.00", "P99 TTFT (ms)": "nan"}, ["mean_ttft_ms", "p99_ttft_ms"]),
        ({"Successful requests": "0", "Failed requests": "10"}, ["mean_ttft_ms", "output_throughput"]),
        ({"Total generated tokens": "0"}, ["total_output_tokens"]),
        ({"Mean TTFT (ms)": "-1"}, ["mean_ttft_ms"]),
    ],
)
def test_zeros_of_nothing_are_unknown(written: dict[str, str], unknown: list[str]):
    run = only("\n".join(changed(**written)))
    assert [run.values[key] for key in unknown] == [None] * len(unknown)


def test_a_true_zero_stays():
    """Half of the gaps of a server that sends bursts are 0."""
    run = only(BLOCK.replace("=\nSucc", "=\nMean ITL (ms): 4.20\nMedian ITL (ms): 0.00\nSucc"))
    assert (run.values["median_itl_ms"], run.values["failed"]) == (0, 0)


def test_fewer_successful_requests_than_asked_are_named():
    assert only(f"bench_serving --num-prompts 3000\n{BLOCK}").notes == ("900 of 3000 requests succeeded",)
    assert only(f"bench_serving --num-prompts 900\n{BLOCK}").notes == ()
    assert only(BLOCK.replace("Failed requests:                         0", "Failed requests: 100")).notes == (
        "900 of 1000 requests succeeded",
    )
