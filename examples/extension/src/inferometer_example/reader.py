"""Reader of the example tool's result: a first line `example tool`, then `output_throughput: 12.5`."""

from collections.abc import Sequence

from inferometer.base.errors import RequestWrong
from inferometer.foreign.foreign_run import ForeignRun


def runs_of(text: str, name: str) -> Sequence[ForeignRun] | None:
    """The run in the file; None if the file is not of this tool. Raises RequestWrong if the number is missing."""
    first, _, rest = text.partition("\n")
    if first != "example tool":
        return None
    key, _, value = rest.strip().partition(": ")
    try:
        return [ForeignRun(name, "example tool", {"output_throughput": float(value)})] if key else []
    except ValueError as error:
        raise RequestWrong(f"the example tool's result has no number after {key!r}: {value!r}") from error
