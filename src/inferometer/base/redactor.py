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
_LEAST_PREFIX, _MOST_PREFIX = 4, 12
"""Characters of a secret that are replaced at the end of an excerpt: more than those, or half of the secret."""
_CUT = " …"
_ESCAPE = r"\\+"  # JSON in JSON escapes quotation marks and slashes
_BETWEEN_HEX = r"(?:\\\\?x|[:\s-]|,? ?0x)?"
_WRAPS = r"(?:\s|\\+[rn])*"
"""Base64 goes over several lines in mails and logs."""
_ENTITIES = {"&": "amp", "<": "lt", ">": "gt", '"': "quot", "'": "apos"}
_LONGEST_CHARACTER = 16
"""Bytes of one character of a secret in its longest form, as `\\\\u0050`."""


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
        text = _forms(self.secrets, _is_escaped(text)).sub(MARK, text)
        body = text.removesuffix(_CUT)
        for form in _whole_forms(self.secrets):
            least = _LEAST_PREFIX if body != text else max(_LEAST_PREFIX, min(len(form) // 2, _MOST_PREFIX))
            sizes = range(min(len(form) - 1, len(body)), least - 1, -1)
            cut = next((size for size in sizes if body[-size:].lower() == form[:size].lower()), 0)
            if cut:
                return body[:-cut] + MARK + text[len(body) :]
        return text

    def pattern(self) -> re.Pattern[bytes] | None:
        """Matches each form of each secret in bytes; None without secrets."""
        return _forms_in_bytes(self.secrets) if self.secrets else None

    @property
    def most_bytes(self) -> int:
        """The longest that a match of `pattern` can be."""
        return _LONGEST_CHARACTER * max((len(secret.encode(errors="replace")) for secret in self.secrets), default=0)

    def mask(self, text: str) -> str:
        """`text` with each character of a secret as `*`: its length stays."""
        if not self.secrets:
            return text
        return _forms(self.secrets, _is_escaped(text)).sub(lambda found: "*" * len(found[0]), text)


def _is_escaped(text: str) -> bool:
    """Whether a text may hold letters as JSON's or HTML's escapes. Few do, and to look for these takes longer."""
    return "\\u" in text or "&" in text


@functools.lru_cache(maxsize=64)
def _forms(secrets: tuple[str, ...], escaped: bool) -> re.Pattern[str]:
    """Matches every form of every secret; letters as `\\u0041` and `&#65;` only if `escaped`."""
    return re.compile(_expression(secrets, escaped))


@functools.lru_cache(maxsize=64)
def _forms_in_bytes(secrets: tuple[str, ...]) -> re.Pattern[bytes]:
    return re.compile(_expression(secrets, True).encode(errors="replace"))


def _expression(secrets: tuple[str, ...], escaped: bool) -> str:
    found: list[str] = []
    for secret in secrets:
        digits = (f"{octet:02x}" for octet in secret.encode(errors="replace"))
        found += [f"(?i:{_spelled(secret, escaped)})", f"(?i:{_BETWEEN_HEX.join(digits)})"]
        found += [_WRAPS.join(_spelled(char, escaped) for char in form) for form in _base64_forms(secret)]
    return "|".join(found)


def _spelled(text: str, escaped: bool) -> str:
    """Matches a text, each character as it is, percent-encoded, or escaped."""
    return "".join(map(_letter_escaped if escaped else _letter, text))


@functools.lru_cache(maxsize=1024)
def _letter(char: str) -> str:
    plain = re.escape(char)
    octets = "".join(f"%(?:25)*(?i:{octet:02x})" for octet in char.encode(errors="replace"))
    return f"(?:{plain}|{octets}|{_ESCAPE}{plain})"


@functools.lru_cache(maxsize=1024)
def _letter_escaped(char: str) -> str:
    units = char.encode("utf-16-be", "surrogatepass")
    json_form = "".join(rf"{_ESCAPE}u(?i:{units[i : i + 2].hex()})" for i in range(0, len(units), 2))
    code = ord(char)
    names = f"|{_ENTITIES[char]}" if char in _ENTITIES else ""
    return f"(?:{_letter(char)}|{json_form}|&(?:#0*{code}|#[xX]0*(?i:{code:x}){names});)"


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
