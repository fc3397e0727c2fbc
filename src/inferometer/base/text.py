"""Text from outside: `sanitize` what is kept, `escape_for_display` what is shown.

Other people's text (a server's words, a model's output, names in files) can drive a terminal or mislead a reader.
Before it is kept, `sanitize` removes escape sequences and other unprintable characters. Before stored text is shown,
`escape_for_display` and its relatives make each such character visible; what is stored does not change.
"""

import re
import unicodedata

MOST_CHARACTERS = 1000
"""The longest text in a message or a fact: a server may send more than anybody reads."""

_ESCAPE = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]?"  # colours, cursor
    r"|(?:\x1b[\]PX^_]|[\x90\x98\x9d\x9e\x9f])[^\x07\x1b\x9c]*(?:\x07|\x1b\\|\x9c)?"  # titles, links, device strings
    r"|\x1b[ -/]*[0-~]?"
)

_INVISIBLE = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp", "Co", "Cn"})
_JOINERS = "\u200c\u200d"
"""Of category Cf, but Persian, Indian scripts and emoji need them."""
_ASCII_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_MARKUP = re.compile(r"[\\<>*~&]|(?<=\])\(|(?<!\w)_|_(?!\w)|^[#+=-](?!\d)")
_CODE = re.compile(r"(`[^`\n]*`)")


def sanitize(text: str, most: int = MOST_CHARACTERS) -> str:
    """`text` on one line, without unprintable characters, at most `most` characters long (if cut, ` …` at its end)."""
    cut = text[: 4 * most]  # blanks and escape sequences are removed, so read more than `most`; but not a whole book
    words = "".join(char if char.isprintable() else " " for char in _ESCAPE.sub("", cut)).strip()
    return words if len(words) <= most and len(cut) == len(text) else words[:most].rstrip() + " …"


def sanitize_lines(text: str) -> str:
    """`text` with its line breaks, with tabs as blanks, without other unprintable characters; of any length."""
    lines = _ESCAPE.sub("", text).expandtabs(4).splitlines()
    return "\n".join("".join(char if char.isprintable() else " " for char in line).rstrip() for line in lines)


def escape_for_display(text: str, *, lines: bool = False) -> str:
    """Control, bidirectional and other invisible characters as `\\x1b`, `\\u202e`; tabs as blanks. `lines`: line breaks
    stay; otherwise they become blanks too."""
    if text.isascii() and _ASCII_CONTROL.search(text) is None:
        return text
    return "".join(map(_escaped_except_line_breaks if lines else _escaped, text))


def escape_for_markdown(text: str, *, cell: bool = False) -> str:
    """`text` as one line of Markdown that shows every character: no markup, HTML or links. Text between two backticks
    stays code. `cell`: for a table cell, where a bar would end the cell and backticks are shown."""
    plain = escape_for_display(text)
    if cell:
        return _MARKUP.sub(r"\\\g<0>", plain).replace("|", "\\|").replace("`", "\\`")
    parts = _CODE.split(plain)
    return "".join(part if i % 2 else _MARKUP.sub(r"\\\g<0>", part).replace("`", "\\`") for i, part in enumerate(parts))


def escape_for_json(document: str) -> str:
    """The same JSON document with invisible characters escaped, safe to show in a terminal."""
    return "".join(_json_escape(char) if char not in "\n\t" and _is_invisible(char) else char for char in document)


def _json_escape(char: str) -> str:
    units = char.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[i : i + 2].hex()}" for i in range(0, len(units), 2))


def _escaped_except_line_breaks(char: str) -> str:
    return char if char == "\n" else _escaped(char)


def _escaped(char: str) -> str:
    if char in "\n\t":
        return " "
    return _escape(char) if _is_invisible(char) else char


def _is_invisible(char: str) -> bool:
    return char not in _JOINERS and unicodedata.category(char) in _INVISIBLE


def _escape(char: str) -> str:
    code = ord(char)
    if code < 0x80:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def cells_wide(text: str) -> int:
    """Width of the text in terminal columns: wide letters take two, combining marks none."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(char) or char in "\u200c\u200d" else 1 + (unicodedata.east_asian_width(char) in "WF")
        for char in text
    )


def cut_middle(text: str, width: int) -> str:
    """The text without its middle if it is too long: names that begin alike differ at their ends."""
    safe = escape_for_display(text)
    if cells_wide(safe) <= width:
        return safe
    head, tail = safe[: len(safe) // 2], safe[len(safe) // 2 :]
    while cells_wide(head) + cells_wide(tail) > width - 1 and (head or tail):
        head, tail = (head[:-1], tail) if cells_wide(head) > cells_wide(tail) else (head, tail[1:])
    return f"{head}…{tail}"
