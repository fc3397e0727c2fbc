"""The result in a screen: its lines, its width, and what it says of every kind of study."""

import os
from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest

from inferometer.analysis.compare import compare
from inferometer.analysis.comparison import Comparison
from inferometer.analysis.set_ups import ArmSetUp, StudyExtent
from inferometer.base.text import cells_wide
from inferometer.core.record import Finding
from inferometer.metrics.summary import TrialSummary
from inferometer.report.drawings import ranking_bars, ranking_legend
from inferometer.report.short_cells import span_cell
from inferometer.report.short_result import short_result
from inferometer.report.terminal import render
from inferometer.results.study_comparison import comparison_of as kept_comparison

ROOT = Path(__file__).parents[2]
GOLDEN = ROOT / "tests" / "golden"
SPEEDS = {"plain": 1.0, "fa on": 0.98, "kv q8_0": 0.81, "ngram": 0.99, "t 8": 1.2, "t 4": 1.1, "t 2": 0.7, "t 1": 0.4}
DIFFERS = {
    "plain": ("-fa off",),
    "fa on": ("-fa on",),
    "kv q8_0": ("-ctk q8_0", "-ctv q8_0"),
    "ngram": ("ngram-simple",),
}
STEADY = (0.0, 0.004, -0.003)
NOISE_OF_OTHERS = [(0.01, -0.012, 0.004), (0.06, -0.07, 0.01), (0.01, -0.02, 0.02), (0.003, 0.001, -0.009)]


def summaries(arms: Sequence[str], speeds: dict[str, float] = SPEEDS, rounds: int = 3) -> list[TrialSummary]:
    """Trials of each arm: the speed of SPEEDS, and less memory for the slow ones."""
    found: list[TrialSummary] = []
    for place, arm in enumerate(arms):
        for number in range(rounds):
            noise = (NOISE_OF_OTHERS[(place - 1) % 4] if place else STEADY)[number]
            speed = speeds.get(arm, 1 - 0.1 * place) * (1 + noise)
            values = {
                "output_throughput": 37.9 * speed,
                "median_ttft_ms": 2007 / speed,
                "mean_tpot_ms": 7.6 / speed,
                "p99_itl_per_token_ms": 12.25 / speed,
                "memory_gib": 0.365 * (0.7 if speed < 0.9 else 1),
                "completed": 5,
                "failed": 0,
            }
            found.append(TrialSummary(arm, number + 1, values))
    return found


def comparison_of(
    arms: Sequence[str], findings: Sequence[Finding] = (), *, speeds: dict[str, float] = SPEEDS, rounds: int = 3
) -> Comparison:
    found = compare(summaries(arms, speeds, rounds), findings)
    set_ups = tuple(
        ArmSetUp(arm, "llama-server", "b11434", "SmolLM2-135M-Q4_1", "", DIFFERS.get(arm, (f"-x {place}",)),
                 None if place == 0 else (5 - place % 2, 5))
        for place, arm in enumerate(arms)
    )  # fmt: skip
    return msgspec.structs.replace(found, set_ups=set_ups, extent=StudyExtent(5, rounds, 172.0))


def checked(name: str, lines: Sequence[str], most: int) -> None:
    """Compares with the golden file, and checks the size that the result promises."""
    text = "\n".join(lines) + "\n"
    path = GOLDEN / f"{name}.txt"
    if os.environ.get("INFEROMETER_GOLDEN") == "write":
        path.write_text(text)
    assert text == path.read_text()
    assert len(lines) <= most
    assert max(map(cells_wide, lines)) <= 100


WARNINGS = (
    Finding("warning", "other-output", "3 of 5 answers differ from plain's.", arm="kv q8_0"),
    Finding("warning", "busy", "the machine was busy.", arm="plain", trial=1),
    Finding("warning", "busy", "the machine was busy.", arm="kv q8_0", trial=2),
)


@pytest.mark.parametrize("count", [2, 3, 4])
def test_two_to_four_set_ups_stand_in_columns_of_25_lines(count: int):
    arms = ["plain", "kv q8_0", "fa on", "ngram"][:count]
    checked(f"short-{count}", short_result(comparison_of(arms, WARNINGS), report="r2/report.html"), 25)


def test_eight_set_ups_are_ranked_in_30_lines():
    checked("short-8", short_result(comparison_of(list(SPEEDS), WARNINGS), report="r2/report.html"), 30)


@pytest.mark.parametrize(
    ("speeds", "first", "more"),
    [
        ((1, 1.01, 0.99, 0.7, 0.6), "No set-up is shown to be better than a, the baseline,", "Highest mean: b: "),
        ((1, 0.9, 0.8, 0.7, 0.6), "No set-up is shown to be better than a, the baseline,", ""),
        ((1, 1.01, 1.2, 0.7, 1.3), "Best: e is 30% FASTER than a", ""),
    ],
)
def test_the_best_of_a_ranking_is_shown_to_be_better(speeds: tuple[float, ...], first: str, more: str):
    lines = short_result(comparison_of("abcde", speeds=dict(zip("abcde", speeds, strict=True))))
    text = " ".join(" ".join(lines).split())
    assert first in text
    assert more in text
    assert ("Highest mean" in text) == bool(more)


def test_a_set_up_that_is_not_valid_has_no_interval_in_the_ranking():
    found = comparison_of(["plain", "kv q8_0"], [Finding("invalid", "no-draft", "it drafted nothing.", arm="kv q8_0")])
    assert found.primary_row is not None
    rows = {cells[0]: cells[2:] for cells in ranking_bars(found.primary_row, found, 620).rows}
    assert rows["kv q8_0"] == ("not valid", "")


@pytest.mark.parametrize(
    ("is_open_loop", "code", "shown"), [(True, "busy", True), (True, "saturated", False), (False, "busy", False)]
)
def test_an_open_loop_is_to_be_judged_by_latency(is_open_loop: bool, code: str, shown: bool):
    found = comparison_of(["plain", "kv q8_0"], [Finding("warning", code, "it happened.", arm="plain")])
    found = msgspec.structs.replace(found, extent=StudyExtent(5, 3, is_open_loop=is_open_loop))
    assert ("the arrival rate limits the throughput" in " ".join(short_result(found))) == shown


def test_a_real_study_fits_the_screen_and_names_the_difference():
    found = kept_comparison([ROOT / "studies" / "h200-qwen2.5-coder-32b-standin" / "study.zip"], "inferometer")
    lines = short_result(found, report="report.html")
    assert len(lines) <= 25 and max(map(cells_wide, lines)) <= 100
    text = "\n".join(lines)
    assert "draft is 29% FASTER than baseline" in text
    assert "n_max 16" in text and "Same answers" in text


def test_an_end_of_an_interval_that_is_not_zero_is_not_written_as_zero():
    found = comparison_of(["plain", "kv q8_0"])
    row = found.primary_row
    assert row is not None
    near = msgspec.structs.replace(row.differences[0], low_percent=-60.0, high_percent=-0.03)
    assert span_cell(msgspec.structs.replace(row, differences=(near,)), "plain", "kv q8_0") == "−19% [−60, −0.03] ✗"


LONG = "llama-server -m /models/Qwen2.5-Coder-32B-Instruct-Q4_K_M.gguf -ngl 99 --flash-attn on --threads "
MANY = [Finding("warning", f"kind-{i}", f"warning {i} " + "is long " * 20 + "to its end.", arm="b") for i in range(6)]
CASES = {
    "commas": comparison_of(["baseline, FA off", "draft, tuned", "plain"]),
    "wide": comparison_of(["基準となる設定", "草稿模型を使う設定", "한국어 이름"]),
    "long": comparison_of([f"{LONG}{i}" for i in range(4)], MANY),
    "long-ranking": comparison_of([f"{LONG}{i}" for i in range(8)], MANY),
    "one-trial": comparison_of(["plain", "kv q8_0", "ngram"], rounds=1),
    "one-arm": comparison_of(["plain"]),
    "invalid": comparison_of(
        ["plain", "kv q8_0"], [Finding("invalid", "no-draft", "it drafted nothing.", arm="kv q8_0")]
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_names_and_results_of_every_kind_stay_within_the_screen(name: str):
    checked(f"short-{name}", short_result(CASES[name], report="r2/report.html"), 30 if "ranking" in name else 25)


def test_trials_that_failed_for_two_reasons_are_two_cautions():
    stopped = Finding("warning", "trial-failed", "the trial was interrupted and is excluded.", arm="A", trial=2)
    died = Finding("warning", "trial-failed", "the trial did not complete (failed: no such flag).", arm="B", trial=1)
    text = "\n".join(short_result(comparison_of(["A", "B"], [stopped, died])))
    assert "A: the trial was interrupted" in text
    assert "B: the trial did not complete (failed: no such flag)" in text


def test_a_finding_about_one_set_up_leaves_the_verdicts_of_the_others():
    finding = Finding("invalid", "no-draft", "it drafted nothing.", arm="ngram")
    found = comparison_of(["plain", "kv q8_0", "ngram"], [finding])
    short, whole = "\n".join(short_result(found)), render(found)
    assert "NOT VALID: ngram: it drafted nothing." in short and "kv q8_0 is 19% SLOWER" in short
    assert "No verdict is given on ngram." in whole and "No verdict is given." not in whole
    both = comparison_of(["plain", "ngram"], [finding])
    assert "No verdict is given." in render(both)


def test_the_ranking_of_the_report_draws_the_intervals_of_the_verdicts():
    found = comparison_of(["plain", "kv q8_0", "fa on"])
    row = found.primary_row
    assert row is not None
    decided = row.against("plain", "kv q8_0")
    assert f"({decided.confidence_percent:.3g}% CI " in "\n".join(short_result(found))
    cells = {cells[0]: cells[-1] for cells in ranking_bars(row, found, 620).rows}
    assert cells["kv q8_0"] == f"{decided.confidence_percent:.3g}% interval of the difference from plain"
    assert cells["plain"] == ""
    assert f"{decided.confidence_percent:.3g}% as in the verdict" in ranking_legend(row, found).replace("95 or ", "")
