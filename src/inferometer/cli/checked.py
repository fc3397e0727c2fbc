"""Values of options, checked: each function returns the value, or raises RequestWrong that names what is allowed."""

import math
from typing import TYPE_CHECKING, cast, get_args

from inferometer.base.errors import RequestWrong
from inferometer.metrics.request_timing import MetricDialect

if TYPE_CHECKING:
    from inferometer.analysis.comparison import Prompts

FORMATS = ("terminal", "md", "json")


def checked_format(name: str) -> str:
    if name not in FORMATS:
        raise RequestWrong(f"unknown format {name!r}; known: {', '.join(FORMATS)}.")
    return name


def checked_dialect(name: str) -> MetricDialect:
    known: tuple[str, ...] = get_args(MetricDialect)
    if name not in known:
        raise RequestWrong(f"unknown metric dialect {name!r}; known: {', '.join(known)}.")
    return cast("MetricDialect", name)


def checked_prompts(name: str) -> "Prompts":
    from inferometer.analysis.comparison import Prompts

    known: tuple[str, ...] = get_args(Prompts)
    if name not in known:
        raise RequestWrong(f"unknown --prompts {name!r}; known: {', '.join(known)}.")
    return cast("Prompts", name)


def checked_equivalence(percent: float) -> float:
    if not 0 < percent < 100:
        raise RequestWrong(f"--equivalence must be between 0 and 100 percent, not {percent:g}.")
    return percent


def checked_starts_sd(text: str | None) -> float | None:
    """`--starts-sd` as a number of percent; None if it is not given."""
    if text is None:
        return None
    try:
        percent = float(text.strip().removesuffix("%"))
    except ValueError:
        percent = math.nan
    if not 0 < percent < 100:
        raise RequestWrong(f"--starts-sd must be between 0 and 100 percent, for example 1.5%, not {text!r}.")
    return percent


def checked_effect(percent: float) -> float:
    if not 0 < percent < 100:
        raise RequestWrong(f"--effect must be between 0 and 100 percent, not {percent:g}.")
    return percent
