"""Token counts: does each reported number agree with the known facts, and do the arms count alike?

The same prompt or the same answer has one number of tokens for one tokenizer. Where two arms report different numbers
for the same text, tokens per second of the two are not the same unit.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from statistics import median

import msgspec
import numpy as np

from inferometer.analysis import thresholds
from inferometer.analysis.validity.arm_trials import ArmTrials, fact_of, for_each_arm, same_rounds
from inferometer.core import quantities
from inferometer.core.grouped_values import Bools, Ints
from inferometer.core.record import Finding
from inferometer.core.record_columns import UNKNOWN
from inferometer.metrics.measures import TrialView, paired
from inferometer.metrics.request_columns import SOURCES, equal_texts
from inferometer.metrics.row_inputs import RowInput
from inferometer.metrics.series import Floats
from inferometer.metrics.trial_columns import known_or_0

_WITHHELD_BY: dict[str, tuple[RowInput, ...]] = {
    "output_tokens": ("output_tokens",),
    "prompt_tokens": ("prompt_tokens", "work"),
    "cached_tokens": ("cached_tokens",),
    "draft_counts": ("draft_counts",),
    "first_token": ("first_token",),
    "token_times": ("token_times", "first_token"),
}
_CHARACTERS = "Compare characters per second and the time per answer, which need no tokenizer."


@for_each_arm
def refuted_numbers(case: ArmTrials) -> Iterable[Finding]:
    """Numbers of single requests that a known fact refutes (see `metrics.consistency`)."""
    requests = sum(trial.size for trial in case.done)
    found = [one for trial in case.done for reasons in trial.contradictions.values() for one in reasons]
    placeholder = _placeholder(case)
    if placeholder:
        found = [one for one in found if one.about != "prompt_tokens"]
        yield case.finding(
            "note",
            "refuted-numbers",
            f"{placeholder} prompt tokens are reported for every prompt: this is not a count, and it is left out.",
            "",
            withholds=("prompt_tokens",),
        )
    for about, count in Counter(one.about for one in found).items():
        reason = next(one.reason for one in found if one.about == about)
        is_rare = count < thresholds.REFUTED_SHARE * requests
        yield case.finding(
            "warning" if is_rare else "invalid",
            "refuted-numbers",
            f"{count} of {requests} requests have {_WORDS[about]} that cannot be true: {reason}.",
            "The number is left out. Check the server's version and what stands between it and this client.",
            withholds=() if is_rare else _WITHHELD_BY[about],
        )


def _placeholder(case: ArmTrials) -> int | None:
    """The one small number that the server reports for prompts of different lengths, instead of a count."""
    wanted = [trial.records.ok & trial.asked.known for trial in case.done]
    pairs = list(zip(case.done, wanted, strict=True))
    counts = {count for trial, some in pairs for count in np.unique(trial.records.used("prompt_tokens")[some]).tolist()}
    count = counts.pop() if len(counts) == 1 else UNKNOWN
    if not 0 < count < thresholds.PLACEHOLDER_TOKENS:
        return None
    sizes = np.concatenate([trial.asked.prompt_bytes[some] for trial, some in pairs])
    return count if sizes.max() > 2 * sizes.min() else None


_WORDS = {
    "output_tokens": "a number of output tokens",
    "prompt_tokens": "a number of prompt tokens",
    "cached_tokens": "a number of cached tokens",
    "draft_counts": "numbers of drafted tokens",
    "first_token": "a first token",
    "token_times": "times of tokens",
}


@for_each_arm
def other_than_our_count(case: ArmTrials) -> Iterable[Finding]:
    """A server whose count is not the tokenizer's, of answers that are text alone."""
    answers, theirs, ours = np.sum([_both_counts(trial) for trial in case.done], axis=0) if case.done else (0, 0, 0)
    unseen = thresholds.COUNTS_UNSEEN_TOKENS * answers
    if ours < thresholds.COUNTS_OUR_LEAST or abs(theirs - ours) <= unseen + thresholds.COUNTS_OUR_SHARE * ours:
        return
    yield case.finding(
        "warning",
        "counts-disagree",
        f"its server counts {theirs / ours:.2f} × the tokens that the tokenizer finds in the same {answers} answers "
        f"({theirs} and {ours}).",
        "Give the server's own tokenizer, or find out what else the server counts.",
        withholds=("output_tokens",),
    )


def _both_counts(trial: TrialView) -> tuple[int, int, int]:
    """The number of answers without reasoning and tool calls that both the server and our tokenizer counted, and the
    total of each."""
    timing, ours = trial.timing, trial.records.numbers["our_tokens"]
    by_server = np.isin(timing.output_source, [SOURCES.index(source) for source in ("usage", "timings", "token ids")])
    both = timing.timed & by_server & (ours != UNKNOWN) & ~trial.records.has("reasoning") & ~trial.records.has("tool")
    return int(both.sum()), int(timing.output_tokens[both].sum()), int(ours[both].sum())


# --- two arms -------------------------------------------------------------------------------------


class TextCounts(msgspec.Struct, frozen=True):
    """What both arms reported of the same requests, one value a request that both answered.

    `prompts`: prompt tokens (baseline, arm); `prompt_bytes`: of these prompts, 0 if unknown. `same`: output tokens
    (baseline, arm) of answers with equal text. `characters`, `tokens`: of all answers, by arm. `time_ratio`: time per
    answer of equal text, arm over baseline; None where no text is equal.
    """

    prompts: Sequence[tuple[int, int]]
    same: Sequence[tuple[int, int]]
    characters: tuple[int, int]
    tokens: tuple[int, int]
    time_ratio: float | None
    prompt_bytes: int = 0

    @property
    def length_ratio(self) -> float | None:
        """Characters per token of the arm over the baseline's; None for too little text."""
        if min(self.characters) < thresholds.COUNTS_LEAST_CHARACTERS or min(self.tokens) <= 0:
            return None
        return (self.characters[1] / self.tokens[1]) / (self.characters[0] / self.tokens[0])


def counts_of_arms(cases: Sequence[ArmTrials]) -> Iterator[Finding]:
    """The counts of each arm against the baseline's."""
    first, *others = cases
    for case in others:
        if case.plan == first.plan:
            yield from _worst(list(_against(first, case, *pair)) for pair in same_rounds(first, case))
    for case in cases:
        of_first = [(trial, text_counts(case.done[0], trial)) for trial in case.done[1:]]
        yield from _worst(
            [
                *_same_text(case, case.name, found),
                *_prompts_of_trials(case, found, allowed=_may_differ(case.done[0], trial)),
            ]
            for trial, found in of_first
        )


def _worst(of_rounds: Iterable[list[Finding]]) -> Iterator[Finding]:
    """One finding of each code, the most severe of all rounds: a count may be wrong in one trial only."""
    kept: dict[str, Finding] = {}
    for one in (finding for found in of_rounds for finding in found):
        if one.code not in kept or (one.severity == "invalid" and kept[one.code].severity != "invalid"):
            kept[one.code] = one
    yield from kept.values()


def _against(first: ArmTrials, case: ArmTrials, base: TrialView, trial: TrialView) -> Iterator[Finding]:
    found = text_counts(base, trial)
    yield from _input_work(first, case, found)
    sources = _other_sources(base, trial)
    if sources:
        yield case.finding(
            "warning",
            "other-counter",
            f"its output tokens are counted by {sources[1]}, those of {first.name} by {sources[0]}{_time(found)}.",
            f"Give a tokenizer (`tokenizer:`) that counts both. {_CHARACTERS}",
            withholds=("output_tokens", "token_times", "chunk_gaps") if "nobody" in sources else ("output_tokens",),
        )
        return
    yield from _same_text(case, first.name, found)
    ratio = found.length_ratio
    if not found.same and ratio is not None and not _near(ratio, thresholds.COUNTS_LENGTH_RATIO):
        yield _other_tokenizer(first, case, found, f"{ratio:.2f} × the characters per token")


def _same_text(case: ArmTrials, other: str, found: TextCounts) -> Iterator[Finding]:
    """Answers of equal text with unequal counts: of another arm, or of the arm itself in another trial."""
    unlike = [(one, two) for one, two in found.same if abs(one - two) > thresholds.COUNTS_SAME_TEXT_TOKENS]
    if 2 * len(unlike) <= len(found.same):
        yield from _near_counts(case, other, found)
        return
    one, two = max(unlike, key=lambda pair: abs(pair[0] - pair[1]))
    said = (
        f"{len(unlike)} of {len(found.same)} answers of equal text have other numbers of tokens than in "
        f"{_place(case, other)} ({two} and {one} for the same text){_time(found)}."
    )
    if _scales_alike(found):
        yield case.finding("warning", "other-tokenizer", said, _CHARACTERS, withholds=("output_tokens",))
    else:
        yield case.finding("invalid", "counts-disagree", said, _CHARACTERS, withholds=("output_tokens",))


def _may_differ(one: TrialView, other: TrialView) -> int:
    """Tokens by which the prompts of two trials may differ: a text in front of them, in one of the two."""
    unlike = _is_prefixed(one) != _is_prefixed(other)
    return thresholds.PREFIX_TOKENS if unlike else thresholds.TRIAL_PROMPT_TOKENS


def _is_prefixed(trial: TrialView) -> bool:
    """Whether each prompt began with a new number, against the server's prefix cache."""
    return fact_of(trial, quantities.PREFIX_CACHE) == "prefix"


def _prompts_of_trials(case: ArmTrials, found: TextCounts, allowed: int) -> Iterator[Finding]:
    """Prompts with other counts in another trial of the arm, by more than `allowed` tokens."""
    unlike = [
        (one, two) for one, two in found.prompts if abs(one - two) > max(allowed, thresholds.COUNTS_FAR_SHARE * one)
    ]
    if 2 * len(unlike) > len(found.prompts):
        one, two = max(unlike, key=lambda pair: abs(pair[0] - pair[1]))
        yield case.finding(
            "invalid",
            "counts-disagree",
            f"{len(unlike)} of {len(found.prompts)} prompts have other numbers of tokens than in another trial "
            f"({two} and {one} for the same prompt).",
            "Check the server's version, and whether its count leaves out tokens from its prefix cache.",
            withholds=("prompt_tokens", "work"),
        )


def _near_counts(case: ArmTrials, other: str, found: TextCounts) -> Iterator[Finding]:
    """Counts of equal text that differ by an end token: rates of short answers then differ by some percent."""
    ones, twos = (sum(pair[place] for pair in found.same) for place in (0, 1))
    if abs(twos - ones) > thresholds.COUNTS_NOTED_SHARE * ones:
        yield case.finding(
            "note",
            "counts-disagree",
            f"answers of equal text have {twos} tokens in all, not {ones} as in {_place(case, other)}: one of the two "
            f"may count the end token{_time(found)}.",
            "",
            withholds=("output_tokens",),
        )


def _place(case: ArmTrials, other: str) -> str:
    return "another trial" if other == case.name else other


def _scales_alike(found: TextCounts) -> bool:
    """Whether prompts and answers differ by the same factor: then it is the tokenizer."""
    if not found.prompts or not found.same:
        return False
    line = _line(found.prompts)
    answers = median(two / one for one, two in found.same if one > 0) if any(one for one, _ in found.same) else 1.0
    return line is not None and not _near(line[0], 1.05) and _near(line[0] / answers, thresholds.COUNTS_LENGTH_RATIO)


def _input_work(first: ArmTrials, case: ArmTrials, found: TextCounts) -> Iterator[Finding]:
    """Prompt tokens of the same prompts: a template may add a few dozen, and a tokenizer scales all of them."""
    far = [(one, two) for one, two in found.prompts if abs(one - two) > thresholds.TEMPLATE_TOKENS]
    if len(far) <= thresholds.COUNTS_FAR_SHARE * len(found.prompts):
        yield from _near_input(first, case, found)
        return
    one, two = max(far, key=lambda pair: abs(pair[0] - pair[1]))
    of_all = f"{len(far)} of {len(found.prompts)} prompts"
    said = f"{of_all} have other numbers of tokens than in {first.name} ({two} and {one})"
    line = _line(found.prompts)
    if line is not None and not _near(line[0], 1.05) and line[1] < thresholds.COUNTS_LINE_RESIDUAL and not _capped(far):
        yield _other_tokenizer(first, case, found, f"{line[0]:.2f} × the tokens for the same prompts")
        return
    less = two < one
    if not less and max(after - before for before, after in far) - min(after - before for before, after in far) <= (
        thresholds.TEMPLATE_TOKENS
    ):
        yield case.finding(
            "warning",
            "other-input",
            f"{said}: it read about {two - one} tokens more of every prompt, as a chat template adds.",
            "Compare the chat templates of the two: one of them adds text.",
            withholds=("work", "prompt_tokens"),
        )
        return
    yield case.finding(
        "invalid",
        "other-input",
        f"{said}: {'it read only a part of these prompts' if less else 'it read more than the prompts'}.",
        "Give both arms the same context length and chat template, and compare again."
        if less
        else "Compare the chat templates of the two: one of them adds text.",
        withholds=("work", "prompt_tokens"),
    )


def _near_input(first: ArmTrials, case: ArmTrials, found: TextCounts) -> Iterator[Finding]:
    """Prompt tokens that differ by no more than a template does: a cut of short prompts, or the template."""
    ones, twos = (sum(pair[place] for pair in found.prompts) for place in (0, 1))
    said = f"it reports {twos} prompt tokens for the prompts that have {ones} in {first.name}"
    if _has_ceiling(found.prompts) or _is_cut(found):
        yield case.finding(
            "invalid",
            "other-input",
            f"{said}: it read only a part of some, or it does not count them.",
            "Give both arms the same context length and chat template, and compare again.",
            withholds=("work", "prompt_tokens"),
        )
    elif abs(twos - ones) > thresholds.COUNTS_NOTED_SHARE * ones:
        yield case.finding(
            "note", "other-input", f"{said}: {_why_longer(first, case)}.", "", withholds=("prompt_tokens",)
        )


def _why_longer(first: ArmTrials, case: ArmTrials) -> str:
    prefixed = [any(_is_prefixed(trial) for trial in arm.done) for arm in (first, case)]
    if prefixed[0] != prefixed[1]:
        return f"those of {first.name if prefixed[0] else case.name} began with a number, against its prefix cache"
    return "their chat templates differ"


def _has_ceiling(pairs: Sequence[tuple[int, int]]) -> bool:
    """Whether several prompts of different lengths all have the highest count: a limit, or a constant."""
    top = max((two for _, two in pairs), default=0)
    at_top = [one for one, two in pairs if two >= top - 1]
    return len(at_top) >= thresholds.CEILING_LEAST and max(at_top) - min(at_top) >= thresholds.CEILING_TOKENS


def _is_cut(found: TextCounts) -> bool:
    """Whether the arm's prompt tokens are too few for the prompts, and the baseline's are not."""
    ones, twos = (sum(pair[place] for pair in found.prompts) for place in (0, 1))
    if not ones or not twos or twos >= thresholds.CUT_SHARE * ones:
        return False
    sizes = found.prompt_bytes / ones, found.prompt_bytes / twos
    return sizes[0] < thresholds.CUT_USUAL_BYTES and sizes[1] > thresholds.CUT_MOST_BYTES


def _other_tokenizer(first: ArmTrials, case: ArmTrials, found: TextCounts, evidence: str) -> Finding:
    return case.finding(
        "warning",
        "other-tokenizer",
        f"its tokens are not those of {first.name}: {evidence}{_time(found)}.",
        _CHARACTERS,
        withholds=("output_tokens", "prompt_tokens"),
    )


def text_counts(before: TrialView, after: TrialView) -> TextCounts:
    """Of the requests that both answered, by index."""
    ones, twos = paired(before, after, before.timing.timed, after.timing.timed)
    same = equal_texts(before.records.texts, after.records.texts, ones, twos)
    same &= before.records.texts.sizes[ones] > 0
    latencies = before.timing.latency_ns[ones[same]], after.timing.latency_ns[twos[same]]
    known = (latencies[0] != 0) & (latencies[1] != 0)
    times = latencies[1][known] / latencies[0][known]
    return TextCounts(
        prompts=_counts(before.timing.prompt_tokens[ones], after.timing.prompt_tokens[twos]),
        same=_counts(before.timing.output_tokens[ones[same]], after.timing.output_tokens[twos[same]]),
        characters=(int(before.records.characters[ones].sum()), int(after.records.characters[twos].sum())),
        tokens=(
            int(known_or_0(before.timing.output_tokens[ones]).sum()),
            int(known_or_0(after.timing.output_tokens[twos]).sum()),
        ),
        time_ratio=float(np.exp(np.log(times).mean())) if len(times) else None,
        prompt_bytes=int(before.asked.prompt_bytes[ones][_known(before, after, ones, twos)].sum()),
    )


def _known(before: TrialView, after: TrialView, ones: Ints, twos: Ints) -> Bools:
    """Whether the prompt tokens of both are known."""
    return (before.timing.prompt_tokens[ones] != UNKNOWN) & (after.timing.prompt_tokens[twos] != UNKNOWN)


def _counts(ones: Ints, twos: Ints) -> list[tuple[int, int]]:
    known = (ones != UNKNOWN) & (twos != UNKNOWN)
    return list(zip(ones[known].tolist(), twos[known].tolist(), strict=True))


def _other_sources(base: TrialView, trial: TrialView) -> tuple[str, str] | None:
    """Who counted the output tokens of the two trials, if it was not the same for nearly all requests."""
    ones, twos = paired(base, trial, *(one.timing.timed & ~one.refuted("output_tokens") for one in (base, trial)))
    pairs = base.timing.output_source[ones].astype(np.int64) * len(SOURCES) + trial.timing.output_source[twos]
    kinds: Counter[tuple[str, str]] = Counter()
    for pair, count in enumerate(np.bincount(pairs).tolist()):
        one, two = (_KINDS.get(SOURCES[code], SOURCES[code] or "nobody") for code in divmod(pair, len(SOURCES)))
        if count and one != two:
            kinds[one, two] += count
    if not kinds or kinds.total() <= thresholds.COUNTS_FAR_SHARE * len(ones):
        return None
    return kinds.most_common(1)[0][0]


_KINDS: dict[str | None, str] = {
    "usage": "the server",
    "timings": "the server",
    "token ids": "the server",
    "output events": "the pieces of text",
}


def _line(pairs: Sequence[tuple[int, int]]) -> tuple[float, float] | None:
    """Slope, and relative residual of nine in ten prompts, of the second count over the first; None where prompts are
    too alike in length."""
    table: Floats = np.array(pairs, np.float64)
    one, two = table[:, 0], table[:, 1]
    if len(pairs) < 3 or one.max() - one.min() < thresholds.TEMPLATE_TOKENS:
        return None
    slope, intercept = np.polyfit(one, two, 1)
    return float(slope), float(np.percentile(np.abs(two - (slope * one + intercept)) / np.maximum(two, 1), 90))


def _capped(far: Sequence[tuple[int, int]]) -> bool:
    """Whether long prompts of different lengths all have one number of tokens: the context's limit."""
    ones, twos = zip(*far, strict=True)
    return len(far) > 1 and max(twos) - min(twos) <= 2 and max(ones) - min(ones) > thresholds.TEMPLATE_TOKENS // 2


def _near(ratio: float, bound: float) -> bool:
    return 1 / bound <= ratio <= bound


def _time(found: TextCounts) -> str:
    if found.time_ratio is None:
        return ""
    return f"; an answer of equal text takes {found.time_ratio:.2f} × the time"
