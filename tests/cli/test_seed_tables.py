"""The seed's three comparison tables, cell by cell, from the seed's own blocks.

Where a cell of ours is another, EXPECTED names it and says why. Cells are compared as numbers with the seed's digits:
it writes 346.8 for 346.80 in one column, and 0.05 where we write 0.0461.
"""

from pathlib import Path

import pytest

from inferometer.analysis.comparison import Comparison
from inferometer.foreign.inputs import inputs_of
from inferometer.report.markdown import render
from inferometer.report.table import RowSelection
from inferometer.results.comparison import comparison_of

SEED = Path(__file__).parents[1] / "golden" / "seed.md"
W7900, W7900_DRAFT = "W7900 Q4_K_M", "W7900 Q4_K_M + 1.5B Q8 Draft"
RTX_FA, RTX_DRAFT = "RTX 3090 Q4_K_M w/ FA", "RTX 3090 Q4_K_M + 1.5B Q8 Draft"

TABLES = {
    (W7900, W7900_DRAFT): 0,
    (RTX_FA, RTX_DRAFT): 1,  # its first column says "RTX 3090 Q4_K_M", and has the figures of the block with FA
    (W7900_DRAFT, RTX_DRAFT): 2,
}
"""Which blocks, by heading, each of the seed's tables is of."""

PERCENT = "% Difference"
REQUESTS = "Request throughput (req/s)"
OUTPUT = "Output token throughput (tok/s)"
MEMORY = "Memory Usage (GiB)"
EXPECTED = {
    # (table, row, column): (the seed's, ours, why ours differs)
    (0, MEMORY, PERCENT): ("7.5", "7.6", "of 20.57 and 22.12; the notes say 20.567 and 22.123: +7.566%"),
    (0, REQUESTS, PERCENT): ("40.0", "60.0", "of 0.05 and 0.07; 50 / 1085.39 s and 50 / 678.21 s are 60.0% apart"),
    (1, MEMORY, "RTX 3090 Q4_K_M"): ("20.20", "20.12", "no block has 20.20: with FA it is 20.119, without 20.213"),
    (1, REQUESTS, PERCENT): ("50.0", "57.1", "of 0.08 and 0.12; 50 / 659.45 s and 50 / 419.70 s are 57.1% apart"),
    (1, OUTPUT, PERCENT): ("54.9", "55.0", "of 35.56 and 55.09; 23447 / 659.45 s and 23123 / 419.70 s: +54.953%"),
    (2, REQUESTS, PERCENT): ("71.4", "61.6", "of 0.07 and 0.12; 50 / 678.21 s and 50 / 419.70 s are 61.6% apart"),
}


def tables(text: str) -> list[dict[tuple[str, str], str]]:
    """The comparison tables of a text, each by row and column."""
    found: list[dict[tuple[str, str], str]] = []
    heads: list[str] = []
    for line in text.splitlines():
        cells = [cell.strip().strip("*") for cell in line.strip().strip("|").split("|")]
        if line.startswith("| Metric "):
            heads = cells
            found.append({})
        elif heads and line.startswith("| ") and any(cells[1:]):  # not the name of a group
            found[-1] |= {(cells[0], head): cell for head, cell in zip(heads[1:], cells[1:], strict=True)}
        elif not line.startswith("|"):
            heads = []
    return found


def compared(*headings: str) -> Comparison:
    found = inputs_of([f"{SEED}#{heading}" for heading in headings])
    return comparison_of([], "inferometer", found.percentiles, foreign=found.trials("inferometer"))


@pytest.mark.parametrize(("headings", "place"), TABLES.items())
def test_the_seed_s_table_comes_out_of_its_blocks(headings: tuple[str, str], place: int):
    seeds = tables(SEED.read_text())[place]
    (ours,) = tables(render(compared(*headings), RowSelection(all=True)))
    columns = dict(zip(dict.fromkeys(column for _, column in seeds), (*headings, PERCENT), strict=True))
    assert len(seeds) == 17 * 3
    assert [row for row, _ in ours] == [row for row, _ in seeds]  # the same rows, and none besides
    unlike = {
        (place, row, column): (cell, ours[row, columns[column]])
        for (row, column), cell in seeds.items()
        if float(cell) != round(float(ours[row, columns[column]]), len(cell.partition(".")[2]))
    }
    assert unlike == {key: (seed, our) for key, (seed, our, _) in EXPECTED.items() if key[0] == place}


def test_the_seed_has_three_such_tables():
    assert len(tables(SEED.read_text())) == len(TABLES) == 3


def test_one_run_a_column_has_no_interval_and_that_is_said():
    comparison = compared(W7900, W7900_DRAFT)
    row = comparison.primary_row
    assert row is not None
    (found,) = row.differences
    assert (found.verdict, found.low_percent, found.paired) == ("unknown", None, False)
    assert found.percent == pytest.approx(60.69, abs=0.005)  # 23204 / 678.21 against 23110 / 1085.39
    assert (
        "Each column: one run, its requests not told one by one, has no interval; verdicts against it are unknown"
        in comparison.notes
    )


def test_a_definition_that_all_columns_share_is_told_in_a_note_and_marks_no_row():
    comparison = compared(W7900, W7900_DRAFT)
    assert [row.label for row in comparison.rows if "[" in row.label] == []
    assert (
        "Mean TPOT (ms), Median TPOT (ms), P99 TPOT (ms): not quite as we define it: ends at [DONE], not at the last "
        "token" in comparison.notes
    )
