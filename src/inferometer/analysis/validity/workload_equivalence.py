"""Checks that the arms did the same work, and that their answers are equal and sound."""

from collections import Counter
from collections.abc import Iterator, Sequence
from statistics import fmean, median
from typing import cast

import msgspec
import numpy as np

from inferometer.analysis import thresholds
from inferometer.analysis.degenerate import defect
from inferometer.analysis.validity.answers import examined_answers
from inferometer.analysis.validity.arm_trials import ArmTrials, same_rounds
from inferometer.analysis.validity.caching import cache_advice
from inferometer.core import quantities
from inferometer.core.grouped_values import Bools, Ints
from inferometer.core.record import Finding
from inferometer.core.record_columns import UNKNOWN
from inferometer.core.request import Message, Request
from inferometer.core.spec import Sampling
from inferometer.metrics import trial_columns
from inferometer.metrics.measures import TrialView, paired
from inferometer.metrics.request_columns import SOURCES, equal_texts, first_differences
from inferometer.metrics.row_inputs import RowInput
from inferometer.metrics.rows import METRICS_BY_KEY
from inferometer.metrics.significance import fisher_p_value
from inferometer.metrics.trial_measures import cached_prompt_tokens, total_output_tokens


def other_prompts(arms: Sequence[ArmTrials]) -> Iterator[Finding]:
    """Arms that played other requests, or used other sampling, than the baseline."""
    first, *others = arms
    for case in others:
        if case.plan != first.plan:
            mine, theirs = [list(arm.requests.values()) for arm in (case, first)]
            if Counter(request.messages for request in mine) != Counter(request.messages for request in theirs):
                severity, what = "invalid", f"different prompts from {first.name}"
            elif Counter(map(_work, mine)) != Counter(map(_work, theirs)):
                severity, what = "invalid", f"different lengths from {first.name}"
            else:
                severity = "warning"
                what = f"the requests of {first.name} with a different order, timing or concurrency"
            yield case.finding(
                severity,
                "other-work",
                f"it got {what} ({len(mine)} and {len(theirs)} requests).",
                "Use the same workload, seed and schedule for both, preferably in one study.",
            )
        if case.sampling != first.sampling:
            yield case.finding(
                "warning",
                "other-sampling",
                f"its sampling differs from {first.name}'s: {_sampling_difference(case.sampling, first.sampling)}.",
                "Use the same `sampling:` for both, unless you want to compare it.",
            )


def same_prompts(arms: Sequence[ArmTrials]) -> Iterator[Finding]:
    """Plans in which few prompts come again and again: a prefix cache answers them, and they sample little work."""
    prompts = Counter(request.messages for request in arms[0].requests.values())
    most, total = max(prompts.values(), default=0), prompts.total()
    is_one = most > thresholds.SAME_PROMPTS_SHARE * total
    if most >= thresholds.SAME_PROMPTS_LEAST and (is_one or len(prompts) <= thresholds.SAME_PROMPTS_FEW * total):
        said = f"{most} of {total} prompts are the same text" if is_one else f"{total} prompts are {len(prompts)} texts"
        yield Finding(
            "warning",
            "same-prompts",
            f"{said}: a prefix cache answers repeated prompts, and intervals cover these texts only.",
            "Use a data set with different prompts.",
        )


def _work(request: Request) -> tuple[tuple[Message, ...], int | None]:
    return request.messages, request.max_tokens


def _sampling_difference(sampling: Sampling, baseline: Sampling) -> str:
    """Each field that differs, with both values."""
    mine, theirs = msgspec.structs.asdict(sampling), msgspec.structs.asdict(baseline)
    return ", ".join(f"{name} {mine[name]}, not {theirs[name]}" for name in mine if mine[name] != theirs[name])


def token_totals(arms: Sequence[ArmTrials]) -> Iterator[Finding]:
    """Arms that generated more or fewer tokens than the baseline."""
    first, *others = arms
    base = _mean_total(first)
    for case in others:
        total = _mean_total(case)
        if not base or total is None:
            continue
        percent = 100 * (total - base) / base
        unseen = thresholds.COUNTS_SAME_TEXT_TOKENS * max(
            int(trial.timing.timed.sum()) for trial in case.done
        )  # end tokens
        if abs(percent) <= thresholds.TOKEN_TOTALS_PERCENT:
            continue
        said = (
            f"it generated {abs(percent):.1f}% {'more' if percent > 0 else 'fewer'} tokens than {first.name} "
            f"({total:.0f} and {base:.0f})."
        )
        held: tuple[RowInput, ...] = ("answer_lengths",)
        advice = "Compare rates, not durations, or fix the lengths (`ignore_eos: true`)."
        if _is_of_lengths(first, case, percent):
            held = ("answer_lengths", "prefill_share")
            advice = "Compare TTFT and TPOT: a prompt weighs less in longer answers. Or fix the lengths."
        if abs(total - base) > unseen:
            yield case.finding("warning", "token-totals", said, advice, withholds=held)
        elif percent * _more_characters(first, case) > thresholds.TOKEN_TOTALS_PERCENT * abs(percent):
            yield case.finding("note", "token-totals", said, advice, withholds=held)


def _is_of_lengths(first: ArmTrials, case: ArmTrials, percent: float) -> bool:
    """Whether throughput differs by about as much as `percent` more tokens explain: where the prompt takes the share s
    of an answer's time, an answer that is 10% longer has a throughput that is s · 10% higher."""
    rate = METRICS_BY_KEY["output_throughput"].measure
    rates = [[found for trial in arm.done if (found := rate.value(trial))] for arm in (first, case)]
    if not all(rates):
        return False
    base, mine = map(fmean, rates)
    explained = percent * max(_prefill_share(first), _prefill_share(case))
    shown = 100 * (mine - base) / base
    return (
        abs(shown) < thresholds.LENGTHS_EXPLAIN * abs(explained) and abs(explained) > thresholds.LENGTHS_LEAST_PERCENT
    )


def _prefill_share(case: ArmTrials) -> float:
    """TTFT of all answers over their time."""
    first_ns = sum(int(trial.timing.ttft_ns[trial.timing.timed].sum()) for trial in case.done)
    whole_ns = sum(int(trial.timing.latency_ns[trial.timing.timed].sum()) for trial in case.done)
    return first_ns / whole_ns if whole_ns else 0.0


def _more_characters(first: ArmTrials, case: ArmTrials) -> float:
    """How many more characters the arm wrote, percent: end tokens, which some servers count, have none."""
    before, after = (
        fmean([int(trial.records.characters[trial.timing.timed].sum()) for trial in arm.done]) for arm in (first, case)
    )
    return 100 * (after - before) / before if before else 0.0


def _mean_total(case: ArmTrials) -> float | None:
    totals = [total for trial in case.done if (total := total_output_tokens(trial)) is not None]
    return fmean(totals) if totals else None


def finish_reasons(arms: Sequence[ArmTrials]) -> Iterator[Finding]:
    """Arms whose answers end for other reasons than the baseline's."""
    first, *others = arms
    for case in others:
        unlike = [found for pair in same_rounds(first, case) if (found := _other_finish(*pair)) is not None]
        if unlike:
            reason, mine, theirs = max(unlike, key=lambda one: abs(one[1] - one[2]))
            yield case.finding(
                "warning",
                "finish-reasons",
                f"{mine:.0%} of its answers end with {reason!r}, but {theirs:.0%} of {first.name}'s.",
                "One arm stops earlier than the other: compare the outputs, and the end tokens of the models.",
            )


def _other_finish(base: TrialView, trial: TrialView) -> tuple[str, float, float] | None:
    """The first finish reason whose shares differ, with the shares; None where none does. Of two trials, because
    repeating the same prompts adds no evidence."""
    counted, base_counted = _finishes(trial), _finishes(base)
    if not counted or not base_counted:
        return None
    for reason in sorted(base_counted | counted):
        hits, base_hits = ((counts[reason], counts.total() - counts[reason]) for counts in (counted, base_counted))
        mine, theirs = (ended / (ended + rest) for ended, rest in (hits, base_hits))
        level = fisher_p_value(hits, base_hits)
        if abs(mine - theirs) > thresholds.FINISH_SHARE and level < thresholds.FINISH_LEVEL:
            return reason, mine, theirs
    return None


def _finishes(trial: TrialView) -> Counter[str]:
    found: Counter[str] = Counter()
    for reason, count in trial.records.finish_reasons.counted(trial.records.ok).items():
        found[reason or "none"] += count
    return found


# --- different output --------------------------------------------------------------------------


def other_output(arms: Sequence[ArmTrials]) -> Iterator[Finding]:
    """Greedy answers that differ from the baseline's, compared with how far the baseline agrees with itself between
    trials.
    """
    first, *others = arms
    if not others or not first.done or not _is_greedy(first.sampling):
        return
    control = least_agreement(first.done[:1], first.done[1:])
    for case in others:
        if case.plan != first.plan or not case.done or not _is_greedy(case.sampling):
            continue
        found = least_agreement(first.done[:1], case.done)
        if found is None:
            continue
        control_text = "" if control is None else f" ({first.name} between two trials: {control.text})"
        result = f"outputs identical to {first.name}: {found.text}{control_text}"
        if found.share >= thresholds.EVIDENCE_MATCHES:
            yield case.finding("note", "same-output", f"{result}.", "")
            continue
        worse = found.share < 1 - thresholds.OUTPUT_SHARE if control is None else _is_less(found, control)
        yield case.finding(
            "warning" if worse else "note",
            "other-output",
            f"{result}. {found.first_difference}",
            "A different quantisation or kernel may change tokens: check that the answers are equally good."
            if worse
            else "",
        )


def not_repeated(arms: Sequence[ArmTrials]) -> Iterator[Finding]:
    """A baseline whose greedy answers differ between its own trials."""
    first = arms[0]
    if not _is_greedy(first.sampling):
        return
    found = least_agreement(first.done[:1], first.done[1:])
    least = 1 - thresholds.OUTPUT_SHARE if first.concurrency == 1 else thresholds.REPEAT_SHARE
    if found is not None and found.share < least:
        yield first.finding(
            "warning",
            "not-repeated",
            f"only {found.text} of its greedy answers are the same in another trial. {found.first_difference}",
            "Its answers say nothing about another arm's. Check that the server uses temperature 0, one model and one "
            "build.",
        )


def least_agreement(baselines: Sequence[TrialView], trials: Sequence[TrialView]) -> "Agreement | None":
    """The lowest agreement of any of `trials` with any of `baselines`; None if nothing can be compared."""
    found = [agreement(one, other) for one in baselines for other in trials if not _other_prefixes(one, other)]
    return min((one for one in found if one is not None), key=lambda one: one.share, default=None)


def _other_prefixes(one: TrialView, other: TrialView) -> bool:
    """Whether the prompts began with a number against a prefix cache: then greedy answers may differ."""
    facts = [fact for trial in (one, other) for fact in trial.trial.facts]
    return any(fact.name == quantities.PREFIX_CACHE and fact.value == "prefix" for fact in facts)


class Agreement(msgspec.Struct, frozen=True):
    """`same` of `compared` texts are equal. `first_difference`: a sentence with the positions of differences."""

    same: int
    compared: int
    first_difference: str

    @property
    def share(self) -> float:
        return self.same / self.compared

    @property
    def text(self) -> str:
        return f"{self.same}/{self.compared}"


def agreement(first: TrialView, second: TrialView) -> Agreement | None:
    """Agreement of the texts of two trials, request by request; None if no request was answered in both."""
    found = first.cached(("agreement", id(second)), lambda first: (_agreement(first, second),))
    return found[0]


def _agreement(first: TrialView, second: TrialView) -> Agreement | None:
    ones, twos = paired(first, second, first.records.ok, second.records.ok)
    if not len(ones):
        return None
    unlike = ~equal_texts(first.records.texts, second.records.texts, ones, twos)
    silent = first.records.has_silent_text[ones] | second.records.has_silent_text[twos]
    for place in np.flatnonzero(silent).tolist():
        unlike[place] = first.records.all_output(ones[place]) != second.records.all_output(twos[place])
    text = ""
    if unlike.any():
        ones, twos, silent = ones[unlike], twos[unlike], silent[unlike]
        positions = _first_differences(first, second, ones, twos, silent)
        ids = second.records.request_ids
        names = [ids[two] for two in cast("list[int]", twos.tolist())]
        position, name = min(zip(positions, names, strict=True))
        text = (
            f"The earliest difference is at character {position} of {name}; the median position is "
            f"{int(median(positions))}."
        )
    return Agreement(len(unlike) - int(unlike.sum()), len(unlike), text)


def _first_differences(first: TrialView, second: TrialView, ones: Ints, twos: Ints, silent: Bools) -> list[int]:
    """The character at which each pair of texts differs first."""
    positions = first_differences(first.records.texts, second.records.texts, ones, twos).tolist()
    for place in np.flatnonzero(silent).tolist():
        outputs = first.records.all_output(ones[place]), second.records.all_output(twos[place])
        positions[place] = common_length(*outputs)
    return positions


def common_length(first: str, second: str) -> int:
    """Length of the common prefix of two texts, characters."""
    low, high = 0, min(len(first), len(second))
    while low < high:
        middle = (low + high + 1) // 2
        if first[low:middle] == second[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low


def _is_less(found: Agreement, control: Agreement) -> bool:
    mine, theirs = ((result.same, result.compared - result.same) for result in (found, control))
    level = fisher_p_value(mine, theirs, less=True)
    return control.share - found.share > thresholds.OUTPUT_SHARE and level < thresholds.OUTPUT_LEVEL


def _is_greedy(sampling: Sampling) -> bool:
    return sampling.extra_body.get("temperature", sampling.temperature) == 0


# --- degenerate output ----------------------------------------------------------------------------


def degenerate_output(arms: Sequence[ArmTrials]) -> Iterator[Finding]:
    """Arms with many broken answers, or with more broken answers than another arm."""
    counts: dict[str, tuple[int, int]] = {}  # broken and sound answers
    for case in arms:
        found = [_defects(trial) for trial in case.done if trial.records.ok.any()]
        if not found:
            continue
        kinds, answers = max(found, key=lambda one: one[0].total() / one[1])  # the worst trial
        counts[case.name] = (kinds.total(), answers - kinds.total())
        if kinds.total() / answers > thresholds.DEGENERATE_SHARE:
            by_kind = ", ".join(f"{kind} {count}" for kind, count in kinds.most_common())
            yield case.finding(
                "warning",
                "degenerate",
                f"{kinds.total()} of {answers} answers are broken ({by_kind}). "
                "Loops are easy to draft, so that speed is overstated.",
                "Look at the outputs; try other prompts, the model's chat template, or a better quantisation.",
            )
    if not counts:
        return
    shares = {name: broken / (broken + sound) for name, (broken, sound) in counts.items()}
    best = min(shares, key=lambda name: shares[name])
    for name, share in shares.items():
        level = fisher_p_value(counts[name], counts[best])
        if share - shares[best] > thresholds.DEGENERATE_EXCESS and level < thresholds.DEGENERATE_LEVEL:
            yield Finding(
                "invalid",
                "degenerate",
                f"{share:.0%} of its answers are broken, but {shares[best]:.0%} of {best}'s: "
                "speed with different output is not a speed-up.",
                "Find out why this arm's answers are broken before you compare its speed.",
                name,
            )


def _defects(trial: TrialView) -> tuple[Counter[str], int]:
    """Kinds of broken answers among those that are examined, and their number."""
    places = examined_answers(trial)
    short = _ended_early(trial)
    found = ("shorter than the requested length" if short[place] else _defect(trial, place) for place in places)
    return Counter(filter(None, found)), len(places)


def _ended_early(trial: TrialView) -> Bools:
    """Whether each answer claims to have reached the requested length with fewer tokens."""
    timing, reasons = trial.timing, trial.records.finish_reasons
    at_limit = np.array([word == "length" for word in reasons.words], np.bool_)[reasons.codes]
    by_server = np.isin(timing.output_source, [SOURCES.index("usage"), SOURCES.index("timings")])
    return at_limit & timing.timed & by_server & (timing.output_tokens < trial.asked.max_tokens)


def _defect(trial: TrialView, place: int) -> str:
    text = trial.records.answer(place)
    if text.strip():
        return defect(text)
    if trial.records.has("tool")[place]:
        return ""  # a tool call is an answer
    return defect(trial.records.all_output(place))  # reasoning that max_tokens cut off, or nothing


# --- the prefix cache -----------------------------------------------------------------------------


def cache_helped(arms: Sequence[ArmTrials]) -> Iterator[Finding]:
    """Prompt tokens from the prefix cache beyond what the plan's prompts share."""
    excess: dict[str, float] = {}
    for case in arms:
        if all(cached_prompt_tokens(trial) is None for trial in case.done):
            continue
        implied = _implied_shares(case)
        shares = [share for trial in case.done if (share := _excess_share(trial, implied)) is not None]
        if shares:
            excess[case.name] = max(shares)
    for case in arms:
        share = excess.get(case.name, 0.0)
        if share <= thresholds.CACHE_SHARE:
            continue
        is_unequal = share - min(excess.values()) > thresholds.CACHE_SHARE
        silent = [other.name for other in arms if other.done and other.name not in excess]
        yield case.finding(
            "invalid" if is_unequal else "warning",
            "cache-helped",
            f"{share:.0%} of its prompt tokens came from the prefix cache, beyond what the prompts share"
            + (". Other arms had to process them." if is_unequal else ".")
            + (f" {', '.join(silent)}: the server does not report its cache." if silent else ""),
            cache_advice(case),
            withholds=() if is_unequal or not silent else ("work",),
        )


def _excess_share(trial: TrialView, implied: dict[int, float]) -> float | None:
    """Cached tokens beyond the implied ones, as a share of all prompt tokens; None if the server reports no cache."""
    taken, prompt = trial_columns.cached_prompt_tokens(trial), trial.timing.prompt_tokens
    known = trial.timing.timed & (taken != UNKNOWN) & (prompt != UNKNOWN)
    shares = np.array([implied.get(index, 0.0) for index in trial.index[known].tolist()])
    excess = np.maximum(0.0, taken[known] - (shares * prompt[known] + thresholds.CACHE_TEMPLATE_TOKENS)).sum()
    total = prompt[known].sum()
    return float(excess / total) if total else None


def _implied_shares(case: ArmTrials) -> dict[int, float]:
    """For each prompt, the share that is also the start of an earlier prompt of the plan."""
    prompts = [request.prompt for _, request in sorted(case.requests.items())]
    ranked = sorted(range(len(prompts)), key=prompts.__getitem__)
    before = dict(zip(ranked, [-1, *ranked], strict=False))
    after = dict(zip(ranked, [*ranked[1:], -1], strict=False))
    shares: list[float] = []
    for place in reversed(range(len(prompts))):  # without the later prompts, its neighbours are earlier ones
        left, right = before[place], after[place]
        before[right], after[left] = left, right
        prompt = prompts[place]
        shared = max((common_length(prompt, prompts[near]) for near in (left, right) if near >= 0), default=0)
        shares.append(shared / max(1, len(prompt)))
    return dict(zip(sorted(case.requests), reversed(shares), strict=True))
