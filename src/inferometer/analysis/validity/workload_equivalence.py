"""Did the arms do the same work, and is what they wrote the same, and sound?"""

import bisect
from collections import Counter
from collections.abc import Iterator, Sequence
from statistics import fmean, median

import msgspec

from inferometer.analysis import thresholds
from inferometer.analysis.degenerate import broken
from inferometer.analysis.validity.arm_trials import ArmTrials
from inferometer.core.record import OUTPUT_KINDS, Finding, RequestRecord
from inferometer.core.request import Message, Request
from inferometer.core.spec import Sampling
from inferometer.metrics.measures import RequestView, TrialView
from inferometer.metrics.request_measures import cached_tokens
from inferometer.metrics.statistics import fisher_p_value
from inferometer.metrics.trial_measures import total_output_tokens


def other_prompts(cases: Sequence[ArmTrials]) -> Iterator[Finding]:
    first, *others = cases
    for case in others:
        if case.plan != first.plan:
            mine, theirs = [list(one.requests.values()) for one in (case, first)]
            if Counter(request.messages for request in mine) != Counter(request.messages for request in theirs):
                severity, what = "invalid", f"other prompts than {first.name}"
            elif Counter(map(_work, mine)) != Counter(map(_work, theirs)):
                severity, what = "invalid", f"other lengths than {first.name}"
            else:
                severity = "warning"
                what = f"the same as {first.name} in another order, at other times, or so many at once"
            yield case.finding(
                severity,
                "other-work",
                f"it was asked for {what} ({len(mine)} and {len(theirs)} requests).",
                "Give both the same workload, seed and schedule, best in one study.",
            )
        if case.sampling != first.sampling:
            yield case.finding(
                "warning",
                "other-sampling",
                f"its sampling is not that of {first.name}: {_unlike(case.sampling, first.sampling)}.",
                "Give both the same `sampling:`, unless that is what you compare.",
            )


def _work(request: Request) -> tuple[tuple[Message, ...], int | None]:
    return request.messages, request.max_tokens


def _unlike(one: Sampling, other: Sampling) -> str:
    """Each field in which they differ, with both values."""
    mine, theirs = msgspec.structs.asdict(one), msgspec.structs.asdict(other)
    return ", ".join(f"{name} {mine[name]} against {theirs[name]}" for name in mine if mine[name] != theirs[name])


def token_totals(cases: Sequence[ArmTrials]) -> Iterator[Finding]:
    first, *others = cases
    base = _mean_total(first)
    for case in others:
        total = _mean_total(case)
        if not base or total is None:
            continue
        percent = 100 * (total - base) / base
        if abs(percent) > thresholds.TOKEN_TOTALS_PERCENT:
            yield case.finding(
                "warning",
                "token-totals",
                f"it generated {percent:+.1f}% tokens against {first.name} ({total:.0f} and {base:.0f}).",
                "Compare rates rather than durations, or fix the lengths (`ignore_eos: true`).",
            )


def _mean_total(case: ArmTrials) -> float | None:
    totals = [total for trial in case.done if (total := total_output_tokens(trial)) is not None]
    return fmean(totals) if totals else None


def finish_reasons(cases: Sequence[ArmTrials]) -> Iterator[Finding]:
    first, *others = cases
    base = _finishes(first)
    for case in others:
        found = _finishes(case)
        if not base or not found:
            continue
        for reason in sorted(base | found):
            ours, bases = ((own[reason], own.total() - own[reason]) for own in (found, base))
            mine, theirs = (hits / (hits + rest) for hits, rest in (ours, bases))
            level = fisher_p_value(ours, bases)
            if abs(mine - theirs) > thresholds.FINISH_SHARE and level < thresholds.FINISH_LEVEL:
                yield case.finding(
                    "warning",
                    "finish-reasons",
                    f"{mine:.0%} of its answers end by {reason!r} against {theirs:.0%} of {first.name}'s.",
                    "One arm stops earlier than the other: compare the outputs, and the end tokens of the two models.",
                )
                break


def _finishes(case: ArmTrials) -> Counter[str]:
    """Of the first done trial: the same prompts again are no further evidence."""
    trials = case.done[:1]
    return Counter(r.record.finish_reason or "none" for trial in trials for r in trial.requests if r.record.ok)


# --- not the same output --------------------------------------------------------------------------


def other_output(cases: Sequence[ArmTrials]) -> Iterator[Finding]:
    """Greedy text request by request, against how far the baseline agrees with itself in another trial."""
    first, *others = cases
    if not others or not first.done or not _is_greedy(first.sampling):
        return
    baseline, *again = first.done
    itself = agreement(baseline, again[-1]) if again else None
    for case in others:
        if case.plan != first.plan or not case.done or not _is_greedy(case.sampling):
            continue
        found = agreement(baseline, case.done[0])
        if found is None:
            continue
        control = "" if itself is None else f"; {first.name} with itself {itself.text}"
        said = f"{found.text} answers are {first.name}'s to the letter{control}"
        if found.share >= thresholds.EVIDENCE_MATCHES:
            yield case.finding("note", "same-output", f"{said}.", "")
            continue
        worse = found.share < 1 - thresholds.OUTPUT_SHARE if itself is None else _is_less(found, itself)
        yield case.finding(
            "warning" if worse else "note",
            "other-output",
            f"{said}. {found.first_difference}",
            "Another quantisation or kernel may change a token; make sure that the answers are as good."
            if worse
            else "",
        )


class Agreement(msgspec.Struct, frozen=True):
    """`same` of `compared` texts are alike. `first_difference`: where the earliest one is, in words."""

    same: int
    compared: int
    first_difference: str

    @property
    def share(self) -> float:
        return self.same / self.compared

    @property
    def text(self) -> str:
        return f"{self.same} of {self.compared}"


def agreement(one: TrialView, other: TrialView) -> Agreement | None:
    """Of the texts of two trials, by request; None where no request was answered in both."""
    texts = {request.record.index: _output(request.record) for request in one.requests if request.record.ok}
    same = 0
    places: list[tuple[int, str]] = []
    for request in other.requests:
        record = request.record
        if not record.ok or record.index not in texts:
            continue
        before, after = texts[record.index], _output(record)
        if before == after:
            same += 1
        else:
            places.append((common_length(before, after), record.request_id))
    if not same and not places:
        return None
    said = ""
    if places:
        middle = int(median(place for place, _ in places))
        place, name = min(places)
        said = f"The first difference is at character {place} of {name}; in the middle case at {middle}."
    return Agreement(same, same + len(places), said)


def _output(record: RequestRecord) -> str:
    """All that the model wrote: thoughts and tool calls too."""
    return "".join(event.text for event in record.events if event.kind in OUTPUT_KINDS)


def common_length(one: str, other: str) -> int:
    """How many characters two texts share from their beginning."""
    length = min(len(one), len(other))
    return next((i for i in range(length) if one[i] != other[i]), length)


def _is_less(found: Agreement, control: Agreement) -> bool:
    mine, theirs = ((own.same, own.compared - own.same) for own in (found, control))
    level = fisher_p_value(mine, theirs, less=True)
    return control.share - found.share > thresholds.OUTPUT_SHARE and level < thresholds.OUTPUT_LEVEL


def _is_greedy(sampling: Sampling) -> bool:
    return sampling.extra_body.get("temperature", sampling.temperature) == 0


# --- degenerate output ----------------------------------------------------------------------------


def degenerate_output(cases: Sequence[ArmTrials]) -> Iterator[Finding]:
    counts: dict[str, tuple[int, int]] = {}  # broken and sound answers
    for case in cases:
        kinds = Counter(kind for trial in case.done[:1] for r in trial.requests if (kind := _broken(r, case)))
        answers = sum(r.record.ok for trial in case.done[:1] for r in trial.requests)
        if not answers:
            continue
        counts[case.name] = (kinds.total(), answers - kinds.total())
        if kinds.total() / answers > thresholds.DEGENERATE_SHARE:
            said = ", ".join(f"{kind} {count}" for kind, count in kinds.most_common())
            yield case.finding(
                "warning",
                "degenerate",
                f"{kinds.total()} of {answers} answers are broken ({said}): loops are easy to draft and to predict.",
                "Look at the outputs; try other prompts, the model's chat template, or a better quantisation.",
            )
    if not counts:
        return
    shares = {name: broken_ones / (broken_ones + sound) for name, (broken_ones, sound) in counts.items()}
    best = min(shares, key=lambda name: shares[name])
    for name, share in shares.items():
        level = fisher_p_value(counts[name], counts[best])
        if share - shares[best] > thresholds.DEGENERATE_EXCESS and level < thresholds.DEGENERATE_LEVEL:
            yield Finding(
                "invalid",
                "degenerate",
                f"{share:.0%} of its answers are broken against {shares[best]:.0%} of {best}'s: "
                "speed at another output is no speed-up.",
                "Find out what broke this arm before comparing its speed.",
                name,
            )


def _broken(request: RequestView, case: ArmTrials) -> str:
    record = request.record
    if not record.ok:
        return ""
    asked = case.requests.get(record.index)
    short = (
        record.finish_reason == "length"
        and asked is not None
        and asked.max_tokens is not None
        and request.timing is not None
        and request.timing.output_source in ("usage", "timings")
        and (request.timing.output_tokens or 0) < asked.max_tokens
    )
    if short:
        return "cut short of the length asked"
    if record.text.strip():
        return broken(record.text)
    kinds = {event.kind for event in record.events}
    if "tool" in kinds:
        return ""  # a call is an answer
    return broken(_output(record))  # a thought that max_tokens ended, or nothing


# --- the prefix cache -----------------------------------------------------------------------------


def cache_helped(cases: Sequence[ArmTrials]) -> Iterator[Finding]:
    excess: dict[str, float] = {}
    for case in cases:
        implied = _implied_shares(case)
        shares = [share for trial in case.done if (share := _excess_share(trial, implied)) is not None]
        if shares:
            excess[case.name] = max(shares)
    for case in cases:
        share = excess.get(case.name, 0.0)
        if share <= thresholds.CACHE_SHARE:
            continue
        unlike = share - min(excess.values()) > thresholds.CACHE_SHARE
        yield case.finding(
            "invalid" if unlike else "warning",
            "cache-helped",
            f"{share:.0%} of its prompt tokens came from the prefix cache beyond what the prompts share"
            + (": the other arms had to read them." if unlike else "."),
            "Start the engine anew for each trial (`restart: always`), or switch its prefix cache off "
            "(llama.cpp: `sampling: {extra_body: {cache_prompt: false}}`; vLLM: --no-enable-prefix-caching).",
        )


def _excess_share(trial: TrialView, implied: dict[int, float]) -> float | None:
    """Cached beyond implied, of all prompt tokens; None where the server told of no cache."""
    excess = total = 0.0
    for request in trial.requests:
        taken, prompt = cached_tokens(request.record), request.timing.prompt_tokens if request.timing else None
        if taken is None or prompt is None:
            continue
        total += prompt
        allowed = implied.get(request.record.index, 0.0) * prompt + thresholds.CACHE_TEMPLATE_TOKENS
        excess += max(0.0, taken - allowed)
    return excess / total if total else None


def _implied_shares(case: ArmTrials) -> dict[int, float]:
    """Of each prompt, the share that an earlier one of the plan began with too."""
    earlier: list[str] = []
    found: dict[int, float] = {}
    for index, request in sorted(case.requests.items()):
        prompt = request.prompt
        place = bisect.bisect(earlier, prompt)
        near = earlier[max(0, place - 1) : place + 1]
        found[index] = max((common_length(prompt, one) for one in near), default=0) / max(1, len(prompt))
        earlier.insert(place, prompt)
    return found
