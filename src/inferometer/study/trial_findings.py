"""Findings and facts about a trial that has just run: its client, its load workers, its machine; pure."""

from collections.abc import Sequence

import msgspec

from inferometer.base.units import duration_text
from inferometer.core import quantities
from inferometer.core.record import Fact, Finding
from inferometer.core.request import LIMIT_FIELDS
from inferometer.core.spec import Sampling
from inferometer.load import WorkerLost
from inferometer.load.audit import LoadReport

_LEAST_SUSPENDED_NS = 1_000_000_000


def suspended_findings(suspended_ns: int) -> list[Finding]:
    """A warning where the host was suspended for this long during the trial; none below a second, which the reading of
    two clocks explains."""
    if suspended_ns < _LEAST_SUSPENDED_NS:
        return []
    message = f"this machine was suspended for {duration_text(suspended_ns)} during the trial."
    action = "Keep it awake (systemd-inhibit, caffeinate), and measure again."
    return [Finding("warning", "suspended", message, action)]


def retried_finding(error: str) -> Finding:
    """A warning about a trial that ran again after `error`."""
    message = f"the first attempt failed, and the trial ran again: {error.splitlines()[0]}"
    return Finding("warning", "retried", message, "The engine's log holds both attempts.")


def parallel_findings(arm: str, arms_of_round: Sequence[str]) -> list[Finding]:
    """A warning about a trial that ran at the same time as other arms; `arms_of_round` may name its own arm too."""
    others = [other for other in arms_of_round if other != arm]
    if not others:
        return []
    message = (
        f"it ran at the same time as {', '.join(others)} (`parallel`): they share the CPU, its memory and PCIe, and "
        "the limits of power and cooling."
    )
    return [Finding("warning", "parallel", message, "Without `parallel` the trials run one after another, and longer.")]


def client_facts(report: LoadReport) -> list[Fact]:
    """The client's own part in the trial, one fact per number; unknown numbers are left out."""
    fields = msgspec.structs.asdict(report)
    return [
        Fact(quantities.load_fact(name), str(value), "the load workers")
        for name, value in fields.items()
        if value is not None
    ]


def client_findings(report: LoadReport) -> list[Finding]:
    """A note with the client's own cost; a warning where it is in the numbers. Gaps between events that the client read
    together get no verdict."""
    severity = "warning" if report.near_the_limit else "note"
    action = "Leave the client a core (fewer `threads`, a quieter machine), or share the load (`--workers`)."
    withholds = ("chunk_gaps",) if report.gaps_unknown else ()
    shown = action if report.near_the_limit else ""
    return [Finding(severity, "client", f"{report.line()}.", shown, withholds=withholds)]


def worker_lost_finding(lost: WorkerLost) -> Finding:
    """The result is invalid: a load worker ended before its part of the plan was over."""
    message = f"load worker {lost.number} {lost.how}; {lost.missing} of its requests have no answer."
    return Finding("invalid", "worker-lost", message, "Run it again; a worker is killed when memory runs out.")


def refused_findings(refused: Sequence[str], sampling: Sampling) -> list[Finding]:
    """A finding that names the fields that the server refused: a warning where the answers may differ without them."""
    if not refused:
        return []
    changes = {"temperature", *(["ignore_eos"] if sampling.ignore_eos else [])} & set(refused)
    no_limit = set(LIMIT_FIELDS) <= set(refused)
    renamed = " The length limit is sent as max_completion_tokens." if "max_tokens" in refused and not no_limit else ""
    message = f"the server refused {', '.join(refused)}; its requests were sent without.{renamed}"
    if not changes and not no_limit:
        return [Finding("note", "refused-field", message)]
    action = "Its answers may differ in text and length for this reason: leave the field out of every arm."
    return [Finding("warning", "refused-field", message, action)]


def warmup_failed_finding(error: str) -> Finding:
    """A warning: a warm-up failed, and the server answered the next request: it was busy, or ended one answer at
    once."""
    message = f"a warm-up request failed, and the server answered the next request: {error}"
    return Finding("warning", "warmup-failed", message, "See whether measured requests failed too.")


def not_counted_finding(tokenizer: str, reason: str) -> Finding:
    """A warning: the outputs have only the server's token counts."""
    message = f"the tokens of the outputs could not be counted by {tokenizer}: {reason}."
    action = "The token counts are the server's own. Name a tokenizer (`tokenizer:`) to have a second count."
    return Finding("warning", "not-counted", message, action)
