"""Where is a started engine, and how is it spoken to? The value an engine gives and the load needs."""

import msgspec

from inferometer.core.record import Fact
from inferometer.core.redaction import redacted_text


class Endpoint(msgspec.Struct, frozen=True):
    """A server that answers.

    `base_url` has no trailing slash; `path` begins with one. `pids` are the engine's own root processes (empty for a
    server that we did not start). `headers` may hold secrets: they are sent, never stored or shown. `verify` and
    `ca_file`: whether, and against what, the certificate of an https server is checked; None: the system's store.
    `log_path`: the log of a server that we started, in which its lines begin at byte `log_begins_at`; "": none.
    """

    base_url: str
    path: str
    dialect: str
    model: str
    pids: tuple[int, ...] = ()
    facts: tuple[Fact, ...] = ()
    headers: dict[str, str] = {}
    verify: bool = True
    ca_file: str | None = None
    log_path: str = ""
    log_begins_at: int = 0

    @property
    def shown_url(self) -> str:
        """Where requests go, for a message: without what is secret in it."""
        return redacted_text(self.base_url + self.path)
