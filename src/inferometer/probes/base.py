"""What must a probe be able to do?"""

from collections.abc import Sequence
from typing import Protocol

from inferometer.core.record import Fact, Sample


class Probe(Protocol):
    """One source of readings. `reason` says why there are none (no such device); "" where there are some."""

    @property
    def name(self) -> str: ...

    @property
    def reason(self) -> str: ...

    @property
    def interval_s(self) -> float:
        """From one reading to the next, where reading is cheap; the sampler rests a dear one for longer."""
        ...

    def read(self, at_ns: int) -> Sequence[Sample]:
        """The readings of now, stamped `at_ns`. Empty where there is nothing to read, never zeros in its place."""
        ...

    def facts(self) -> Sequence[Fact]:
        """What is to be known beside the readings; for each quantity that the source does not tell, why: `no_…`."""
        ...
