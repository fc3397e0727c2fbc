"""When is each request due? Due times are drawn from a seed before the clock starts; none are drawn while it runs."""

import math
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from numpy.random import RandomState


class Closed(msgspec.Struct, frozen=True, tag_field="kind", tag="closed", forbid_unknown_fields=True):
    """Each of `concurrency` users sends the next request when the last answer is complete; None: all at once."""

    concurrency: int | None = 1

    def due_ns(self, count: int, rng: "RandomState") -> list[int | None]:
        return [None] * count

    def problems(self) -> list[str]:
        return _positive("concurrency", self.concurrency)


class Constant(msgspec.Struct, frozen=True, tag_field="kind", tag="constant", forbid_unknown_fields=True):
    """One request every 1/`rate_per_s` seconds, the first at 0, with at most `max_concurrency` under way."""

    rate_per_s: float
    max_concurrency: int | None = None

    def due_ns(self, count: int, rng: "RandomState") -> list[int | None]:
        return [round(i / self.rate_per_s * 1e9) for i in range(count)]

    def problems(self) -> list[str]:
        return _positive("rate_per_s", self.rate_per_s) + _positive("max_concurrency", self.max_concurrency)


class Poisson(msgspec.Struct, frozen=True, tag_field="kind", tag="poisson", forbid_unknown_fields=True):
    """Random arrivals of mean rate `rate_per_s`, the first at 0.

    Gaps follow a gamma distribution of shape `burstiness` and mean 1/rate: 1 is a Poisson process, below 1 is burstier,
    above 1 more even. The draws are those of vLLM's benchmark script for the same seed (numpy's legacy generator).
    """

    rate_per_s: float
    burstiness: float = 1.0
    max_concurrency: int | None = None

    def due_ns(self, count: int, rng: "RandomState") -> list[int | None]:
        scale_s = 1.0 / (self.rate_per_s * self.burstiness)
        due: list[int | None] = []
        at_s = 0.0
        for _ in range(count):
            due.append(round(at_s * 1e9))
            at_s += float(rng.gamma(shape=self.burstiness, scale=scale_s))
        return due

    def problems(self) -> list[str]:
        return (
            _positive("rate_per_s", self.rate_per_s)
            + _positive("burstiness", self.burstiness)
            + _positive("max_concurrency", self.max_concurrency)
        )


Schedule = Closed | Constant | Poisson


def concurrency_limit(schedule: Schedule) -> int | None:
    """How many requests may be under way at once; None: no limit."""
    return schedule.concurrency if isinstance(schedule, Closed) else schedule.max_concurrency


def _positive(name: str, value: float | None) -> list[str]:
    if value is None or (value > 0 and math.isfinite(value)):
        return []
    return [f"{name} must be greater than 0, not {value:g}"]
