"""Progress on standard error: a few lines redrawn in place on a terminal, plain lines elsewhere."""

import contextlib
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator

from inferometer.base.text import escape_for_display
from inferometer.base.units import bytes_text, duration_text, ms, ms_text, rate_per_s, rate_shown, watts_text
from inferometer.core import quantities
from inferometer.core.record import INTERRUPTED
from inferometer.study.progress import (
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

_LINE_EVERY_S = 5.0
_NOW_NS = 3_000_000_000
"""Window of the current token rate, ns."""
_BAR = 24


@contextlib.contextmanager
def display(quiet: bool) -> Iterator[Callable[[Progress], None]]:
    """Yields a function that shows one progress event. With `quiet` it shows nothing."""
    if quiet:
        yield lambda progress: None
    elif is_drawn(os.environ) and sys.stderr.isatty():
        with _drawn() as show:
            yield show
    else:
        yield _Lines().show


def is_drawn(env: "os._Environ[str] | dict[str, str]") -> bool:
    """Whether lines can be redrawn in place. In CI they cannot: its log keeps every line."""
    return env.get("TERM", "") not in ("", "dumb", "unknown") and not env.get("CI")


class Standings:
    """The state of the study: one `Standing` for each running trial. `now_s` comes from any monotonic clock."""

    def __init__(self) -> None:
        self._of: dict[str, Standing] = {}
        self._took_s: list[float] = []  # durations of finished trials

    def heard(self, progress: Progress, now_s: float) -> str:
        """Updates the state; returns a line to print permanently, or ""."""
        arm = getattr(progress, "arm", "")
        if arm:
            self._of.pop("", None)  # the state between two trials
        arm = arm or next(iter(self._of), "")
        said = self._of.setdefault(arm, Standing(self._took_s)).heard(progress, now_s)
        if isinstance(progress, TrialEnded):
            del self._of[arm]
        return said

    def lines(self, now_s: float) -> list[str]:
        """The lines to draw now."""
        return [line for standing in self._of.values() for line in standing.lines(now_s)]


class Standing:
    """The state of one trial. `took_s`: durations of the study's finished trials; this trial is appended at its end."""

    def __init__(self, took_s: list[float]) -> None:
        self._trial: TrialBegan | None = None
        self._played: RequestsProgress | None = None
        self._doing = ""
        self._began_s = 0.0
        self._recent: deque[tuple[int, int]] = deque()
        self._took_s = took_s

    def heard(self, progress: Progress, now_s: float) -> str:
        """Updates the state; returns a line to print permanently, or ""."""
        match progress:
            case TrialBegan():
                self._trial, self._played, self._began_s = progress, None, now_s
                self._doing = "starting the engine"
                self._recent.clear()
            case EngineReady():
                self._doing = "warming up"
            case RequestsProgress():
                self._doing, self._played = "", progress
                self._recent.append((progress.elapsed_ns, max(progress.tokens, progress.reads)))
                while len(self._recent) > 2 and progress.elapsed_ns - self._recent[0][0] > _NOW_NS:
                    self._recent.popleft()
            case TrialEnded(arm, number, error):
                self._took_s.append(now_s - self._began_s)
                said = _ended(error) or self._outcome()
                self._doing, self._played, self._trial = "", None, None
                return f"{arm} #{number}: {said}"
            case CheckingAnswers(done, total):
                self._doing = f"checking answers: {done} of {total}"
            case Settling(why):
                self._doing = f"settling: {why}"
            case PlanReady(_, notes):
                return "\n".join(f"note: {note}" for note in notes)
            case FindingRaised(text):
                return f"! {text}"
            case StoppingRuleChecked() | OrderChosen():
                return sentence(progress)
        return ""

    def lines(self, now_s: float) -> list[str]:
        """The lines to draw now: position in the study, progress of the plan, and its numbers."""
        if self._trial is None:
            return [self._doing] if self._doing else []
        trial = self._trial
        of_arm = f" of {trial.of_arm}" if trial.of_arm else ""
        first = f"{trial.arm}, trial {trial.number}{of_arm} ({trial.position} of {trial.total} in all)"
        left = self.study_left_ns(now_s)
        if left is not None and trial.total > 1:
            first += f", {duration_text(left)} left"
        if self._played is None:
            for_s = duration_text(int((now_s - self._began_s) * 1e9))
            return [first, f"  {self._doing}, {for_s}"]
        return [first, f"  {_bar(self._played)} {_counts(self._played)}", f"  {self._numbers()}"]

    def study_left_ns(self, now_s: float) -> int | None:
        """Estimated time to the end of the study, ns; None before the first request ends."""
        trial = self._trial
        if trial is None or self._played is None:
            return None
        left = left_ns(self._played)
        if left is None:
            if self._played.ended < self._played.total:
                return None
            left = 0
        this_s = now_s - self._began_s + left / 1e9
        each_s = sum([*self._took_s, this_s]) / (len(self._took_s) + 1)
        return left + int(each_s * 1e9) * (trial.total - trial.position)

    def now_per_s(self) -> float | None:
        """Tokens per second in the last 3 s."""
        if len(self._recent) < 2:
            return None
        (from_ns, before), (to_ns, after) = self._recent[0], self._recent[-1]
        return rate_per_s(after - before, to_ns - from_ns)

    def _numbers(self) -> str:
        assert self._played is not None
        played, now = self._played, self.now_per_s()
        overall = rate_per_s(max(played.tokens, played.reads), played.elapsed_ns)
        if now is None or played.worked_ns:
            parts = [rate_text(played)]
        else:
            parts = [f"{rate_shown(now)} tok/s now, {rate_shown(overall)} overall"]
        return ", ".join([*parts, *_known(played)])

    def _outcome(self) -> str:
        played = self._played
        if played is None:
            return "done"
        failed = f" ({played.failed} failed)" if played.failed else ""
        parts = [f"{played.ended} requests{failed} in {duration_text(played.elapsed_ns)}", rate_text(played)]
        return ", ".join([*parts, *_known(played)])


def sentence(progress: Progress) -> str:
    """The progress event as a sentence, or "" if it has no news."""
    match progress:
        case TrialBegan(arm, number, position, total):
            return f"trial {position}/{total}: {arm} #{number}, starting its engine"
        case EngineReady(arm, after_ns, endpoint):
            versions = [fact.value for fact in endpoint.facts if fact.name == quantities.ENGINE_VERSION]
            known = f" ({versions[0]})" if versions else ""
            return f"  {arm}: ready after {duration_text(after_ns)}{known} at {endpoint.shown_url}"
        case PlanReady(plan, notes):
            first = f"  plan: {len(plan.measured)} requests after {len(plan.warmups)} warm-up(s)"
            return "\n".join([first, *(f"  note: {note}" for note in notes)])
        case RequestsProgress():
            return f"  {progress.arm}: " + ", ".join([_counts(progress), rate_text(progress), *_known(progress)])
        case CheckingAnswers(done, total):
            return f"checking answers: {done} of {total}"
        case FindingRaised(text):
            return f"  ! {text}"
        case TrialEnded(arm, number, error):
            return f"  {arm} #{number}: {_ended(error) or 'done'}"
        case Settling(why):
            return f"settling: {why}"
        case StoppingRuleChecked(enough, why):
            return f"interim analysis: {why}{'; stopping' if enough else ''}"
        case OrderChosen(order, why):
            return f"order: {order}, because {why}"


def _ended(error: str) -> str:
    """How a trial with this error ended; "" for one that succeeded."""
    return "interrupted" if error == INTERRUPTED else "failed" if error else ""


def rate_text(played: RequestsProgress) -> str:
    """Tokens per second so far: the server's counts of finished requests, or our reads if they are larger. With
    interleaved requests, per second of the arm's own turns."""
    if played.worked_ns:  # turns that have ended; reads may be of the one that has not
        return f"{rate_shown(rate_per_s(played.tokens or played.reads, played.worked_ns))} tok/s in its turns"
    rate = rate_per_s(max(played.tokens, played.reads), played.elapsed_ns)
    return f"{rate_shown(rate)} tok/s"


def left_ns(played: RequestsProgress) -> int | None:
    """Estimated time to the end of the plan, ns; None before the first request ends."""
    if not played.ended or played.ended == played.total:
        return None
    return played.elapsed_ns * (played.total - played.ended) // played.ended


def _counts(played: RequestsProgress) -> str:
    parts = [f"{played.ended}/{played.total} requests"]
    parts += [f"{played.failed} failed"] if played.failed else []
    parts += [f"{played.in_flight} in flight"] if played.in_flight > 1 else []
    left = left_ns(played)
    return ", ".join(parts + ([f"{duration_text(left)} left"] if left is not None else []))


def _known(played: RequestsProgress) -> list[str]:
    """Time to first token, memory and power, as far as they are known."""
    parts = [] if played.ttft_ns is None else [f"TTFT {ms_text(ms(played.ttft_ns))} ms (median)"]
    parts += [] if played.memory_bytes is None else [f"memory {bytes_text(played.memory_bytes)}"]
    return parts + ([] if played.power_w is None else [f"{watts_text(played.power_w)} W"])


def _bar(played: RequestsProgress) -> str:
    done = _BAR * played.ended // played.total if played.total else 0
    return f"[{'#' * done}{'-' * (_BAR - done)}]"


class _Lines:
    """Plain lines: each change of state, and the progress of the plan every few seconds."""

    def __init__(self) -> None:
        self._last_s = 0.0
        self._end_shown: set[str] = set()

    def show(self, progress: Progress) -> None:
        if isinstance(progress, RequestsProgress):
            is_last = progress.ended == progress.total
            shown = progress.arm in self._end_shown
            if shown or (not is_last and time.monotonic() - self._last_s < _LINE_EVERY_S):
                return
            self._last_s = time.monotonic()
            if is_last:
                self._end_shown.add(progress.arm)
        elif isinstance(progress, Settling):
            if time.monotonic() - self._last_s < _LINE_EVERY_S:
                return
            self._last_s = time.monotonic()
        elif isinstance(progress, TrialBegan):
            self._last_s = time.monotonic()
            self._end_shown.discard(progress.arm)
        print(escape_for_display(sentence(progress), lines=True), file=sys.stderr, flush=True)


@contextlib.contextmanager
def _drawn() -> Iterator[Callable[[Progress], None]]:
    """Lines at the bottom of the terminal, redrawn four times a second by a separate thread and removed at the end."""
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    standing = Standings()
    console = Console(stderr=True, highlight=False)
    turn = threading.Lock()  # the drawing thread reads what the main thread writes

    def drawn() -> Text:
        with turn:
            lines = [escape_for_display(line) for line in standing.lines(time.monotonic())]
        return Text("\n".join(lines), no_wrap=True, overflow="ellipsis")

    with Live(console=console, get_renderable=drawn, refresh_per_second=4, transient=True):

        def show(progress: Progress) -> None:
            with turn:
                said = standing.heard(progress, time.monotonic())
            if said:
                console.print(Text(escape_for_display(said, lines=True)))

        yield show
