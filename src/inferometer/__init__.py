"""Inferometer: the same requests against several LLM server set-ups, what changed, and whether the difference is real.

The public names are imported when they are first asked for, so that importing the package costs nothing.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from inferometer.compare import Comparison, compare
    from inferometer.errors import InferometerError
    from inferometer.record import RequestRecord, Sample, Trial
    from inferometer.results import Study, comparison_of, read_study
    from inferometer.runner import run_study
    from inferometer.spec import Spec
    from inferometer.store import load_spec

__all__ = [
    "Comparison",
    "InferometerError",
    "RequestRecord",
    "Sample",
    "Spec",
    "Study",
    "Trial",
    "compare",
    "comparison_of",
    "load_spec",
    "read_study",
    "run_study",
]

_HOMES = {
    "Comparison": "compare",
    "compare": "compare",
    "InferometerError": "errors",
    "RequestRecord": "record",
    "Sample": "record",
    "Trial": "record",
    "Study": "results",
    "comparison_of": "results",
    "read_study": "results",
    "run_study": "runner",
    "Spec": "spec",
    "load_spec": "store",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"inferometer.{_HOMES[name]}"), name)
