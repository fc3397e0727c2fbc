"""Objects, numbers and statistics from other tools' JSON. Every value is checked, because any file may be read."""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, cast

import numpy as np

from inferometer.base.errors import RequestWrong
from inferometer.metrics.rows import percentile_word

JsonValue = dict[str, Any]  # values of any type: each is checked where it is used

_LONGEST_NS = 9e18  # limit of the columns of events; wall-clock times until 2200 are below it
_MOST_TOKENS = 10_000_000  # no context is longer; a list is made of the tokens of an answer


def objects(text: str) -> list[JsonValue] | None:
    """The objects of a text that is one object, an array of objects, or one object per line; None for any other
    text."""
    text = text.removeprefix("\ufeff").strip()
    whole = _object(text)
    if text.startswith("["):
        entries = _decoded(text)
        found = objects_in(entries)
        return found if found and len(found) == len(items(entries)) else None
    if whole is not None:
        return [whole]
    found = [_object(line) for line in text.splitlines() if line.strip()]
    return [one for one in found if one is not None] if found and None not in found else None


def field(source: Any, *path: str) -> Any:
    """The value at a path of names; None if there is none."""
    found = source
    for name in path:
        found = cast("JsonValue", found).get(name) if isinstance(found, dict) else None
    return found


def number(value: Any) -> float | None:
    """A finite number; None for anything else, including true and false."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value) if math.isfinite(value) else None
    except OverflowError:
        return None


def count(value: Any) -> int | None:
    """A count of tokens or requests; None for anything else."""
    found = number(value)
    return int(found) if found is not None and 0 <= found < _MOST_TOKENS else None


def ns_of(value: Any, unit_ns: int) -> int | None:
    """A time, given in units of `unit_ns`; None for anything else, and for times that are too long."""
    found = number(value)
    return round(value * unit_ns) if found is not None and 0 <= found * unit_ns <= _LONGEST_NS else None


def text_of(value: Any) -> str:
    return value if isinstance(value, str) else ""


def items(value: Any) -> list[Any]:
    """A list, or nothing."""
    return cast("list[Any]", value) if isinstance(value, list) else []


def objects_in(value: Any) -> list[JsonValue]:
    """The objects of a list."""
    return [cast("JsonValue", one) for one in items(value) if isinstance(one, dict)]


def settings(**found: Any) -> dict[str, str]:
    """The known settings, as text."""
    return {name: _word(value) for name, value in found.items() if isinstance(value, str | int | float) and value != ""}


def statistics(key: str, values: Sequence[float], percentiles: Iterable[float] = (99,)) -> dict[str, float | None]:
    """Mean, median and percentiles under our keys, of values in ms; empty without values."""
    if not values:
        return {}
    found: dict[str, float | None] = {
        f"mean_{key}_ms": float(np.mean(values)),
        f"median_{key}_ms": float(np.median(values)),
    }
    return found | {f"p{percentile_word(q)}_{key}_ms": float(np.percentile(values, q)) for q in percentiles}


def differences_by_key(values: Mapping[str, float | None], by_family: Mapping[str, str]) -> dict[str, str]:
    """Differences by key from differences by family, which hold for all statistics of a latency: `ttft` for
    p99_ttft_ms."""
    return {key: by_family[found] for key in values if (found := family(key)) in by_family}


def family(key: str) -> str:
    """The measure of a key: `ttft` for p99_ttft_ms, `duration` for duration."""
    statistic, _, rest = key.partition("_")
    is_statistic = statistic in ("mean", "median", "std") or (statistic[:1] == "p" and statistic[1:2].isdigit())
    return rest.removesuffix("_ms") if is_statistic and key.endswith("_ms") else key


def unreadable(tool: str, name: str, what: str) -> RequestWrong:
    """Error for a tool's file that lacks what every known version writes."""
    return RequestWrong(
        f"{name} looks like {tool}'s results but {what}. "
        "docs/reference/foreign-formats.md lists the supported versions."
    )


def _object(text: str) -> JsonValue | None:
    found = _decoded(text) if text.startswith("{") else None
    return cast("JsonValue", found) if isinstance(found, dict) else None


def _decoded(text: str) -> Any:
    try:
        return json.loads(text)  # not msgspec: Python's writers write NaN and Infinity
    except (ValueError, RecursionError):
        return None


def _word(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
