"""Heads of log lines: what containers, CI systems and loggers print before a line of a program's output."""

import re
from collections.abc import Callable

_DATE = r"\d{4}[-/.]\d\d[-/.]\d\d"
_TIME = r"\d\d:\d\d:\d\d(?:[.,]\d{1,9})?(?: ?(?:Z|UTC|[AP]M|[+-]\d\d:?\d\d))?"
_LEVEL = r"(?:TRACE|DEBUG|INFO|NOTICE|WARN|WARNING|ERROR|CRITICAL|FATAL)"
_FORMS = (
    rf"[\[(<]?{_DATE}(?:[T _]{_TIME})?[\])>]?[:,]?",
    rf"[\[(<]?(?:\d\d[-/]\d\d )?{_TIME}[\])>]?[:,]?",
    r"\[?(?:[A-Z][a-z]{2} )?[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d(?: \d{4})?\]?",
    r"[\w.-]{1,80} [\w./@-]{1,80}\[\d{1,10}\]:",  # after the time of journald and syslog: host and program
    r"[IWEFD]\d{4} \d\d:\d\d:\d\d(?:\.\d{1,9})? +\d{1,10} [\w./-]{1,120}:\d{1,7}\]",  # glog, klog
    r"\[?pod/[\w./-]{1,200}\]?(?: +\|)?",  # kubectl logs --prefix
    r"\([\w .:-]{0,80}pid=\d{1,10}(?:, ip=[\w.:]{1,40})?\)",  # vLLM's processes, Ray
    rf"[\[(<]?{_LEVEL}[\])>]?:?",
    r"\[[\w./-]{1,120}:\d{1,7}\]|[\w./-]{1,120}\.(?:py|cc|cpp|rs|go):\d{1,7}[\]:]{0,2}",
    r"(?:stdout|stderr) [FP]",  # containerd
    r"\[ *\d{1,7}\.\d{1,6}\]",
    r"[\w.-]{1,80}-\d{1,4} +\|",  # docker compose
    r"\|(?= *[A-Z]+ *\|)|\| ",  # loguru, between its parts; a table's row begins so only where no head stood before
)
_ANY_FORM = re.compile(rf" *(?:{'|'.join(_FORMS[:-1])})(?= |$)")
_NEXT_FORM = re.compile(rf" *(?:{'|'.join(_FORMS)})(?= |$)")
_MOST_PARTS = 8
_LONGEST_HEAD = 300
_PIECE = re.compile(r"\s+|\w+|.")


def without_head(line: str) -> str:
    """The line without a head of a form that is known; as it is where there is none."""
    rest = line
    found = _ANY_FORM.match(rest)
    for _ in range(_MOST_PARTS):
        if found is None:
            break
        rest = rest[found.end() :]
        found = _NEXT_FORM.match(rest[:_LONGEST_HEAD]) if rest.lstrip()[:1] != "|" else None
    return rest if rest is line else rest.removeprefix(" ")


def remover(head: str) -> Callable[[str], str | None]:
    """A function that takes heads like this one from lines, and gives None for a line without such a head.

    Alike are heads of the same words and signs with other numbers, times and widths of blanks.
    """
    pattern = re.compile(_pattern(head.rstrip()))
    cut = len(head) - len(head.rstrip())

    def removed(line: str) -> str | None:
        found = pattern.match(line)
        if found is None:
            return None
        rest = line[found.end() :]
        return rest[cut:] if not rest[:cut].strip() else rest.lstrip()

    return removed


def _pattern(head: str) -> str:
    """A fraction of a second may be missing: some loggers leave zeros out."""
    pieces = _PIECE.findall(head[:_LONGEST_HEAD])
    pattern = ""
    for i, piece in enumerate(pieces):
        if piece.isspace():
            pattern += r"\s+"
        elif any(char.isdigit() for char in piece):
            is_fraction = i > 1 and pieces[i - 1] in ".," and pieces[i - 2][-1:].isdigit()
            pattern = (
                rf"{pattern.removesuffix(re.escape(pieces[i - 1]))}(?:[.,]\w+|[A-Z]?)"
                if is_fraction
                else (pattern + r"\w+")
            )
        else:
            pattern += re.escape(piece)
    return pattern
