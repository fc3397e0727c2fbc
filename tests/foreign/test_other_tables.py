"""Tables that people post: metrics by run, several rates in a row, and llama.cpp's other benches."""

import pytest

from inferometer.foreign.foreign_run import ForeignRun
from inferometer.foreign.readers import read

COMPARED = """| | A | B | Change |
|---|---:|---:|---:|
| Output token throughput (tok/s) | **22.71** | 36.50 | +60.7% |
| P99 TTFT (ms) | 300.5 | n/a | |
"""
RATES = """| model | size | params | backend | ngl | test | master t/s | branch t/s | speedup |
|---|---|---|---|---|---|---|---|---|
| llama 7B Q4_0 | 3.56 GiB | 6.74 B | CUDA | 99 | pp512 | 100.00 ± 1.00 | 120.00 ± 2.00 | 1.20 |
| llama 7B Q4_0 | 3.56 GiB | 6.74 B | CUDA | 99 | tg128 | 10.00 ± 0.10 | 12.00 ± 0.10 | 1.20 |
"""


def _runs(text: str) -> list[ForeignRun]:
    return list(read(text, "post") or ())


def test_each_column_of_a_comparison_is_a_run_of_unknown_definitions():
    a, b = _runs(COMPARED)
    assert (a.name, a.values) == ("A", {"output_throughput": 22.71, "p99_ttft_ms": 300.5})
    assert b.values.get("p99_ttft_ms") is None
    assert "unknown" in a.differs["output_throughput"]


def test_each_column_of_rates_is_a_run_with_the_same_settings():
    master, branch = _runs(RATES)
    assert (master.name, branch.name) == ("master", "branch")
    assert [row.rate_per_s for row in branch.rows] == [120.0, 12.0]
    assert master.rows[0].settings == branch.rows[0].settings == {"n_gpu_layers": "99"}


@pytest.mark.parametrize(
    "text",
    [
        "| Metric | A |\n|---|---|\n| Mean TTFT (ms) | 1.0 |\n",  # one run compares nothing
        "| Metric | A | B |\n|---|---|---|\n| Price | 1 | 2 |\n| Mean TTFT (ms) | fast | slow |\n",
        "| model | test | t/s (main) |\n|---|---|---|\n| m | what | 1 |\n",
    ],
)
def test_a_table_without_two_runs_of_figures_is_not_read(text: str):
    assert not read(text, "post")
