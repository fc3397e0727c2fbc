"""The table and its three forms, against the seed's own tables and golden files."""

import json
import os
import re
from pathlib import Path

import numpy as np
import pytest

from inferometer.analysis.compare import compare
from inferometer.analysis.comparison import Comparison
from inferometer.base.text import cells_wide
from inferometer.core.record import Finding
from inferometer.metrics.rows import METRICS
from inferometer.metrics.summary import TrialSummary
from inferometer.report import json_report, markdown, terminal
from inferometer.report.markdown import pipe_table
from inferometer.report.table import DEFAULT_ROWS, RowSelection, table

GOLDEN = Path(__file__).parents[1] / "golden"
SEED_TABLES = re.findall(r"^\| Metric .*?(?=^$)", (GOLDEN / "seed.md").read_text(), re.MULTILINE | re.DOTALL)

# Cells in which the seed's hand-made tables differ from two decimals, or from their own numbers.
MENDED = {
    "346.8": "346.80",
    "419.7": "419.70",
    "28.7": "28.70",
    "9.5": "9.1",  # (22.03 - 20.20) / 20.20
}


def cells_of(pipes: str) -> list[list[str]]:
    """Of each row of a Markdown table, without the rows that name a group; the best value's mark taken off."""
    lines = [line for line in pipes.splitlines() if not re.match(r"\|[:\s-]*\||\| \*\*", line)]
    return [[cell.strip().strip("*") for cell in line.strip("|").split(" | ")] for line in lines]


def groups_of(pipes: str) -> list[str]:
    return re.findall(r"^\| \*\*(.*?)\*\*", pipes, re.MULTILINE)


def comparison_of(seed_table: str) -> Comparison:
    """From the numbers of a table of the seed."""
    head, _, *lines = ([cell.strip() for cell in line.strip("|").split("|")] for line in seed_table.splitlines())
    keys = {metric.label: metric.key for metric in METRICS}
    columns: list[dict[str, float | None]] = [{keys[line[0]]: float(line[i]) for line in lines} for i in (1, 2)]
    return compare([TrialSummary(arm, 1, values) for arm, values in zip(head[1:3], columns, strict=True)])


@pytest.mark.parametrize("seed_table", SEED_TABLES)
def test_each_table_of_the_seed_comes_out_cell_by_cell(seed_table):
    ours = markdown.render(comparison_of(seed_table), RowSelection(all=True)).split("\n\n")[0]
    seeds = [[MENDED.get(cell, cell) for cell in row] for row in cells_of(seed_table)]
    assert cells_of(ours) == seeds
    assert groups_of(ours) == [
        "Memory",
        "Requests",
        "Throughput",
        "Time to First Token",
        "Time per Output Token (excl. 1st token)",
        "Inter-token Latency",
    ]


@pytest.mark.parametrize("seed_table", SEED_TABLES)
def test_the_layout_of_the_seed_comes_out_byte_by_byte(seed_table: str):
    """But for MENDED, and for the numbers that the seed aligns at the decimal point instead of to the right."""
    expected = re.sub(r" (-?[\d.]+)( +) \|", r"\2 \1 |", seed_table)
    for cell, ours in MENDED.items():
        expected = expected.replace(f" {cell.rjust(len(ours))} |", f" {ours} |")
    assert markdown.render(comparison_of(seed_table), RowSelection(layout="seed")) == expected


def test_the_seed_has_three_tables():
    assert len(SEED_TABLES) == 3


# --- golden files ---------------------------------------------------------------------------------


def summary(arm: str, number: int, speed: float, **more) -> TrialSummary:
    values = {
        "memory_gib": 20.567 * (1 + 0.01 * speed),
        "completed": 50,
        "duration": 1085.391 / speed,
        "total_input_tokens": 5926,
        "total_output_tokens": 23110 + number,
        "request_throughput": 0.04607 * speed,
        "output_throughput": 21.292 * speed,
        "total_token_throughput": 26.752 * speed,
        "mean_ttft_ms": 343.5,
        "median_itl_ms": None if arm == "draft n-max 24" else 46.0 / speed,
        "failed": 0,
    }
    return TrialSummary(arm, number, values | more, ("Memory Usage: peak GPU memory of the engine's processes",))


DRAFTED = {"drafted_tokens": 30000, "accepted_tokens": 18000, "acceptance_rate_percent": 60.0}
COMPARISON = compare(
    [
        summary("baseline", 1, 1.0),
        summary("draft n-max 8", 1, 1.6, **DRAFTED),
        summary("draft n-max 24", 1, 1.4, failed=2, completed=48),
        summary("baseline", 2, 1.01),
        summary("draft n-max 8", 2, 1.61, **DRAFTED),
        summary("draft n-max 24", 2, 1.39),
    ],
    [Finding("warning", "throttled", "the GPU was hot.", arm="baseline")],
)


def check_golden(name: str, text: str) -> None:
    path = GOLDEN / name
    if os.environ.get("INFEROMETER_GOLDEN") == "write":
        path.write_text(text)
    assert text == path.read_text()


def test_markdown_of_three_arms():
    check_golden("comparison.md", markdown.render(COMPARISON))


def test_terminal_of_three_arms_is_plain_and_under_100_columns():
    text = terminal.render(COMPARISON)
    check_golden("comparison.txt", text)
    assert "\x1b" not in text
    assert not set(text) - set(map(chr, range(32, 127))) - set("\n×±≈α✓✗")
    assert max(map(len, text.splitlines())) < 100


def test_more_arms_than_fit_stand_in_several_tables_each_with_the_labels_and_the_first_arm():
    five = compare([summary(arm, n, 1 + n / 100) for n in (1, 2) for arm in ("base", "b", "c", "d", "e")])
    text = terminal.render(five)
    heads = [line.split() for line in text.splitlines() if line.startswith("Metric")]
    assert [head[1:4] for head in heads] == [["base", "b", "c"], ["base", "d", "e"]]
    assert text.count("Benchmark duration (s)") == 2
    assert max(map(len, text.splitlines())) < 100
    wide = terminal.render(five, width=200)
    assert wide.count("Benchmark duration (s)") == 1


def test_a_narrow_terminal_has_one_further_arm_at_a_time():
    text = terminal.render(COMPARISON, width=70)
    assert text.count("Memory Usage (GiB)") == 2
    assert max(map(len, text.splitlines())) <= 70


def test_two_arms_in_a_narrow_terminal_have_one_column_for_what_is_said_of_their_difference():
    text = terminal.render(two_arms(1.0, 1.5), width=80)
    (row,) = [line for line in text.splitlines() if line.startswith("Output token throughput")]
    assert row.split()[-3:] == ["50.0", "✓", "faster"]
    assert max(map(len, text.splitlines())) <= 80


def test_long_names_of_arms_are_broken_at_their_joints_and_stay_under_100_columns():
    long = "Qwen2.5-Coder-32B-Instruct-Q4_K_M.gguf+Qwen2.5-Coder-1.5B-Instruct-Q8_0.gguf"
    found = compare([summary(f"{long}-{arm}", n, 1 + n / 100) for n in (1, 2) for arm in "abc"])
    text = terminal.render(found)
    assert "Instruct-" in text
    assert max(map(len, text.splitlines())) < 100


def test_wide_letters_take_two_columns():
    found = compare([summary("基準", 1, 1.0), summary("草稿", 1, 2.0)])
    lines = terminal.render(found).splitlines()
    head, rows = next(line for line in lines if line.startswith("Metric")), [x for x in lines if x.startswith("Bench")]
    assert cells_wide("基準 a\u0301") == 6
    assert cells_wide(head[: head.index("草稿") + 2]) == rows[0].index("*542.70") + len("*542.70")


def test_json_of_three_arms():
    check_golden("comparison.json", json_report.render(COMPARISON))


def test_a_terminal_gets_colours():
    assert "\x1b[" in terminal.render(COMPARISON, terminal=True)


@pytest.mark.parametrize("render", [markdown.render, terminal.render, json_report.render])
def test_every_form_shows_warnings_and_notes(render):
    text = " ".join(render(COMPARISON).split())
    assert "baseline: the GPU was hot" in text
    assert "peak GPU memory of the engine's processes" in text


# --- the table ------------------------------------------------------------------------------------


def test_two_arms_have_one_difference_and_three_name_their_baseline():
    assert table(compare([summary("a", 1, 1), summary("b", 1, 2)])).columns == ("Metric", "a", "b", "% Difference")
    columns = table(COMPARISON).columns
    assert columns == ("Metric", *COMPARISON.arms, "draft n-max 8 vs baseline (%)", "draft n-max 24 vs baseline (%)")
    assert table(COMPARISON).caption == (
        "Trials: baseline 2, draft n-max 8 2, draft n-max 24 2. ±: standard deviation from run to run. "
        "95% intervals cover other rounds of these prompts."
    )


ALL = RowSelection(all=True)


def rows_of(comparison: Comparison, shown: RowSelection = DEFAULT_ROWS) -> dict[str, tuple[str, ...]]:
    return {row[0]: row[1:] for row in table(comparison, shown).rows}


def test_rows_that_no_arm_has_are_left_out_and_a_missing_cell_is_na():
    cells = rows_of(COMPARISON, ALL)
    assert "Mean TPOT (ms)" not in cells
    assert cells["Drafted tokens"] == ("n/a", "30000", "n/a", "n/a", "n/a")
    assert cells["Failed requests"] == ("0", "0", "1", "0.0", "n/a")
    assert cells["Mean TTFT (ms)"][3:] == ("0.0", "0.0")
    assert cells["Request throughput (req/s)"][3] == "59.7 ✓ faster\n[56.0, 63.5]"
    assert cells["Total generated tokens"][0] == "23111.5"  # a mean of two trials


def test_rows_that_a_reader_needs_come_first_and_the_rest_is_counted():
    content = table(COMPARISON)
    labels = [row[0] for row in content.rows]
    assert labels == [
        "Memory Usage (GiB)",
        "Successful requests",
        "Benchmark duration (s)",
        "Failed requests",
        "Output token throughput (tok/s)",
        "Median ITL (ms)",
        "Acceptance rate (%)",
    ]
    assert content.below == (
        "The same in all arms: total input tokens 5926, total generated tokens 23111.5.",
        "5 more rows: show all with --all, or choose with --metrics.",
    )
    assert len(table(COMPARISON, ALL).rows) == len(labels) + 2 + 5
    assert table(COMPARISON, ALL).below == ()


def test_the_metric_that_the_study_is_about_is_always_shown():
    rows = [summary(arm, n, 1.0 + n / 100) for arm in "ab" for n in (1, 2)]
    assert "Mean TTFT (ms)" not in rows_of(compare(rows))
    assert "Mean TTFT (ms)" in rows_of(compare(rows, primary="mean_ttft_ms"))


def test_rows_can_be_chosen_and_those_that_nobody_measured_are_said():
    content = table(COMPARISON, RowSelection(metrics=("failed", "duration", "energy_j")))
    assert [row[0] for row in content.rows] == ["Benchmark duration (s)", "Failed requests"]
    assert content.below == ("Not measured here: energy_j.",)


def test_one_arm_has_no_rows_that_are_the_same_in_all():
    assert "Total input tokens" in rows_of(compare([summary("a", 1, 1)]))


def two_arms(*speeds: float) -> Comparison:
    """Three trials each of arms of these speeds."""
    shakes = (1.0, 1.012, 0.99)
    return compare([summary(f"arm {i}", n, speed * shakes[n]) for n in range(3) for i, speed in enumerate(speeds)])


def test_digits_follow_the_deviation_from_run_to_run():
    """Speeds 1, 1.012 and 0.99: a standard deviation of 1.102%, of 21.31 tok/s and of 1084.7 s."""
    cells = rows_of(two_arms(1.0, 1.5))
    assert cells["Output token throughput (tok/s)"][:2] == ("21.31 ±0.23", "31.96 ±0.35")
    assert cells["Benchmark duration (s)"][:2] == ("1085 ±12", "723 ±8")


def test_a_spread_over_prompts_is_not_shown_as_a_deviation():
    """Replicates that vary by half, and trials that vary by 1%."""
    drawn = np.exp(np.random.default_rng(1).normal(0, 0.5, 999))
    trials = [
        TrialSummary(arm, n, {"mean_ttft_ms": 100.0 + n}, replicates={"mean_ttft_ms": 100 * drawn}, requests=30)
        for n in (1, 2, 3)
        for arm in ("a", "b")
    ]
    assert rows_of(compare(trials, primary="mean_ttft_ms"))["Mean TTFT (ms)"][0] == "102.0 ±1.0"


@pytest.mark.parametrize(("arms", "place"), [("ab", 4), ("abc", 3)])
def test_a_row_that_needs_more_requests_names_their_number(arms: str, place: int):
    values: dict[str, float | None] = {"p99_ttft_ms": 100.0, "output_throughput": 5.0}
    trials = [TrialSummary(arm, n, values, counts={"p99_ttft_ms": 50}) for n in (1, 2) for arm in arms]
    assert "needs 368 requests" in rows_of(compare(trials))["P99 TTFT (ms)"][place]


def marks_of(comparison: Comparison, label: str) -> tuple[str, ...]:
    content = table(comparison)
    return next(marks for row, marks in zip(content.rows, content.marks, strict=True) if row[0] == label)


def test_better_and_worse_are_told_by_signs_and_the_best_of_a_row_is_marked():
    found = two_arms(1.0, 1.5)
    cells = rows_of(found)
    assert cells["Output token throughput (tok/s)"][4] == "✓ faster"
    assert cells["Memory Usage (GiB)"][4] == "✗ more"
    assert marks_of(found, "Output token throughput (tok/s)") == ("", "", "best", "", "", "better")
    assert marks_of(found, "Memory Usage (GiB)") == ("", "best", "", "", "", "worse")
    assert "*31.96 ±0.35" in terminal.render(found, width=120)
    assert "*31.96 " in terminal.render(found)
    assert "**31.96 ±0.35**" in markdown.render(found)
    assert "✓ better, ✗ worse than the first arm; **bold**: best value of its row" in markdown.render(found)


def test_what_is_not_shown_to_differ_from_the_best_is_marked_like_it():
    shakes = {"slow": (1.0, 1.01, 0.99), "fast": (1.5, 1.53, 1.49), "also fast": (1.52, 1.5, 1.5)}
    found = compare([summary(arm, n, speeds[n]) for n in range(3) for arm, speeds in shakes.items()])
    assert marks_of(found, "Benchmark duration (s)")[1:4] == ("", "best", "best")


def test_nothing_is_best_where_no_difference_is_shown_or_no_verdict_is_given():
    shakes = {"one": (1.0, 1.2, 0.9), "other": (1.1, 0.9, 1.2)}
    trials = [summary(arm, n, speeds[n]) for n in range(3) for arm, speeds in shakes.items()]
    assert not any("best" in marks for marks in table(compare(trials)).marks)
    assert table(compare(trials)).legend("*") == ""
    bad = compare([summary("a", n, 1 + n / 100) for n in (1, 2)] + [summary("b", n, 2) for n in (1, 2)], [INVALID])
    assert not any("best" in marks for marks in table(bad).marks)


def test_one_trial_an_arm_has_a_best_number_and_says_that_it_may_be_chance():
    found = compare([summary("a", 1, 1), summary("b", 1, 2)])
    assert marks_of(found, "Benchmark duration (s)") == ("", "", "best", "")
    assert "differences may be chance" in " ".join(terminal.render(found).split())


def test_a_value_of_fewer_trials_than_the_arm_has_says_how_many():
    trials = [summary("a", 1, 1.0, energy_j=5.0), summary("a", 2, 1.0), summary("b", 1, 1.0, energy_j=6.0)]
    assert rows_of(compare(trials), ALL)["Energy (J)"][:2] == ("5.00 (n 1)", "6.00")


INVALID = Finding("invalid", "broken", "the draft was never used.", arm="b")


def test_text_of_others_does_nothing_in_a_terminal_and_is_no_markup():
    arm = "a\x1b]0;x\x07\u202e<b>_*`c`"
    error = Finding("warning", "w", "server said \x1b[2J <img src=x> [here](javascript:x)\nsecond", arm=arm)
    found = compare([summary("base", 1, 1), summary(arm, 1, 2)], [error])
    text, pipes = terminal.render(found), markdown.render(found)
    assert not set(text + pipes) & {"\x1b", "\x07", "\u202e"}
    assert "\\x1b[2J <img src=x>" in text
    assert "\\<img src=x\\> [here]\\(javascript:x) second" in pipes
    assert "\\<b\\>\\_\\*\\`c\\`" in pipes
    assert "\u202e" not in json_report.render(found)
    assert json.loads(json_report.render(found))["arms"][1] == arm


def test_names_of_arms_are_never_taken_for_markup():
    odd = compare([summary("[red]a|b[/red]", 1, 1), summary("[b]", 1, 2)])
    assert "[red]a|b[/red]" in terminal.render(odd)
    assert "[red]a\\|b[/red]" in markdown.render(odd)


def test_json_keeps_unrounded_values_and_null():
    found = json.loads(json_report.render(compare([summary("a", 1, 1), summary("draft n-max 24", 1, 1.5)])))
    rows = {row["metric"]: row for row in found["rows"]}
    assert found["arms"] == ["a", "draft n-max 24"]
    assert rows["duration"]["label"] == "Benchmark duration (s)"
    assert rows["duration"]["values"] == {"a": 1085.391, "draft n-max 24": 1085.391 / 1.5}
    assert rows["duration"]["difference_percent"] == pytest.approx(-33.3333, abs=1e-3)
    assert rows["duration"]["n"] == {"a": 1, "draft n-max 24": 1}
    assert rows["median_itl_ms"]["values"]["draft n-max 24"] is None
    assert rows["median_itl_ms"]["difference_percent"] is None
    assert json.loads(json_report.render(COMPARISON))["rows"][2]["difference_percent"] is None  # three arms


def test_a_table_without_rows_is_its_head():
    assert pipe_table([["Metric", "a"]]) == "| Metric   |   a |\n|:---------|----:|"
