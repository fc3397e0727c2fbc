"""How is text of others (names, a model's output, a server's error) shown so that it can do nothing but be read?

A terminal obeys escape sequences, a bidi control turns a line around, Markdown has markup: here each becomes visible
text. What is stored is never changed.
"""

import re
import unicodedata

_UNSEEN = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp", "Co", "Cn"})
_JOINERS = "\u200c\u200d"
"""Of category Cf, but letters of Persian and of Indian scripts, and emoji, are wrong without them."""
_ASCII_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_MARKUP = re.compile(r"[\\<>*~&]|(?<=\])\(|(?<!\w)_|_(?!\w)|^[#+=-](?!\d)")
_CODE = re.compile(r"(`[^`\n]*`)")


def harmless(text: str, *, lines: bool = False) -> str:
    """Controls, bidi marks and other unseen characters as `\\x1b`, `\\u202e`; tabs as blanks. Line breaks stay where
    `lines`, else they become blanks too."""
    if text.isascii() and _ASCII_CONTROL.search(text) is None:
        return text
    return "".join(map(_kept if lines else _in_a_line, text))


def in_markdown(text: str, *, cell: bool = False) -> str:
    """`text` in one line of Markdown, all of it to be read: no markup, no HTML, no link. What stands between two
    backticks stays code. `cell`: of a table, where a bar would end it, and backticks are letters."""
    plain = harmless(text)
    if cell:
        return _MARKUP.sub(r"\\\g<0>", plain).replace("|", "\\|").replace("`", "\\`")
    parts = _CODE.split(plain)
    return "".join(part if i % 2 else _MARKUP.sub(r"\\\g<0>", part).replace("`", "\\`") for i, part in enumerate(parts))


def in_json(document: str) -> str:
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
