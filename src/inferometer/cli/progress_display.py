"""Progress on standard error: lines redrawn in place on a terminal, plain lines elsewhere."""

import contextlib
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator

from inferometer.base.text import escape_for_display
from inferometer.base.units import duration_text
from inferometer.cli.standings import WIDTH, Standings, about_text, counts_text, ended_text, known_parts, study_text
from inferometer.core import quantities
from inferometer.core.spec import Spec
from inferometer.study.progress import (
    EngineReady,
    FindingRaised,
    PlanReady,
    Progress,
    RequestsProgress,
    Settling,
    TrialBegan,
    TrialEnded,
)

_LINE_EVERY_S = 5.0


@contextlib.contextmanager
def display(quiet: bool, spec: Spec | None = None) -> Iterator[Callable[[Progress], None]]:
    """Yields a function that shows one progress event. With `quiet` it shows nothing. `spec`: of the running study."""
    if quiet:
        yield lambda progress: None
    elif is_drawn(os.environ) and sys.stderr.isatty():
        with _drawn(spec) as show:
            yield show
    else:
        yield _Lines(spec).show


def is_drawn(env: "os._Environ[str] | dict[str, str]") -> bool:
    """Whether lines can be redrawn in place. In CI they cannot: its log keeps every line."""
    return env.get("TERM", "") not in ("", "dumb", "unknown") and not env.get("CI")


def sentence(progress: Progress, standings: Standings) -> str:
    """The progress event as a sentence."""
    match progress:
        case TrialBegan(arm, number, position, total):
            return f"trial {position}/{total}: {arm} #{number}, waiting for its engine"
        case EngineReady(arm, after_ns, endpoint):
            versions = [fact.value for fact in endpoint.facts if fact.name == quantities.ENGINE_VERSION]
            known = f" ({versions[0]})" if versions else ""
            return f"  {arm}: ready after {duration_text(after_ns)}{known} at {endpoint.shown_url}"
        case PlanReady(plan, notes):
            first = f"  plan: {len(plan.measured)} requests after {len(plan.warmups)} warm-up(s)"
            return "\n".join([first, *(f"  note: {note}" for note in notes)])
        case RequestsProgress():
            found = standings.difference_text(progress.arm)
            parts = [counts_text(progress), standings.rate_text(progress), *known_parts(progress)]
            return f"  {progress.arm}: " + ", ".join([*parts, *([f"{found} so far"] if found else [])])
        case FindingRaised(text):
            return f"  ! {text}"
        case TrialEnded(arm, number, error):
            return f"  {arm} #{number}: {ended_text(error) or 'done'}"
        case _:
            return study_text(progress)


class _Lines:
    """Plain lines: each change of state, and the progress of the plan every few seconds with the time left."""

    def __init__(self, spec: Spec | None) -> None:
        self._standings = Standings(spec)
        self._last_s = 0.0
        self._end_shown: set[str] = set()
        self._plan_shown = False
        self._estimate_shown = False

    def show(self, progress: Progress) -> None:
        now_s = time.monotonic()
        if not isinstance(progress, TrialEnded):
            self._standings.heard(progress, now_s)
        if self._is_news(progress, now_s):
            left = self._standings.left_ns(now_s) if isinstance(progress, RequestsProgress) else None
            text = sentence(progress, self._standings)
            _print_line(text if left is None else f"{text}; {about_text(left)} left in all")
        if isinstance(progress, TrialEnded):
            self._standings.heard(progress, now_s)
        self._show_estimate(now_s)

    def _is_news(self, progress: Progress, now_s: float) -> bool:
        """Whether the event gets a line."""
        if isinstance(progress, RequestsProgress):
            is_last = progress.ended == progress.total
            if not (progress.ended or progress.in_flight or progress.reads):
                return False  # the arm waits while the engine of another one starts
            if progress.arm in self._end_shown or (not is_last and now_s - self._last_s < _LINE_EVERY_S):
                return False
            self._last_s = now_s
            if is_last:
                self._end_shown.add(progress.arm)
        elif isinstance(progress, Settling):
            if now_s - self._last_s < _LINE_EVERY_S:
                return False
            self._last_s = now_s
        elif isinstance(progress, TrialBegan):
            self._last_s = now_s
            self._end_shown.discard(progress.arm)
        elif isinstance(progress, PlanReady):
            is_news = not self._plan_shown or bool(progress.notes)  # every trial plays the same plan
            self._plan_shown = True
            return is_news
        return True

    def _show_estimate(self, now_s: float) -> None:
        """Once, as soon as the first answer shows how long the study takes."""
        whole = None if self._estimate_shown else self._standings.whole_ns(now_s)
        if whole is not None:
            self._estimate_shown = True
            _print_line(f"estimate: the study takes {about_text(whole)}")


def _print_line(text: str) -> None:
    print(escape_for_display(text, lines=True), file=sys.stderr, flush=True)


@contextlib.contextmanager
def _drawn(spec: Spec | None) -> Iterator[Callable[[Progress], None]]:
    """Lines at the bottom of the terminal, redrawn four times a second by a separate thread and removed at the end."""
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    standings = Standings(spec)
    console = Console(stderr=True, highlight=False)
    turn = threading.Lock()  # the drawing thread reads what the main thread writes

    def drawn() -> Text:
        with turn:
            lines = standings.lines(time.monotonic(), min(console.width - 1, WIDTH))
        return Text("\n".join(map(escape_for_display, lines)), no_wrap=True, overflow="ellipsis")

    with Live(console=console, get_renderable=drawn, refresh_per_second=4, transient=True):

        def show(progress: Progress) -> None:
            with turn:
                said = standings.heard(progress, time.monotonic())
            if said:
                console.print(Text(escape_for_display(said, lines=True)))

        yield show
