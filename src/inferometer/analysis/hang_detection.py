"""Detection of a server that hangs, from how requests end: without it, every remaining request would time out."""

from inferometer.core.record import RequestRecord

INITIAL_TIMEOUTS = 3
"""Consecutive timeouts without a byte of an answer that raise suspicion. An overloaded server would answer some
requests in the meantime."""


class HangSuspicion:
    """A count of consecutive silent timeouts. `update` takes each measured record as it ends."""

    def __init__(self) -> None:
        self._silent_timeouts = 0
        self._threshold = INITIAL_TIMEOUTS

    def update(self, record: RequestRecord) -> bool:
        """Whether the server should be probed now."""
        if record.outcome == "timeout" and record.first_byte_ns is None:
            self._silent_timeouts += 1
        elif record.outcome not in ("cancelled", "lost"):
            self._silent_timeouts = 0
        return self._silent_timeouts >= self._threshold

    def reset(self) -> None:
        """After a probe that the server answered: from now on, suspicion needs twice as many timeouts."""
        self._silent_timeouts = 0
        self._threshold *= 2
