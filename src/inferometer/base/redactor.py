"""Redactor: replaces known secrets in a text by `***`.

Which values are secret is decided by `core.redaction`, and by `net.target` for what a connection sends.
"""

import base64
import contextlib
from collections.abc import Iterable

import msgspec

MARK = "***"
LEAST_CHARACTERS = 6
"""A Redactor ignores shorter values: replacing them everywhere would damage ordinary words."""
_LEAST_PREFIX = 4


class Redactor(msgspec.Struct, frozen=True):
    """`secrets`, the longest first. Create it with `of`."""

    secrets: tuple[str, ...] = ()

    @classmethod
    def of(cls, values: Iterable[str]) -> "Redactor":
        """Hides `values`, and the parts of a value that lists several keys with commas."""
        found = {value.strip() for value in values}
        found |= {part.strip() for value in found for part in value.split(",")}
        long_enough = (value for value in found if len(value) >= LEAST_CHARACTERS)
        return cls(tuple(sorted(long_enough, key=lambda value: (-len(value), value))))

    def with_values(self, values: Iterable[str]) -> "Redactor":
        """Hides `values` too."""
        return Redactor.of([*self.secrets, *values])

    def redact(self, text: str) -> str:
        """`text` with each secret replaced. `text` may be an excerpt: a secret cut off at its end is replaced too."""
        for secret in self.secrets:
            text = text.replace(secret, MARK)
            prefixes = (secret[:size] for size in range(len(secret) - 1, _LEAST_PREFIX - 1, -1))
            cut = next((prefix for prefix in prefixes if text.endswith(prefix)), "")
            text = text.removesuffix(cut) + MARK if cut else text
        return text


def header_secrets(values: Iterable[str]) -> set[str]:
    """The secrets in the values of HTTP headers: each value, the part after its scheme (`Bearer`), and the name and
    password that `Basic` encodes."""
    found: set[str] = set()
    for value in values:
        scheme, _, key = value.strip().partition(" ")
        found |= {value.strip(), key.strip()}
        if scheme.lower() == "basic":
            with contextlib.suppress(ValueError):
                plain = base64.b64decode(key).decode()
                found |= {plain, plain.partition(":")[2]}
    return found - {""}
