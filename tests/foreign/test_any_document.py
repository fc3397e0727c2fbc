"""Whatever a file holds: it is read, refused, or of no tool; nothing else happens."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferometer.base.errors import RequestWrong
from inferometer.foreign.readers import read
from inferometer.llama_bench.side_by_side import side_by_side, side_by_side_sheet

RECORDED = sorted((Path(__file__).parent / "recorded").glob("llama-bench-b11434*.[jcms]*"))
REAL = [path.read_text() for path in [*RECORDED, Path(__file__).parents[1] / "golden" / "seed.md"]]
ODD = """
Mean TTFT (ms): nan
P1e9 TTFT (ms): 1
Successful requests: 1e999
- 999999999999999999999 GiB
Backend: \x1b[2J
| m | 1 GiB | 1 B | CUDA | 1 | pp99999999999 | 1 |
build: x (99999999999999)
#######
```
=====
----
"""
LINES = sorted({line for text in [*REAL, ODD] for line in text.splitlines()})


def held(text: str) -> None:
    """Reads, and shows what was read."""
    try:
        runs = read(text, "name")
    except RequestWrong:
        return
    assert runs is None or runs
    for run in runs or ():
        json.dumps(run.values, allow_nan=False)
        assert "\x1b" not in run.name + "".join(run.settings.values())
    rows = [(run.name, run.rows) for run in runs or () if run.rows]
    if rows:
        side_by_side_sheet(side_by_side(rows))


@given(st.lists(st.sampled_from(LINES) | st.text(max_size=40), max_size=40))
def test_lines_of_real_files_in_any_order_are_held(lines: list[str]):
    held("\n".join(lines))


@given(st.sampled_from(REAL), st.integers(0, 4000), st.integers(0, 60), st.text(max_size=20))
def test_a_real_file_with_a_part_replaced_is_held(text: str, start: int, length: int, by: str):
    held(text[:start] + by + text[start + length :])


@pytest.mark.parametrize("unit", ["=", "#", " ", "|", "-", "`", "9", ": ", '--seed "', "# ", ");"])
def test_a_line_of_one_sign_takes_no_longer_than_its_length(unit: str):
    """Were it the square, these 300,000 signs would take minutes: the suite's limit is two."""
    line = unit * (300_000 // len(unit)) + "x"
    block = f"===== Serving Benchmark Result =====\nSuccessful requests: 1\n{line}\n"
    held(
        f"bench serve {line}\n{block}{'=' * 50}\n{line}\n| model | test | t/s |\n|{line}|\n{line} GiB\n# {line}\n{line}"
    )
