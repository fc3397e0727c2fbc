"""Has the server stopped answering? Suspected from how requests end, before each of the rest is waited for; pure."""

from inferometer.core.record import RequestRecord

SUSPICIOUS = 3
"""So many timeouts in a row, each without a byte of an answer: an overloaded server answers somebody meanwhile."""


class HangSuspicion:
    """Fed with each measured record as it ends."""

    def __init__(self) -> None:
        self._silent = 0
        self._enough = SUSPICIOUS

    def rises(self, record: RequestRecord) -> bool:
        """Whether the server should be asked now."""
        if record.outcome == "timeout" and record.first_byte_ns is None:
            self._silent += 1
        elif record.outcome not in ("cancelled", "lost"):
            self._silent = 0
        return self._silent >= self._enough

    def unfounded(self) -> None:
        """It was asked, and it answers: from now on it takes twice as many."""
        self._silent = 0
        self._enough *= 2
