"""Interface of a probe."""

from collections.abc import Sequence
from typing import Protocol

from inferometer.core.record import Fact, Sample


class Probe(Protocol):
    """One source of readings. `reason`: why it provides none (for example, no such device); "" if it provides some."""

    @property
    def name(self) -> str: ...

    @property
    def reason(self) -> str: ...

    @property
    def interval_s(self) -> float:
        """Time between two readings. The sampler reads an expensive probe less often."""
        ...

    def read(self, at_ns: int) -> Sequence[Sample]:
        """Current readings, stamped `at_ns`. Empty if there is nothing to read; an unknown value is never 0."""
        ...

    def facts(self) -> Sequence[Fact]:
        """Facts about the readings, and for each quantity that the source lacks the reason
        (`quantities.absent_fact`)."""
        ...
