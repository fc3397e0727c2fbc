"""The table and its three forms, against the seed's own tables and golden files."""

import json
import os
import re
from pathlib import Path

import pytest

from inferometer.compare import Comparison, compare
from inferometer.metrics import METRICS, TrialSummary
from inferometer.record import Finding
from inferometer.reports import json_file, markdown, terminal
from inferometer.reports.markdown import pipe_table
from inferometer.reports.table import table

GOLDEN = Path(__file__).parent.parent / "golden"
SEED_TABLES = re.findall(r"^\| Metric .*?(?=^$)", (GOLDEN / "seed.md").read_text(), re.MULTILINE | re.DOTALL)

# Cells in which the seed's hand-made tables differ from two decimals, or from their own numbers.
MENDED = {
    "346.8  |": "346.80 |",
    "  419.7 |": " 419.70 |",
    "28.7  |": "28.70 |",
    "    50    |": "       50 |",
    "  5926    |": "     5926 |",
    " 23110    |": "    23110 |",
    " 23204    |": "    23204 |",
    "22.03 |            9.5 |": "22.03 |            9.1 |",
}


def mended(seed_table: str) -> str:
    text = seed_table.rstrip("\n")
    for as_written, as_meant in MENDED.items():
        text = text.replace(as_written, as_meant)
    return text


def comparison_of(seed_table: str) -> Comparison:
    """From the numbers of a table of the seed."""
    head, _, *lines = ([cell.strip() for cell in line.strip("|").split("|")] for line in seed_table.splitlines())
    keys = {metric.label: metric.key for metric in METRICS}
    columns: list[dict[str, float | None]] = [{keys[line[0]]: float(line[i]) for line in lines} for i in (1, 2)]
    return compare([TrialSummary(arm, 1, values) for arm, values in zip(head[1:3], columns, strict=True)])


@pytest.mark.parametrize("seed_table", SEED_TABLES)
def test_each_table_of_the_seed_comes_out_byte_for_byte(seed_table):
    assert markdown.render(comparison_of(seed_table)).split("\n\n")[0] == mended(seed_table)


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
    assert not set(text) - set(map(chr, range(32, 127))) - set("\n×±α")
    assert max(map(len, text.splitlines())) < 100


def test_more_than_three_arms_stand_in_several_tables_each_with_the_first():
    five = compare([summary(arm, n, 1 + n / 100) for n in (1, 2) for arm in ("base", "b", "c", "d", "e")])
    heads = [line.split() for line in terminal.render(five).splitlines() if line.startswith("Metric")]
    assert [head[1:4] for head in heads] == [["base", "b", "c"], ["base", "d", "e"]]
    text = terminal.render(five)
    assert text.count("e vs base") == 1
    assert max(map(len, text.splitlines())) < 100


def test_json_of_three_arms():
    check_golden("comparison.json", json_file.render(COMPARISON))


def test_a_terminal_gets_colours():
    assert "\x1b[" in terminal.render(COMPARISON, terminal=True)


@pytest.mark.parametrize("render", [markdown.render, terminal.render, json_file.render])
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
        "Trials: baseline 2, draft n-max 8 2, draft n-max 24 2. 95% intervals cover other trials."
    )


def test_rows_that_no_arm_has_are_left_out_and_a_missing_cell_is_na():
    cells = {row[0]: row[1:] for row in table(COMPARISON).rows}
    assert "Mean TPOT (ms)" not in cells
    assert cells["Drafted tokens"] == ("n/a", "30000", "n/a", "n/a", "n/a")
    assert cells["Failed requests"] == ("0", "0", "1", "n/a", "n/a")
    assert cells["Mean TTFT (ms)"][3:] == ("0.0", "0.0")
    assert cells["Request throughput (req/s)"][3] == "59.7 faster\n[56.0, 63.5]"
    assert cells["Total generated tokens"][0] == "23111.50"  # a mean of two trials


def test_names_of_arms_are_never_taken_for_markup():
    odd = compare([summary("[red]a|b[/red]", 1, 1), summary("[b]", 1, 2)])
    assert "[red]a|b[/red]" in terminal.render(odd)
    assert "[red]a\\|b[/red]" in markdown.render(odd)


def test_json_keeps_unrounded_values_and_null():
    found = json.loads(json_file.render(compare([summary("a", 1, 1), summary("draft n-max 24", 1, 1.5)])))
    rows = {row["metric"]: row for row in found["rows"]}
    assert found["arms"] == ["a", "draft n-max 24"]
    assert rows["duration"]["label"] == "Benchmark duration (s)"
    assert rows["duration"]["values"] == {"a": 1085.391, "draft n-max 24": 1085.391 / 1.5}
    assert rows["duration"]["difference_percent"] == pytest.approx(-33.3333, abs=1e-3)
    assert rows["duration"]["n"] == {"a": 1, "draft n-max 24": 1}
    assert rows["median_itl_ms"]["values"]["draft n-max 24"] is None
    assert rows["median_itl_ms"]["difference_percent"] is None
    assert json.loads(json_file.render(COMPARISON))["rows"][2]["difference_percent"] is None  # three arms


def test_a_table_without_rows_is_its_head():
    assert pipe_table([["Metric", "a"]]) == "| Metric   |   a |\n|:---------|----:|"
