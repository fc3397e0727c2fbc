"""Requests and answers side by side: prompt, each arm's answer and times, and where two answers first differ."""

import html
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import msgspec
import numpy as np

from inferometer.analysis.validity import ArmTrials
from inferometer.analysis.validity.workload_equivalence import common_length
from inferometer.base.units import ms, seconds
from inferometer.metrics.measures import RequestView, TrialView
from inferometer.report.page.request_keys import Key, evenly_spaced, keys_of_trial

MOST_ROWS = 400
MOST_FAILED = 100
"""Number of rows reserved for requests that failed, or that some arms answer right and others do not."""
MOST_CHARS = 3000
"""Length limit of one text; if two answers differ later, the part around the difference is shown."""
BEFORE_CHARS = 600
"""How many of these characters come before the first difference."""
MOST_TEXT_BYTES = 2_000_000
"""Limit for all texts together, as HTML; beyond it requests are shown without their texts."""


class Excerpt(msgspec.Struct, frozen=True):
    """A text or a part of it: `cut_before` and `cut_after` characters are omitted. `same` is common to both answers,
    `mark` is the first character that differs, `rest` follows it; a text without a difference is all `same`. `ends`:
    this answer ends where the other one continues."""

    same: str
    mark: str = ""
    rest: str = ""
    cut_before: int = 0
    cut_after: int = 0
    ends: bool = False

    @property
    def size_bytes(self) -> int:
        """Size as HTML, where a control character may take ten bytes."""
        text = self.same + self.mark + self.rest
        return len(html.escape(text).encode("utf-8", "replace")) + 10 * sum(not char.isprintable() for char in text)


class ArmAnswer(msgspec.Struct, frozen=True):
    """One arm's answer, from its first completed trial (else its last trial). `differs_at`: number of characters it
    shares with the baseline's answer before the first difference; None if they are equal or one is missing. `text`
    None: omitted. `check`: the outcome of its check, "" if it was not checked; `check_reason`: why it did not pass."""

    arm: str
    outcome: str
    error: str = ""
    finish: str = ""
    output_tokens: int | None = None
    ttft_ms: float | None = None
    tpot_ms: float | None = None
    latency_s: float | None = None
    same: bool | None = None
    differs_at: int | None = None
    text: Excerpt | None = None
    check: str = ""
    check_reason: str = ""


class RequestAnswers(msgspec.Struct, frozen=True):
    """One request in all arms that have it."""

    number: int
    request: str
    tags: dict[str, str]
    prompt_tokens: int | None
    prompt: Excerpt | None
    answers: tuple[ArmAnswer, ...]

    @property
    def is_flip(self) -> bool:
        """Whether some arms answer it right and others do not."""
        return len({answer.check == "passed" for answer in self.answers if answer.check not in _NOT_CHECKED}) > 1

    def of(self, arm: str) -> ArmAnswer | None:
        return next((answer for answer in self.answers if answer.arm == arm), None)


_NOT_CHECKED = ("", "no_toolchain")


class AnswersView(msgspec.Struct, frozen=True):
    """The requests shown, of `total`, flips first. For `without_text` of them the texts are omitted to limit the page's
    size."""

    shown: tuple[RequestAnswers, ...]
    total: int
    without_text: int


def answers_view(cases: Sequence[ArmTrials]) -> AnswersView:
    """All requests if they are few; else the failed ones, and a selection of the others spread evenly over the plan."""
    order: dict[Key, None] = {}
    of_arm: dict[str, _Arm] = {}
    for case in cases:
        for trial in (case.done or case.trials[-1:])[:1]:
            keys = keys_of_trial(case, trial)
            order.update(dict.fromkeys(key for key in keys if key is not None))
            of_arm[case.name] = _Arm(case, trial, keys, dict(zip(keys, range(len(keys)), strict=True)))
    chosen = _chosen(order, list(of_arm.values()))
    left_bytes = MOST_TEXT_BYTES
    shown: list[RequestAnswers] = []
    for number, key in enumerate(order, 1):
        if key in chosen:
            found = {name: (arm, arm.places[key]) for name, arm in of_arm.items() if key in arm.places}
            first, place = next(iter(found.values()))
            views = {name: arm.trial.request(at) for name, (arm, at) in found.items()}
            one = _exchange(number, first.case, int(first.trial.index[place]), views)
            size = sum(text.size_bytes for text in [one.prompt, *(answer.text for answer in one.answers)] if text)
            left_bytes -= size
            shown.append(one if left_bytes >= 0 else _without_text(one))
    without = sum(one.prompt is None for one in shown) if left_bytes < 0 else 0
    return AnswersView(tuple(sorted(shown, key=lambda one: not one.is_flip)), len(order), without)


class _Arm(NamedTuple):
    """One trial of an arm; the key of each request, and the position of each key."""

    case: ArmTrials
    trial: TrialView
    keys: list[Key | None]
    places: dict[Key | None, int]


def _chosen(order: dict[Key, None], arms: Sequence[_Arm]) -> set[Key]:
    if len(order) <= MOST_ROWS:
        return set(order)
    wanted = {arm.keys[place] for arm in arms for place in np.flatnonzero(~arm.trial.records.ok).tolist()}
    if any(arm.trial.checks for arm in arms):
        found = ((key, [(arm.trial, arm.places[key]) for arm in arms if key in arm.places]) for key in order)
        wanted |= {key for key, places in found if _flips(places)}
    failed = [key for key in order if key in wanted]
    kept = evenly_spaced(failed, MOST_FAILED)
    others = [key for key in order if key not in wanted]
    return {*kept, *evenly_spaced(others, MOST_ROWS - len(kept))}


_Place = tuple[TrialView, int]  # a request of a trial


def _flips(places: Iterable[_Place]) -> bool:
    checks = [trial.checks.get(int(trial.index[place])) for trial, place in places if trial.checks]
    return len({check.passed for check in checks if check is not None} - {None}) > 1


def _exchange(number: int, case: ArmTrials, index: int, of_arm: dict[str, RequestView]) -> RequestAnswers:
    request = case.requests.get(index)
    first = next(iter(of_arm.values()))
    timing = next((view.timing for view in of_arm.values() if view.timing), None)
    texts = {arm: view.record.text for arm, view in of_arm.items()}
    base = next(iter(of_arm))
    places = {
        arm: common_length(texts[base], text)
        for arm, text in texts.items()
        if arm != base and of_arm[arm].record.ok and first.record.ok and text != texts[base]
    }
    answers = [
        _answer(arm, view, places.get(arm), texts, base, min(places.values(), default=None), first.record.ok)
        for arm, view in of_arm.items()
    ]
    return RequestAnswers(
        number=number,
        request=first.record.request_id,
        tags=request.tags if request else {},
        prompt_tokens=timing.prompt_tokens if timing else None,
        prompt=excerpt(request.prompt) if request else Excerpt("(the plan is not in the study)"),
        answers=tuple(answers),
    )


def _answer(
    arm: str,
    view: RequestView,
    place: int | None,
    texts: dict[str, str],
    base: str,
    first_place: int | None,
    base_ok: bool,
) -> ArmAnswer:
    """One arm's answer. The baseline's text is marked at its earliest difference from any other arm."""
    record, timing = view.record, view.timing
    is_base = arm == base
    return ArmAnswer(
        arm=arm,
        outcome=record.outcome,
        error=record.error,
        finish=record.finish_reason or "",
        output_tokens=timing.output_tokens if timing else None,
        ttft_ms=ms(timing.ttft_ns) if timing else None,
        tpot_ms=ms(timing.tpot_ns) if timing and timing.tpot_ns is not None else None,
        latency_s=seconds(timing.latency_ns) if timing else None,
        same=None if is_base or not (record.ok and base_ok) else texts[arm] == texts[base],
        differs_at=place,
        text=excerpt(texts[arm], first_place if is_base else place),
        check=view.check.result if view.check else "",
        check_reason=view.check.reason if view.check else "",
    )


def excerpt(text: str, differs_at: int | None = None) -> Excerpt:
    """The beginning of the text, or the part around the place where it differs from the other answer."""
    begin = 0 if differs_at is None or differs_at <= BEFORE_CHARS else differs_at - BEFORE_CHARS
    if len(text) <= MOST_CHARS:
        begin = 0
    end = min(len(text), begin + MOST_CHARS)
    at = end if differs_at is None else differs_at
    return Excerpt(
        same=text[begin:at],
        mark=text[at : min(at + 1, end)],
        rest=text[at + 1 : end],
        cut_before=begin,
        cut_after=len(text) - end,
        ends=differs_at is not None and differs_at >= len(text),
    )


def _without_text(one: RequestAnswers) -> RequestAnswers:
    answers = tuple(msgspec.structs.replace(answer, text=None) for answer in one.answers)
    return msgspec.structs.replace(one, prompt=None, answers=answers)
