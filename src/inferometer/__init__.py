"""Inferometer: the same requests against several LLM server set-ups, what changed, and whether the difference is real.

The public names are imported when they are first asked for, so that importing the package costs nothing.
"""

import importlib
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from inferometer.analysis.comparison import Comparison
    from inferometer.api import compare, run
    from inferometer.base.errors import InferometerError
    from inferometer.core.endpoint import Endpoint
    from inferometer.core.plan import Plan
    from inferometer.core.record import Finding, RequestRecord, Sample, Trial
    from inferometer.core.request import Request
    from inferometer.core.spec import Arm, Draft, Spec
    from inferometer.results.read import Study, read_study
    from inferometer.study.study_file import load_spec

__all__ = [
    "Arm",
    "Comparison",
    "Draft",
    "Endpoint",
    "Finding",
    "InferometerError",
    "Plan",
    "Request",
    "RequestRecord",
    "Sample",
    "Spec",
    "Study",
    "Trial",
    "compare",
    "load_spec",
    "read_study",
    "run",
]

_HOMES = {
    "compare": "api",
    "run": "api",
    "Comparison": "analysis.comparison",
    "Endpoint": "core.endpoint",
    "InferometerError": "base.errors",
    "Plan": "core.plan",
    "Finding": "core.record",
    "RequestRecord": "core.record",
    "Sample": "core.record",
    "Trial": "core.record",
    "Request": "core.request",
    "Study": "results.read",
    "read_study": "results.read",
    "Arm": "core.spec",
    "Draft": "core.spec",
    "Spec": "core.spec",
    "load_spec": "study.study_file",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"inferometer.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


class _Package(ModuleType):
    def __setattr__(self, name: str, value: Any) -> None:
        """Python sets a submodule as an attribute of its package once it is imported: the module `compare` would then
        stand where the function of that name is promised."""
        if not (name in _HOMES and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
