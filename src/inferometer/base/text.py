"""Text from outside: `sanitize` what is kept, `escape_for_display` what is shown.

Other people's text (a server's words, a model's output, names in files) can drive a terminal or mislead a reader.
Before it is kept, `sanitize` removes escape sequences and other unprintable characters. Before stored text is shown,
`escape_for_display` and its relatives make each such character visible; what is stored does not change.
"""

import re
import unicodedata

MOST_CHARACTERS = 1000
"""Of one text that goes into a message or a fact: a server may say more than anybody reads."""

_ESCAPE = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]?"  # colours, cursor
    r"|(?:\x1b[\]PX^_]|[\x90\x98\x9d\x9e\x9f])[^\x07\x1b\x9c]*(?:\x07|\x1b\\|\x9c)?"  # titles, links, device strings
    r"|\x1b[ -/]*[0-~]?"
)

_UNSEEN = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp", "Co", "Cn"})
_JOINERS = "\u200c\u200d"
"""Of category Cf, but letters of Persian and of Indian scripts, and emoji, are wrong without them."""
_ASCII_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_MARKUP = re.compile(r"[\\<>*~&]|(?<=\])\(|(?<!\w)_|_(?!\w)|^[#+=-](?!\d)")
_CODE = re.compile(r"(`[^`\n]*`)")


def sanitize(text: str, most: int = MOST_CHARACTERS) -> str:
    """`text` on one line, without what is not printable, and of at most `most` characters (cut: ` …` at its end)."""
    cut = text[: 4 * most]  # blanks and escape sequences go: some more than `most` are looked at, not all of a book
    words = "".join(char if char.isprintable() else " " for char in _ESCAPE.sub("", cut)).strip()
    return words if len(words) <= most and len(cut) == len(text) else words[:most].rstrip() + " …"


def sanitize_lines(text: str) -> str:
    """`text` with its line breaks and tabs (as blanks), without anything else that is not printable; of any length."""
    lines = _ESCAPE.sub("", text).expandtabs(4).splitlines()
    return "\n".join("".join(char if char.isprintable() else " " for char in line).rstrip() for line in lines)


def escape_for_display(text: str, *, lines: bool = False) -> str:
    """Controls, bidi marks and other unseen characters as `\\x1b`, `\\u202e`; tabs as blanks. Line breaks stay where
    `lines`, else they become blanks too."""
    if text.isascii() and _ASCII_CONTROL.search(text) is None:
        return text
    return "".join(map(_kept if lines else _in_a_line, text))


def escape_for_markdown(text: str, *, cell: bool = False) -> str:
    """`text` in one line of Markdown, all of it to be read: no markup, no HTML, no link. What stands between two
    backticks stays code. `cell`: of a table, where a bar would end it, and backticks are letters."""
    plain = escape_for_display(text)
    if cell:
        return _MARKUP.sub(r"\\\g<0>", plain).replace("|", "\\|").replace("`", "\\`")
    parts = _CODE.split(plain)
    return "".join(part if i % 2 else _MARKUP.sub(r"\\\g<0>", part).replace("`", "\\`") for i, part in enumerate(parts))


def escape_for_json(document: str) -> str:
    """A JSON document whose strings' unseen characters are escaped: the same document, safe to show in a terminal."""
    return "".join(_json_escape(char) if char not in "\n\t" and _is_unseen(char) else char for char in document)


def _json_escape(char: str) -> str:
    units = char.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[i : i + 2].hex()}" for i in range(0, len(units), 2))


def _kept(char: str) -> str:
    return char if char == "\n" else _in_a_line(char)


def _in_a_line(char: str) -> str:
    if char in "\n\t":
        return " "
    return _escape(char) if _is_unseen(char) else char


def _is_unseen(char: str) -> bool:
    return char not in _JOINERS and unicodedata.category(char) in _UNSEEN


def _escape(char: str) -> str:
    code = ord(char)
    if code < 0x80:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
