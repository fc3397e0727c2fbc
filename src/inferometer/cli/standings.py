"""The state of a running study: a line for each running trial, the time left, and the differences so far."""

import math

from inferometer.analysis.live_difference import LiveDifferences
from inferometer.base.text import cells_wide, cut_middle
from inferometer.base.units import (
    bytes_text,
    duration_text,
    ms,
    ms_text,
    rate_per_s,
    rate_shown,
    rounded_percent,
    watts_text,
)
from inferometer.core.record import INTERRUPTED
from inferometer.core.spec import Spec
from inferometer.study.progress import (
    AskingProbabilities,
    CheckingAnswers,
    EngineReady,
    FindingRaised,
    OrderChosen,
    PlanReady,
    Progress,
    RequestsProgress,
    Settling,
    StoppingRuleChecked,
    TrialBegan,
    TrialEnded,
)

WIDTH = 99
_BAR = 12
_MOST_NAME = 26
_GAP = "  "


class Standings:
    """The state of the study. `spec`: None outside a study. `now_s` comes from any monotonic clock."""

    def __init__(self, spec: Spec | None = None) -> None:
        arms = [] if spec is None else list(spec.arms)
        self._takes_turns = spec is not None and not spec.parallel
        self._differences = LiveDifferences(arms[0] if arms else "")
        self._running: dict[str, _Trial] = {}
        self._time = _StudyTime()
        self._between = ""

    def heard(self, progress: Progress, now_s: float) -> str:
        """Updates the state; returns a line to print permanently, or ""."""
        if isinstance(progress, TrialBegan):
            self._running[progress.arm] = _Trial(progress, now_s)
            self._time.began(progress, now_s)
            self._between = ""
        elif isinstance(progress, EngineReady):
            self._running[progress.arm].doing = "warming up"
        elif isinstance(progress, RequestsProgress):
            self._play(progress, now_s)
        elif isinstance(progress, TrialEnded):
            return self._end(progress, now_s)
        else:
            return self._other(progress)
        return ""

    def lines(self, now_s: float, width: int = WIDTH) -> list[str]:
        """The lines to draw now: the round and the time left, then each running trial."""
        if not self._running:
            return [self._between] if self._between else []
        widest = max(cells_wide(cut_middle(arm, _MOST_NAME)) for arm in self._running)
        return [self._head(now_s), *(self._line(trial, now_s, widest, width) for trial in self._running.values())]

    def left_ns(self, now_s: float) -> int | None:
        """Estimated time to the end of the study, ns; None before the first request ends."""
        left_s = self._time.left_s(now_s)
        return None if left_s is None else round(left_s * 1e9)

    def whole_ns(self, now_s: float) -> int | None:
        """Estimated duration of the study, ns, from its first trial on."""
        left_ns = self.left_ns(now_s)
        return None if left_ns is None else left_ns + round(self._time.passed_s(now_s) * 1e9)

    def rate_text(self, played: RequestsProgress) -> str:
        """The arm's tokens per second so far. If the arms' requests take turns, only the time of this arm's requests
        counts."""
        trial = self._running.get(played.arm)
        if trial is not None and trial.took_ns and self._takes_turns and len(self._running) > 1:
            return f"{rate_shown(rate_per_s(trial.tokens * trial.most_in_flight, trial.took_ns))} tok/s"
        is_complete = played.tokens > 0 and played.ended == played.total
        tokens = played.tokens if is_complete else max(played.tokens, played.reads)
        return f"{rate_shown(rate_per_s(tokens, played.elapsed_ns))} tok/s"

    def difference_text(self, arm: str) -> str:
        """The arm's difference from the baseline so far, with its interval: `−7.4% (−20..+7)`; "" if unknown."""
        found = self._differences.of(arm)
        if found is None:
            return ""
        digits = 0 if found.high_percent - found.low_percent >= 10 else 1
        low, middle, high = (
            rounded_percent(end, digits) for end in (found.low_percent, found.percent, found.high_percent)
        )
        return f"{middle}% ({low}..{high})"

    def _play(self, progress: RequestsProgress, now_s: float) -> None:
        trial = self._running.get(progress.arm)
        if trial is None:
            return
        trial.play(progress)
        self._differences.add(progress.arm, trial.began.number, progress.answered)
        self._time.played(progress, now_s)

    def _end(self, progress: TrialEnded, now_s: float) -> str:
        trial = self._running.get(progress.arm)
        if progress.error:
            self._differences.forget(progress.arm, progress.number)
        said = ended_text(progress.error) or self._outcome(trial)
        self._time.ended(progress.arm, now_s)
        self._running.pop(progress.arm, None)
        return f"{progress.arm} #{progress.number}: {said}"

    def _outcome(self, trial: "_Trial | None") -> str:
        if trial is None or trial.played is None:
            return "done"
        played = trial.played
        failed = f" ({played.failed} failed)" if played.failed else ""
        parts = [f"{played.ended} requests{failed} in {duration_text(played.elapsed_ns)}", self.rate_text(played)]
        found = self.difference_text(played.arm)
        return ", ".join([*parts, *known_parts(played), *([f"{found} so far"] if found else [])])

    def _other(self, progress: Progress) -> str:
        match progress:
            case CheckingAnswers() | AskingProbabilities() | Settling():
                self._between = study_text(progress)
            case PlanReady(_, notes):
                return "\n".join(f"note: {note}" for note in notes)
            case FindingRaised(text):
                return f"! {text}"
            case _:
                return study_text(progress)
        return ""

    def _head(self, now_s: float) -> str:
        began = [trial.began for trial in self._running.values()]
        numbers = {one.number for one in began}
        first = began[0]
        where = f"trial {first.position} of {first.total}"
        if len(numbers) == 1 and first.of_arm:
            where = f"round {first.number} of {first.of_arm}"
        left = self.left_ns(now_s)
        return f"{where}, " + ("the time left is known soon" if left is None else f"{about_text(left)} left")

    def _line(self, trial: "_Trial", now_s: float, widest: int, width: int) -> str:
        """The trial in one line. Where the width does not suffice, the less important cells are left out."""
        arm = trial.began.arm
        name = cut_middle(arm, _MOST_NAME)
        name += " " * (widest - cells_wide(name))
        played = trial.played
        if played is None:
            return f"{_GAP}{name}{_GAP}{trial.doing}, {duration_text(int((now_s - trial.began_s) * 1e9))}"
        counts = f"{played.ended:>{len(str(played.total))}}/{played.total}"
        counts += f", {played.failed} failed" if played.failed else ""
        memory = "" if played.memory_bytes is None else bytes_text(played.memory_bytes)
        power = "" if played.power_w is None else f"{watts_text(played.power_w)} W"
        ttft = "" if played.ttft_ns is None else f"TTFT {ms_text(ms(played.ttft_ns))} ms"
        found = self.difference_text(arm)
        cells = [_bar(played), counts, self.rate_text(played), ttft, memory, power, found]
        for leave_out in (None, 5, 4, 3, 0):
            if leave_out is not None:
                cells[leave_out] = ""
            line = _GAP.join(["", name, *filter(None, cells)])
            if cells_wide(line) <= width:
                break
        return line


class _Trial:
    """One running trial. `tokens` and `took_ns`: of its answered requests."""

    def __init__(self, began: TrialBegan, now_s: float) -> None:
        self.began = began
        self.began_s = now_s
        self.doing = "starting the engine"
        self.played: RequestsProgress | None = None
        self.tokens = 0
        self.took_ns = 0
        self.most_in_flight = 1

    def play(self, progress: RequestsProgress) -> None:
        self.played = progress
        self.tokens += sum(one.tokens for one in progress.answered)
        self.took_ns += sum(one.took_ns for one in progress.answered)
        self.most_in_flight = max(self.most_in_flight, progress.in_flight)


class _StudyTime:
    """The time of a study by groups: trials that run at the same time, or a single trial."""

    def __init__(self) -> None:
        self._began_s: float | None = None
        self._group_began_s = 0.0
        self._play_began_s: float | None = None
        self._running: set[str] = set()
        self._group: set[str] = set()
        self._counts: dict[str, tuple[int, int]] = {}
        self._took_s: list[float] = []
        self._last = (0, 0)  # the highest position so far, and the number of trials

    def began(self, trial: TrialBegan, now_s: float) -> None:
        if self._began_s is None:
            self._began_s = now_s
        if not self._running:
            self._group_began_s, self._play_began_s = now_s, None
            self._group, self._counts = set(), {}
        self._running.add(trial.arm)
        self._group.add(trial.arm)
        self._last = (max(trial.position, self._last[0]), trial.total)

    def played(self, progress: RequestsProgress, now_s: float) -> None:
        if self._play_began_s is None:
            self._play_began_s = now_s - progress.elapsed_ns / 1e9
        self._counts[progress.arm] = (progress.ended, progress.total)

    def ended(self, arm: str, now_s: float) -> None:
        self._running.discard(arm)
        if not self._running and self._counts:  # trials whose engine did not start say nothing about the others
            self._took_s.append(now_s - self._group_began_s)

    def passed_s(self, now_s: float) -> float:
        return 0.0 if self._began_s is None else now_s - self._began_s

    def left_s(self, now_s: float) -> float | None:
        """None before the first request of the study has ended."""
        if not self._running:
            return None
        position, total = self._last
        groups_left = math.ceil((total - position) / max(1, len(self._group)))
        this_s = self._group_left_s(now_s)
        if this_s is None:
            if not self._took_s:
                return None
            this_s = max(0.0, sum(self._took_s) / len(self._took_s) - (now_s - self._group_began_s))
        whole_s = now_s - self._group_began_s + this_s
        return this_s + groups_left * (sum(self._took_s) + whole_s) / (len(self._took_s) + 1)

    def _group_left_s(self, now_s: float) -> float | None:
        ended = sum(done for done, _ in self._counts.values())
        if not ended or self._play_began_s is None:
            return None
        total = sum(count for _, count in self._counts.values())
        return (now_s - self._play_began_s) * (total - ended) / ended


# --- texts that plain lines share -----------------------------------------------------------------


def study_text(progress: Progress) -> str:
    """A progress event of the study as a whole as a sentence; "" for one of a trial."""
    match progress:
        case CheckingAnswers(done, total):
            return f"checking answers: {done} of {total}"
        case AskingProbabilities(arm, done, total):
            return f"fidelity: {arm}, {done} of {total} prompts"
        case Settling(why):
            return f"settling: {why}"
        case StoppingRuleChecked(enough, why):
            return f"interim analysis: {why}{'; stopping' if enough else ''}"
        case OrderChosen(order, why):
            return f"order: {order}, because {why}"
        case _:
            return ""


def ended_text(error: str) -> str:
    """How a trial with this error ended; "" for one that succeeded."""
    return "interrupted" if error == INTERRUPTED else "failed" if error else ""


def about_text(estimated_ns: int) -> str:
    """An estimated duration, without tenths of seconds."""
    seconds = round(estimated_ns / 1e9)
    return f"about {f'{seconds} s' if seconds < 60 else duration_text(seconds * 1e9)}"


def counts_text(played: RequestsProgress) -> str:
    parts = [f"{played.ended}/{played.total} requests"]
    parts += [f"{played.failed} failed"] if played.failed else []
    parts += [f"{played.in_flight} in flight"] if played.in_flight > 1 else []
    return ", ".join(parts)


def known_parts(played: RequestsProgress) -> list[str]:
    """Time to first token, memory and power, as far as they are known."""
    parts = [] if played.ttft_ns is None else [f"TTFT {ms_text(ms(played.ttft_ns))} ms (median)"]
    parts += [] if played.memory_bytes is None else [f"memory {bytes_text(played.memory_bytes)}"]
    return parts + ([] if played.power_w is None else [f"{watts_text(played.power_w)} W"])


def _bar(played: RequestsProgress) -> str:
    done = _BAR * played.ended // played.total if played.total else 0
    return f"[{'#' * done}{'-' * (_BAR - done)}]"
