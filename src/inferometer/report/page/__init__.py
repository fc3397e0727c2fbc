"""Data of the HTML page: its pictures as numbers, its requests, and what was run. Pure.

`report/html_page.py` renders it.
"""

from collections.abc import Sequence

import msgspec

from inferometer.analysis.comparison import Comparison
from inferometer.analysis.validity import ArmTrials
from inferometer.report.page.acceptance_by_prompt import ArmAcceptance, accepted
from inferometer.report.page.answer_texts import AnswersView, answers_view
from inferometer.report.page.distribution import Distribution, distributions
from inferometer.report.page.extra_part import ExtraPart
from inferometer.report.page.over_time import TrialCurves, runs
from inferometer.report.page.token_times import Timelines, timelines

__all__ = ["ExtraPart", "Page", "RunInfo", "page"]


class RunInfo(msgspec.Struct, frozen=True):
    """What a study ran: its folder's name, its spec as YAML, and facts as (name, value, source) about the machine, the
    workload and each arm."""

    folder: str
    spec: str
    facts: dict[str, tuple[tuple[str, str, str], ...]]


class Page(msgspec.Struct, frozen=True):
    """`extra`: parts that only some commands add; they stand first."""

    title: str
    comparison: Comparison
    distributions: tuple[Distribution, ...]
    timelines: Timelines
    runs: tuple[TrialCurves, ...]
    accepted: tuple[ArmAcceptance, ...]
    answers_view: AnswersView
    ran: tuple[RunInfo, ...]
    extra: tuple[ExtraPart, ...] = ()


def page(title: str, comparison: Comparison, cases: Sequence[ArmTrials], ran: Sequence[RunInfo]) -> Page:
    """Collect the page's data. `cases`: the comparison's arms, in its order."""
    return Page(
        title=title,
        comparison=comparison,
        distributions=distributions(cases, comparison),
        timelines=timelines(cases),
        runs=runs(cases),
        accepted=accepted(cases),
        answers_view=answers_view(cases),
        ran=tuple(ran),
    )
