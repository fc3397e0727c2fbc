"""A table of the faults: how often each was tried, and what was lost of what should have been kept. `make faults`
prints it, from what the tests themselves say (`tell`), and for tests elsewhere from how many of them passed."""

import os
import re
from collections.abc import Callable

import pytest

Tell = Callable[..., None]
ELSEWHERE = {
    r"test_store_faults\.py::.*format": ("a store of another version", "read, migrated or refused"),
    r"test_store_faults\.py::": ("a store altered, cut off or left half written", "read but for what is named"),
    r"test_http_cases\.py::test_a_(whole|failed)_answer": ("answers in pieces, cut or reset", "each with its outcome"),
    r"test_patience\.py::test_the_limit": ("answers that stall or trickle", "each with its outcome, by its limit"),
    r"test_crew\.py::.*(killed|dies|no_worker)|test_cli_workers\.py::.*killed": (
        "a worker process lost",
        "its shard is `lost`, the rest stands",
    ),
    r"test_machines\.py::.*lost": ("a Ray node lost", "its shard is `lost`, the rest stands"),
    r"test_watchdog\.py::test_nothing": (
        "the program killed, its engine's children in sessions of their own",
        "none left",
    ),
    r"test_told\.py::.*(suspended|slept)": ("a suspended machine (its clocks' difference)", "a finding"),
    r"test_arrivals\.py::.*after_a_step": ("a clock that steps", "stamps of our own clock"),
}
"""Of tests elsewhere, by what their names match: the fault, and what is seen where one passes."""


@pytest.fixture
def tell(record_property: Callable[[str, object], None]) -> Tell:
    """Says for the table: which fault, how often it was tried, what was lost."""

    def told(fault: str, *, tried: int, lost: int, seen: str) -> None:
        record_property("fault", (fault, tried, lost, seen))

    return told


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if os.environ.get("INFEROMETER_FAULT_TABLE") != "1":
        return
    rows: dict[str, list[tuple[int, int, str]]] = {}
    for state in ("passed", "failed"):
        for report in terminalreporter.stats.get(state, []):
            told = dict(report.user_properties).get("fault")
            place = next((pattern for pattern in ELSEWHERE if re.search(pattern, report.nodeid)), None)
            if told is None and place is not None:
                fault, seen = ELSEWHERE[place]
                told = (fault, 1, int(state == "failed"), seen)
            if told is not None:
                rows.setdefault(told[0], []).append((told[1], told[2], told[3]))
    terminalreporter.write_line("\n| fault | tried | lost | what was seen |\n|---|---|---|---|")
    for fault, seen in rows.items():
        texts = "; ".join(dict.fromkeys(text for _, _, text in seen))
        tried, lost = sum(row[0] for row in seen), sum(row[1] for row in seen)
        terminalreporter.write_line(f"| {fault} | {tried} | {lost} | {texts} |")
