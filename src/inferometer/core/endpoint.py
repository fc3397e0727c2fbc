"""Endpoint of a started engine: address, API and process ids. An engine returns it and the load uses it."""

import msgspec

from inferometer.core.record import Fact
from inferometer.core.redaction import redacted_text


class Endpoint(msgspec.Struct, frozen=True):
    """A server that is ready.

    `base_url` has no trailing slash; `path` begins with one. `pids`: the engine's root processes (empty for a server
    that we did not start). `headers` may hold secrets: they are sent, never stored or shown. `verify`: whether to check
    the certificate of an https server, with the certificates in `ca_file`; None: the system's store. `log_path`: the
    log of a server that we started; "" without one. Its lines begin at byte `log_begins_at`. `refused`: request fields
    that the server refused when it was asked for its first token; they are not sent.
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
    refused: tuple[str, ...] = ()

    @property
    def shown_url(self) -> str:
        """The address of requests for a message, without secrets."""
        return redacted_text(self.base_url + self.path)
