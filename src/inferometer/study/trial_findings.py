"""What is to be said of a trial that was just played? Of its client, its workers, its machine; pure."""

import msgspec

from inferometer.base.units import duration_text
from inferometer.core import quantities
from inferometer.core.record import Fact, Finding
from inferometer.load import WorkerLost
from inferometer.load.audit import LoadReport

_SLEPT_LEAST_NS = 1_000_000_000


def slept_findings(slept_ns: int) -> list[Finding]:
    """Of a host that was suspended for so long while the trial ran; "nothing" for what is within two clocks' error."""
    if slept_ns < _SLEPT_LEAST_NS:
        return []
    message = f"this machine was suspended for {duration_text(slept_ns)} while the trial ran."
    return [Finding("warning", "suspended", message, "Keep it awake (systemd-inhibit, caffeinate), and measure again.")]


def retried_finding(error: str) -> Finding:
    reason = error.splitlines()[0]
    return Finding(
        "warning", "retried", f"it failed at first, and was played again: {reason}", "Its log has both in it."
    )


def load_facts(report: LoadReport) -> list[Fact]:
    """The client's own part, each number by its name; what is not known is left out."""
    source = "the load workers"
    fields = msgspec.structs.asdict(report)
    return [Fact(quantities.load_fact(name), str(value), source) for name, value in fields.items() if value is not None]


def load_findings(report: LoadReport) -> list[Finding]:
    """A note of what the client cost, a warning where that was near what it can do."""
    severity = "warning" if report.near_the_limit else "note"
    action = "Leave the client a core (fewer `threads`, a quieter machine), or share the load (`--workers`)."
    return [Finding(severity, "client", f"{report.line()}.", action if report.near_the_limit else "")]


def lost_finding(lost: WorkerLost) -> Finding:
    message = f"load worker {lost.number} {lost.how}; {lost.missing} of its requests have no answer."
    return Finding(
        "invalid", "worker-lost", message, "Run it again; a worker that is killed may have had too little memory."
    )
