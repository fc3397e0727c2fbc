"""The real program under faults, and a table of how often each was tried and what was lost: `make faults` prints it."""

import os
from collections.abc import Callable

import pytest

Tell = Callable[..., None]


@pytest.fixture
def tell(record_property: Callable[[str, object], None]) -> Tell:
    """Says for the table: which fault, how often it was tried, what was lost of what should have been kept."""

    def told(fault: str, *, tried: int, lost: int, seen: str) -> None:
        record_property("fault", (fault, tried, lost, seen))

    return told


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if os.environ.get("INFEROMETER_FAULT_TABLE") != "1":
        return
    rows: dict[str, list[tuple[int, int, str]]] = {}
    for report in terminalreporter.stats.get("passed", []) + terminalreporter.stats.get("failed", []):
        for name, value in report.user_properties:
            if name == "fault":
                fault, *row = value
                rows.setdefault(fault, []).append((row[0], row[1], row[2]))
    terminalreporter.write_line("\n| fault | tried | lost | what was seen |\n|---|---|---|---|")
    for fault, seen in rows.items():
        texts = "; ".join(dict.fromkeys(text for _, _, text in seen))
        tried, lost = sum(row[0] for row in seen), sum(row[1] for row in seen)
        terminalreporter.write_line(f"| {fault} | {tried} | {lost} | {texts} |")
