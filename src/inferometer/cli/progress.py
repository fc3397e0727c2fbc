"""How far is it? A live bar per trial on a terminal, plain lines elsewhere; both on standard error."""

import contextlib
import sys
import time
from collections.abc import Callable, Iterator

from inferometer.runner import EngineReady, Looked, PlanReady, Played, Progress, Settling, TrialBegan, TrialEnded
from inferometer.units import duration_text, seconds

_LINE_EVERY_S = 5.0


@contextlib.contextmanager
def display(quiet: bool) -> Iterator[Callable[[Progress], None]]:
    """Shows each progress it is called with, until the block ends; nothing where `quiet`."""
    if quiet:
        yield lambda progress: None
    elif sys.stderr.isatty():
        with _bars() as show:
            yield show
    else:
        yield _Lines().show


def sentence(progress: Progress) -> str:
    """A progress in words; "" where a line says nothing new."""
    match progress:
        case TrialBegan(arm, number, position, total):
            return f"trial {position}/{total}: {arm} #{number}, starting its engine"
        case EngineReady(arm, after_ns, endpoint):
            versions = [fact.value for fact in endpoint.facts if fact.name == "engine_version"]
            known = f" ({versions[0]})" if versions else ""
            return f"  {arm}: ready after {duration_text(after_ns)}{known} at {endpoint.shown_url}"
        case PlanReady(plan, notes):
            first = f"  plan: {len(plan.measured)} requests after {len(plan.warmups)} warm-up(s)"
            return "\n".join([first, *(f"  note: {note}" for note in notes)])
        case Played():
            return f"  {progress.ended}/{progress.total} requests, {rate_text(progress)}{_left_text(progress)}"
        case TrialEnded(arm, number, error):
            return f"  {arm} #{number}: {'failed' if error else 'done'}"
        case Settling(why):
            return f"settling: {why}"
        case Looked(enough, why):
            return f"looked at: {why}{'; that is enough' if enough else ''}"


def rate_text(played: Played) -> str:
    """Tokens a second so far: the server's counts of what has ended, else reads of what is under way."""
    if played.elapsed_ns <= 0:  # the start that was agreed upon is still to come
        return "0.0 tok/s"
    return f"{max(played.tokens, played.reads) / seconds(played.elapsed_ns):.1f} tok/s"


def _left_text(played: Played) -> str:
    left = left_ns(played)
    failed = f", {played.failed} failed" if played.failed else ""
    return failed + (f", {duration_text(left)} left" if left else "")


def left_ns(played: Played) -> int | None:
    """Time to the end if it goes on as so far; None before the first request has ended."""
    if not played.ended or played.ended == played.total:
        return None
    return played.elapsed_ns * (played.total - played.ended) // played.ended


class _Lines:
    """Plain lines: each change of state, and how far a plan is every few seconds."""

    def __init__(self) -> None:
        self._last_s = 0.0
        self._told_end = False

    def show(self, progress: Progress) -> None:
        if isinstance(progress, Played):
            is_last = progress.ended == progress.total
            if (is_last and self._told_end) or (not is_last and time.monotonic() - self._last_s < _LINE_EVERY_S):
                return
            self._last_s, self._told_end = time.monotonic(), is_last
        elif isinstance(progress, Settling):
            if time.monotonic() - self._last_s < _LINE_EVERY_S:
                return
            self._last_s = time.monotonic()
        elif isinstance(progress, TrialBegan):
            self._last_s, self._told_end = time.monotonic(), False
        print(sentence(progress), file=sys.stderr, flush=True)


@contextlib.contextmanager
def _bars() -> Iterator[Callable[[Progress], None]]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
    from rich.progress import Progress as Bars

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}", markup=False),
        TextColumn("{task.fields[left]}", markup=False),
    )
    console = Console(stderr=True, highlight=False)
    with Bars(*columns, console=console, refresh_per_second=4) as bars:
        tasks: list[int] = []

        def show(progress: Progress) -> None:
            match progress:
                case TrialBegan(arm, number, position, total):
                    name = f"{arm} #{number} ({position}/{total})"
                    tasks.append(bars.add_task(name, total=None, rate="starting the engine", left=""))
                case Played():
                    bars.update(
                        tasks[-1],  # pyright: ignore[reportArgumentType] # rich's TaskID is an int
                        completed=progress.ended,
                        total=progress.total,
                        rate=rate_text(progress),
                        left=_left_text(progress).removeprefix(", "),
                    )
                case PlanReady(_, notes):
                    for note in notes:
                        console.print(f"note: {note}", markup=False)
                case TrialEnded(_, _, error):
                    bars.update(tasks[-1], left="failed" if error else "done")  # pyright: ignore[reportArgumentType] # as above
                case Settling():
                    bars.update(tasks[-1], left=sentence(progress))  # pyright: ignore[reportArgumentType] # as above
                case Looked():
                    console.print(sentence(progress), markup=False)
                case EngineReady():
                    bars.update(tasks[-1], rate="warming up")  # pyright: ignore[reportArgumentType] # as above

        yield show
