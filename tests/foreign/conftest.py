"""What do the tests of the readers share? The recorded files, and our metrics of a run's records."""

from collections.abc import Callable
from pathlib import Path

import pytest

from inferometer.core.record import Trial
from inferometer.foreign import readers
from inferometer.foreign.foreign_run import ForeignRun
from inferometer.metrics.summary import summarize

RECORDED = Path(__file__).parent / "recorded"


@pytest.fixture
def runs() -> Callable[[str], list[ForeignRun]]:
    """The runs in a recorded file."""

    def read(name: str) -> list[ForeignRun]:
        found = readers.read((RECORDED / name).read_text(), name)
        assert found is not None
        return list(found)

    return read


@pytest.fixture
def by_us() -> Callable[[ForeignRun], dict[str, float | None]]:
    """Our own metrics of its records, as far as the records are enough for them."""

    def computed(run: ForeignRun) -> dict[str, float | None]:
        trial = Trial("", 1, "done", plan_started_ns=0, records=run.records)
        values = summarize(trial, percentiles=(50, 90, 95, 99)).values
        return {key: value for key, value in values.items() if key in run.keys_from_records}

    return computed
