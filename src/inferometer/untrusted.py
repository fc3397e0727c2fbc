"""How is text that others wrote (servers, model files, data sets, logs) made harmless before it is shown or kept? Pure.

What could drive a terminal or a reader's eye is taken out: escape sequences whole, and of every other control
character, bidi controls (U+202E and its like) and other invisible ones too, only a blank is left. HTML and Markdown are
the business of whoever writes them.
"""

import re

MOST_CHARACTERS = 1000
"""Of one text that goes into a message or a fact: a server may say more than anybody reads."""

_ESCAPE = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]?"  # colours, cursor
    r"|(?:\x1b[\]PX^_]|[\x90\x98\x9d\x9e\x9f])[^\x07\x1b\x9c]*(?:\x07|\x1b\\|\x9c)?"  # titles, links, device strings
    r"|\x1b[ -/]*[0-~]?"
)


def harmless(text: str, most: int = MOST_CHARACTERS) -> str:
    """`text` on one line, without what is not printable, and of at most `most` characters (cut: ` …` at its end)."""
    cut = text[: 4 * most]  # blanks and escape sequences go: some more than `most` are looked at, not all of a book
    words = "".join(char if char.isprintable() else " " for char in _ESCAPE.sub("", cut)).strip()
    return words if len(words) <= most and len(cut) == len(text) else words[:most].rstrip() + " …"


def harmless_lines(text: str) -> str:
    """`text` with its line breaks and tabs (as blanks), without anything else that is not printable; of any length."""
    lines = _ESCAPE.sub("", text).expandtabs(4).splitlines()
    return "\n".join("".join(char if char.isprintable() else " " for char in line).rstrip() for line in lines)
