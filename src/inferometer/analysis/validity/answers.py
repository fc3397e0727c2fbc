"""Answers: did each arm answer the prompts, or was something else sent faster?

Doing other work faster is not an improvement: a server that sends one canned text, an error as text, or much shorter
answers has less to do.
"""

import math
import re
from collections import Counter
from collections.abc import Iterator, Sequence

import msgspec
import numpy as np

from inferometer.analysis import thresholds
from inferometer.analysis.validity.arm_trials import ArmTrials, same_rounds
from inferometer.core.grouped_values import Ints
from inferometer.core.record import Finding
from inferometer.metrics.measures import TrialView, paired
from inferometer.metrics.significance import sign_test_p_value
from inferometer.metrics.trial_columns import output_tokens

_ERROR = re.compile(
    r"""^\W*(?:\{\s*"(?:error|detail)"|(?:internal\s)?(?:server\s)?\w*(?:error|exception)\s*(?:[:!\]\}]|\.?$)
    |(?:internal\sserver\serror|an?\s(?:\w+\s)?error\s(?:has\s)?occurred|something\swent\swrong)\b
    |(?:i(?:'m|’m|\sam)\s)?sorry,?\s(?:but\s)?(?:an?\s(?:\w+\s)?error|something\swent|too\smany\srequests)
    |(?:the\s|this\s)?(?:server|model|service|engine|backend)\sis\s(?:currently\s|temporarily\s)?
     (?:overloaded|busy|unavailable|not\savailable|loading|not\sready)
    |no\s(?:healthy|available)\s\w+|upstream\s(?:connect|request|error|time)|(?:maximum\s)?context\s(?:length|size|window)
     \s(?:exceeded|is\s)|connection\s(?:refused|reset|aborted|error|timed\sout)|(?:insufficient_)?quota(?:\sexceeded|\b)
    |invalid\s(?:api\skey|request|token)|unauthorized\b|access\sdenied|http(?:/[\d.]+)?\s(?:error\s)?[45]\d\d
    |traceback\s\(most|bad\sgateway|service\s(?:temporarily\s)?unavailable|gateway\stime-?out|too\smany\srequests
    |rate\slimit(?:ed)?\b|request\s(?:failed|timed\sout)|(?:cuda\s)?out\sof\smemory|<!doctype\shtml|<html
    |(?:4\d\d|5\d\d)\s(?:bad|not|internal|service|gateway|too|unauthorized|forbidden))""",
    re.IGNORECASE | re.VERBOSE,
)
"""How an error begins that stands where the answer should be."""


def canned_answers(cases: Sequence[ArmTrials]) -> Iterator[Finding]:
    """One text for different prompts, in an arm and not in the baseline."""
    shares = {case.name: max((_canned(trial, case) for trial in case.done), key=_share, default=None) for case in cases}
    known = {name: found for name, found in shares.items() if found is not None}
    if not known:
        return
    least = min(known.values(), key=_share)
    for case in cases:
        found = known.get(case.name)
        if found is None or found.share <= thresholds.CANNED_SHARE:
            continue
        alone = found.share - least.share > thresholds.CANNED_SHARE / 2
        yield case.finding(
            "invalid" if alone else "note",
            "canned-answers",
            f"{found.alike} of {found.answers} different prompts got an answer that others got too "
            f"({_quoted(found.text)}).",
            "Look at the outputs: this server does not answer the prompts." if alone else "",
            withholds=("work",) if alone else (),
        )


class _Canned(msgspec.Struct, frozen=True):
    """`alike` of `answers` to different prompts are also the answer to another prompt, as `text` is."""

    alike: int
    answers: int
    text: str

    @property
    def share(self) -> float:
        return self.alike / self.answers if self.answers else 0.0


def _share(found: _Canned | None) -> float:
    return -1.0 if found is None else found.share


def _canned(trial: TrialView, case: ArmTrials) -> _Canned | None:
    """None for too few different prompts."""
    of_prompt = {
        case.requests[index].prompt: trial.records.answer(place).strip()
        for place in examined_answers(trial)
        if (index := int(trial.index[place])) in case.requests
    }
    if len(of_prompt) < thresholds.CANNED_LEAST_PROMPTS:
        return None
    long = [text for text in of_prompt.values() if len(text) >= thresholds.CANNED_LEAST_CHARACTERS]
    shared = [(_NUMBER.sub("#", text), text) for text in long]
    counts = Counter(kind for kind, _ in shared)
    alike = [(counts[kind], text) for kind, text in shared if counts[kind] > 1]
    return _Canned(len(alike), len(of_prompt), max(alike, default=(0, ""))[1])


_NUMBER = re.compile(r"\b(?=[a-f-]*\d)[0-9a-f-]{4,}\b", re.IGNORECASE)
"""An identifier or a time, which does not make another answer of one text."""


def error_texts(cases: Sequence[ArmTrials]) -> Iterator[Finding]:
    """Answers that are an error's words, with status 200."""
    for case in cases:
        for trial in case.done:
            texts = [trial.records.answer(place).strip() for place in examined_answers(trial)]
            wrong = [text for text in texts if len(text) < thresholds.ERROR_MOST_CHARACTERS and _ERROR.match(text)]
            if wrong and len(wrong) > thresholds.ERROR_SHARE * len(texts):
                yield case.finding(
                    "invalid",
                    "error-answers",
                    f"{len(wrong)} of {len(texts)} answers are the text of an error ({_quoted(wrong[0])}).",
                    "Look at the server's log: these requests failed, whatever their status says.",
                    trial=trial.trial.number,
                    withholds=("work",),
                )


def reasoning_of_one_arm(cases: Sequence[ArmTrials]) -> Iterator[Finding]:
    """Answers that begin with reasoning, in an arm and not in the baseline, or the other way round."""
    first, *others = cases
    before = _reasoning_share(first)
    for case in others:
        share = _reasoning_share(case)
        if None not in (before, share) and abs((share or 0) - (before or 0)) > thresholds.REASONING_SHARE:
            yield case.finding(
                "warning",
                "reasoning",
                f"{share:.0%} of its answers begin with reasoning, and {before:.0%} of those of {first.name}: its "
                "first tokens are thoughts, not the answer.",
                "Switch reasoning on or off in both arms.",
            )


def _reasoning_share(case: ArmTrials) -> float | None:
    """None without an answer."""
    answers = sum(int(trial.records.ok.sum()) for trial in case.done)
    begins = sum(int((trial.records.ok & trial.records.has("reasoning")).sum()) for trial in case.done)
    return begins / answers if answers else None


def other_lengths(cases: Sequence[ArmTrials]) -> Iterator[Finding]:
    """Answers that are much shorter or longer than the baseline's, prompt by prompt, in any round."""
    first, *others = cases
    for case in others:
        if case.plan != first.plan:
            continue
        found = [one for pair in same_rounds(first, case) if (one := _other_length(*pair)) is not None]
        if not found:
            continue
        before, after, same_tokens = min(found, key=lambda one: (one[2], -abs(math.log(one[1] / one[0]))))
        yield case.finding(
            "warning" if same_tokens else "invalid",
            "other-lengths",
            f"its answers have {100 * (after / before - 1):+.0f}% characters against {first.name} "
            f"({after} and {before}): speed at other work is not comparable.",
            "Fix the lengths (`ignore_eos: true` with `max_tokens`), or find out why one arm stops earlier.",
            withholds=("work",),
        )


def _other_length(base: TrialView, trial: TrialView) -> tuple[int, int, bool] | None:
    """Characters of two trials of one round, and whether their tokens are alike; None where the lengths are."""
    ones, twos = _lengths(base, trial)
    before, after = int(ones.sum()), int(twos.sum())
    small = abs(after - before) < thresholds.LENGTH_LEAST_CHARACTERS * len(ones)
    if not before or not after or small or _is_near(after / before):
        return None
    level = sign_test_p_value(int((twos > ones).sum()), int((twos < ones).sum()))
    if level >= thresholds.LENGTH_LEVEL and not _all_far(ones, twos):
        return None
    tokens_before, tokens_after = (int(output_tokens(view).values.sum()) for view in (base, trial))
    same = tokens_before > 0 and abs(tokens_after / tokens_before - 1) <= thresholds.LENGTH_SAME_TOKENS
    return before, after, same


def _lengths(one: TrialView, other: TrialView) -> tuple[Ints, Ints]:
    """Characters of the answers to the same requests, all output counted."""
    mine, theirs = paired(one, other, one.records.ok, other.records.ok)
    return one.records.characters[mine], other.records.characters[theirs]


def _all_far(ones: Ints, twos: Ints) -> bool:
    """Whether each of a few answers differs in the same direction by more than the bound."""
    ratios = np.where(ones > 0, twos / np.maximum(ones, 1), np.inf)
    return len(ones) >= thresholds.LENGTH_LEAST_PROMPTS and bool(
        ratios.min() > thresholds.LENGTH_RATIO or ratios.max() < 1 / thresholds.LENGTH_RATIO
    )


def examined_answers(trial: TrialView) -> list[int]:
    """The positions of the answers whose text is examined: all, or `MOST_EXAMINED` evenly spaced ones."""
    answered = np.flatnonzero(trial.records.ok)
    count = min(len(answered), thresholds.MOST_EXAMINED)
    return answered[np.linspace(0, len(answered) - 1, count).round().astype(np.int64)].tolist() if count else []


def _is_near(ratio: float) -> bool:
    return 1 / thresholds.LENGTH_RATIO <= ratio <= thresholds.LENGTH_RATIO


def _quoted(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:57] + "...")
