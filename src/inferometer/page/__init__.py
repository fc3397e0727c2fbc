"""What is on the page that reports a comparison? Its pictures as numbers, its requests, and what ran; pure.

`reports/html_page.py` draws it.
"""

from collections.abc import Sequence

import msgspec

from inferometer.compare import Comparison
from inferometer.page.accepted import Accepted, accepted
from inferometer.page.answers import Exchanges, exchanges
from inferometer.page.distribution import Distribution, distributions
from inferometer.page.over_time import Run, runs
from inferometer.page.token_times import Timelines, timelines
from inferometer.validity import Case

__all__ = ["Page", "Ran", "page"]


class Ran(msgspec.Struct, frozen=True):
    """What a study was: its folder's name, its spec as YAML, and facts as (name, value, source), by what they are of:
    the machine, the workload, each arm."""

    folder: str
    spec: str
    facts: dict[str, tuple[tuple[str, str, str], ...]]


class Page(msgspec.Struct, frozen=True):
    title: str
    comparison: Comparison
    distributions: tuple[Distribution, ...]
    timelines: Timelines
    runs: tuple[Run, ...]
    accepted: tuple[Accepted, ...]
    exchanges: Exchanges
    ran: tuple[Ran, ...]


def page(title: str, comparison: Comparison, cases: Sequence[Case], ran: Sequence[Ran]) -> Page:
    """`cases` are the comparison's arms, in its order."""
    return Page(
        title=title,
        comparison=comparison,
        distributions=distributions(cases, comparison),
        timelines=timelines(cases),
        runs=runs(cases),
        accepted=accepted(cases),
        exchanges=exchanges(cases),
        ran=tuple(ran),
    )
