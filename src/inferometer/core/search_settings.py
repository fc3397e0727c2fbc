"""Settings of a search (`search:` of a study file): parameters, objective, constraints and budget."""

import itertools
import math
import re
from typing import Literal

import msgspec

from inferometer.core.arm_sets import ARGUMENT_LISTS

_Int = int
_Float = float
Value = str | int | float | bool | None

LEVELS = 10
"""Values of a number's range in a full grid: neighbours of draft lengths or thresholds rarely differ by 2%."""


class Parameter(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One setting that is varied: a range of whole numbers, a range of numbers, or a list of values. A list of one
    value is set in every candidate, and not in the baseline. `scale`: equal steps of the range are equal differences
    (`linear`) or equal ratios (`log`)."""

    int: tuple[_Int, _Int] | None = None
    float: tuple[_Float, _Float] | None = None
    choice: tuple[Value, ...] | None = None
    scale: Literal["linear", "log"] = "linear"

    def problems(self) -> list[str]:
        given = [one for one in (self.int, self.float, self.choice) if one is not None]
        if len(given) != 1:
            return [f"must have one of int, float and choice, and has {len(given) or 'none'}"]
        if self.choice is not None:
            if len(set(map(str, self.choice))) < len(self.choice):
                return ["choice: has a value twice"]
            return [] if self.choice else ["choice: is empty: give values"]
        low, high = self.bounds
        if not low < high:
            return [f"its range from {low:g} to {high:g} is empty: give the lower end first"]
        if self.scale == "log" and low <= 0:
            return [f"scale: log needs a range above 0, and this one begins at {low:g}"]
        return []

    @property
    def is_fixed(self) -> bool:
        """Whether all candidates have the same value."""
        return self.choice is not None and len(self.choice) == 1

    @property
    def bounds(self) -> tuple[_Float, _Float]:
        """Both ends of a range. Raises ValueError for a choice."""
        found = self.int or self.float
        if found is None:
            raise ValueError("a choice has no range")
        return float(found[0]), float(found[1])

    def levels(self) -> tuple[Value, ...]:
        """The values of a full grid: all values of a choice, at most LEVELS of a range, both ends among them."""
        if self.choice is not None:
            return self.choice
        low, high = self.bounds
        is_log = self.scale == "log"
        ends = (math.log(low), math.log(high)) if is_log else (low, high)
        steps = LEVELS if self.int is None else min(LEVELS, round(high - low) + 1)
        places = [ends[0] + (ends[1] - ends[0]) * place / (steps - 1) for place in range(steps)]
        return tuple(dict.fromkeys(self.rounded(math.exp(place) if is_log else place) for place in places))

    def rounded(self, number: _Float) -> Value:
        """A whole number for `int`; else three digits, which a command line can show."""
        low, high = self.bounds
        number = min(max(number, low), high)
        return round(number) if self.int is not None else float(f"{number:.3g}")


_RANGE = re.compile(r"(-?[\d.]+)\.\.(-?[\d.]+)")
_LOG_FROM = 8
"""A range of positive whole numbers whose ends differ by this factor gets a log scale on the command line."""


def parameter_of(text: str) -> tuple[str, Parameter]:
    """Path and parameter from `PATH=1..32` (a range) or `PATH=a,b` (a choice). Raises ValueError with the reason."""
    path, equals, values = text.partition("=")
    if not equals or not path.strip() or not values.strip():
        raise ValueError(f"{text!r}: write PATH=LOW..HIGH or PATH=VALUE,VALUE, for example draft.n_max=1..32")
    found = _RANGE.fullmatch(values.strip())
    if found is None:
        made = Parameter(choice=tuple(_number_or_text(value.strip()) for value in values.split(",")))
    elif "." in found[1] + found[2]:
        made = Parameter(float=(float(found[1]), float(found[2])))
    else:
        low, high = int(found[1]), int(found[2])
        made = Parameter(int=(low, high), scale="log" if low > 0 and high >= _LOG_FROM * low else "linear")
    if problems := made.problems():
        raise ValueError(f"{text!r}: {problems[0]}")
    return path.strip(), made


def _number_or_text(value: str) -> Value:
    try:
        return int(value)
    except ValueError:
        pass
    try:
        return float(value)
    except ValueError:
        return value


class Budget(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The most that a search may use: `minutes`, or `rounds` in which each arm under comparison plays one trial."""

    minutes: float | None = None
    rounds: int | None = None

    def problems(self) -> list[str]:
        if (self.minutes is None) == (self.rounds is None):
            return ["must have either minutes or rounds"]
        wrong = (self.minutes is not None and not self.minutes > 0) or (self.rounds is not None and self.rounds < 1)
        return ["must be more than 0"] if wrong else []


_LIMIT = re.compile(r"(?P<metric>\w+)\s*(?P<sign><=|>=|<|>)\s*(?P<number>[\d.]+)\s*(?P<unit>\S*)")
_NOT_WORSE = re.compile(r"(?P<metric>\w+)\s+not worse than (the )?baseline")


class Constraint(msgspec.Struct, frozen=True):
    """A condition that a setting must meet: a metric below or above `limit`; with None, not shown worse than the
    baseline's."""

    text: str
    metric: str
    sign: str = ""
    limit: float | None = None
    unit: str = ""

    def holds(self, value: float | None) -> bool | None:
        """Whether the value is within the limit; None where the value is unknown, or the limit is the baseline."""
        if value is None or self.limit is None:
            return None
        return value <= self.limit if self.sign.startswith("<") else value >= self.limit


def constraint(text: str) -> Constraint:
    """A constraint from text. Raises ValueError with the reason."""
    if found := _NOT_WORSE.fullmatch(text.strip()):
        return Constraint(text, found["metric"])
    found = _LIMIT.fullmatch(text.strip())
    if found is None:
        raise ValueError(
            f"{text!r} is not a constraint: write METRIC < NUMBER, METRIC > NUMBER, or METRIC not worse than baseline"
        )
    return Constraint(text, found["metric"], found["sign"], float(found["number"]), found["unit"])


class Search(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What `inferometer tune` varies and for what. `parameters`: by their path in the arm. `objective`: the metric to
    improve, in the direction that is better; `minimise`, `maximise`: a metric and its direction. `constraints`: see
    `constraint`. `at_once`: the most settings under comparison in one round, besides the baseline. `confirm_rounds`:
    fresh rounds that confirm the winner."""

    parameters: dict[str, Parameter]
    objective: str = ""
    minimise: str = ""
    maximise: str = ""
    constraints: tuple[str, ...] = ()
    budget: Budget = Budget(minutes=30)
    at_once: int = 6
    confirm_rounds: int = 5

    def problems(self) -> list[str]:
        found = [] if self.parameters else ["parameters: is empty: name at least one setting to vary"]
        if self.parameters and not self.varied:
            found.append("parameters: none of them varies; at least one needs two or more values")
        found += self._path_problems()
        if sum(map(bool, (self.objective, self.minimise, self.maximise))) > 1:
            found.append("objective: give one of objective, minimise and maximise")
        for text in self.constraints:
            try:
                constraint(text)
            except ValueError as error:
                found.append(f"constraints: {error}")
        found += [] if self.at_once >= 2 else [f"at_once: must be at least 2, not {self.at_once}"]
        return found + (
            [] if self.confirm_rounds >= 3 else [f"confirm_rounds: must be at least 3, not {self.confirm_rounds}"]
        )

    def _path_problems(self) -> list[str]:
        flags = [path.partition(".") for path in self.parameters]
        return [
            f"parameters.{first}.{rest}: is not a flag; write it as on the command line, for example {first}.-ub"
            for first, dot, rest in flags
            if dot and first in ARGUMENT_LISTS and not rest.startswith("-")
        ]

    @property
    def varied(self) -> tuple[str, ...]:
        """The paths of the parameters that differ between candidates."""
        return tuple(path for path, one in self.parameters.items() if not one.is_fixed)

    @property
    def metric(self) -> str:
        return self.minimise or self.maximise or self.objective or "output_throughput"

    def grid_size(self) -> int:
        """The number of settings in the full grid."""
        return math.prod(len(one.levels()) for one in self.parameters.values())

    def grid(self) -> list[tuple[Value, ...]]:
        """Every setting of the full grid, each as one value for each parameter."""
        return list(itertools.product(*(one.levels() for one in self.parameters.values())))
