"""Redactor: replaces known secrets in a text by `***`.

Which values are secret is decided by `core.redaction`, and by `net.target` for what a connection sends.
"""

import base64
import contextlib
import functools
import re
import urllib.parse
from collections.abc import Iterable

import msgspec

MARK = "***"
LEAST_CHARACTERS = 6
"""A Redactor ignores shorter values: replacing them everywhere would damage ordinary words."""
_LEAST_PREFIX = 4
_ESCAPE = r"\\+"  # JSON in JSON escapes quotation marks and slashes
_BETWEEN_HEX = r"(?:\\\\?x|[:\s-]|, ?0x)?"


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
        """`text` with each secret replaced, in each of its forms: in any case, percent-encoded, as hex digits, and
        within a longer Base64 text. `text` may be an excerpt: a secret cut off at its end is replaced too."""
        if not self.secrets:
            return text
        text = _forms(self.secrets).sub(MARK, text)
        for form in _whole_forms(self.secrets):
            sizes = range(min(len(form) - 1, len(text)), _LEAST_PREFIX - 1, -1)
            cut = next((size for size in sizes if text[-size:].lower() == form[:size].lower()), 0)
            text = text[:-cut] + MARK if cut else text
        return text

    def whole_forms(self) -> tuple[str, ...]:
        """Each secret as it is, percent-encoded, as hex digits, and in Base64."""
        return _whole_forms(self.secrets)

    def mask(self, text: str) -> str:
        """`text` with each character of a secret as `*`: its length stays."""
        return _forms(self.secrets).sub(lambda found: "*" * len(found[0]), text) if self.secrets else text


@functools.lru_cache(maxsize=64)
def _forms(secrets: tuple[str, ...]) -> re.Pattern[str]:
    """Matches every form of every secret."""
    found: list[str] = []
    for secret in secrets:
        octets = [(re.escape(char), char.encode(errors="replace")) for char in secret]
        spelled = (
            f"(?:{plain}|{''.join(f'%(?:25)?{octet:02x}' for octet in data)}|{_ESCAPE}{plain})"
            for plain, data in octets
        )
        digits = (f"{octet:02x}" for _, data in octets for octet in data)
        found += [f"(?i:{''.join(spelled)})", f"(?i:{_BETWEEN_HEX.join(digits)})"]
        found += map(re.escape, _base64_forms(secret))
    return re.compile("|".join(found))


@functools.lru_cache(maxsize=64)
def _whole_forms(secrets: tuple[str, ...]) -> tuple[str, ...]:
    """The forms that are looked for at the end of an excerpt, where they may be cut off."""
    return tuple(
        form
        for secret in secrets
        for form in (secret, secret.encode(errors="replace").hex(), urllib.parse.quote(secret), *_base64_forms(secret))
    )


def _base64_forms(secret: str) -> list[str]:
    """The secret's part of a Base64 text, in both alphabets: three of them, by where the secret begins in a group of
    three bytes. Digits that its neighbours decide too are left out."""
    data = secret.encode(errors="replace")
    found: list[str] = []
    for before in range(3):
        first, last = -(-8 * before // 6), 8 * (before + len(data)) // 6
        for encode in (base64.b64encode, base64.urlsafe_b64encode):
            form = encode(bytes(before) + data).decode()[first:last]
            found += [form] if form not in found else []
    return found


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
