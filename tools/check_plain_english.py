"""Phrases that this project does not use, in its strings, docstrings, comments and documents (`make check-english`).

`--report` prints the counts for each package and exits with 0. Without it, each place is printed, and the exit status
is 1 if there is any.
"""

import ast
import io
import re
import sys
import tokenize
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
CODE = ("src", "tools", "benchmarks")
DOCUMENTS = ("*.md", "docs/**/*.md", "benchmarks/**/*.md")

BANNED = {
    "told": r"\b(is|are|was|were|be|been|being|not) told\b|\b(?:tells?|told|tell) of\b",
    "said": r"\b(?:is|are|was|were|be|been) said\b|\bwhat is to be said\b",
    "is no X": r"(?<!\bthere )\b(?:is|are) no (?!longer\b|more\b|less\b|fewer\b)\w+",
    "beside": r"\bbeside\b",
    "as to": r"\bas to (?!(?:be|have)\b)",
    "so many": r"\bso many\b",
    "of its own": r"\bof (?:its|their|his) own\b",
    "what it is that": r"\bwhat (?:it is|is it) that\b",
    "to the letter": r"\bto the letter\b",
    "mend": r"\bmend(?:s|ed|ing)?\b",
    "none shown": r"\bnone shown\b",
    "goes on": r"\b(?:goes?|going|went) on (?:with|until|from)\b",
    "dear": r"\bdear(?:er|est)?\b(?! (?:all|sir|madam))",
    "one another": r"\bbeside one another\b",
    "asked for": r"\b(?:what|who) is asked\b",
    "docstring question": r"\A[A-Z][^.?\n:`]*\?(?:\s|\Z)",
}
"""Name → pattern, case ignored. The last one applies to docstrings only."""
QUESTION = "docstring question"
ALLOWED: dict[str, str] = {
    "CHANGELOG.md": "entries of earlier releases are not rewritten",
    "tools/check_plain_english.py": "this file lists the phrases",
}
"""Path from the root → reason."""
_DATA = ("/data/",)
"""Text that ships as data: prompts and corpora."""


class Place(NamedTuple):
    path: str
    line: int
    phrase: str
    text: str


def texts_of_code(source: str) -> Iterator[tuple[int, str, bool]]:
    """Line, text and whether it is a docstring, of every string literal with a space in it, and every comment."""
    tree = ast.parse(source)
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    docstrings = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, documented) and node.body and isinstance(node.body[0], ast.Expr)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and " " in node.value:
            yield node.lineno, node.value, id(node) in docstrings
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string, False


def texts_of_document(source: str) -> Iterator[tuple[int, str, bool]]:
    """The paragraphs of a Markdown text, without fenced blocks and code spans."""
    prose = re.sub(r"^```.*?^```", lambda block: "\n" * block[0].count("\n"), source, flags=re.MULTILINE | re.DOTALL)
    prose = re.sub(r"`[^`\n]*`", "`code`", prose)
    line = 1
    for paragraph in re.split(r"(\n\s*\n)", prose):
        yield line, paragraph, False
        line += paragraph.count("\n")


def places(path: Path) -> Iterator[Place]:
    source = path.read_text(encoding="utf-8")
    texts = texts_of_code(source) if path.suffix == ".py" else texts_of_document(source)
    shown = str(path.relative_to(ROOT))
    for line, text, is_docstring in texts:
        flat = re.sub(r"\s+", " ", text)
        for phrase, pattern in BANNED.items():
            if phrase == QUESTION and not is_docstring:
                continue
            for found in re.finditer(pattern, flat, re.IGNORECASE):
                yield Place(shown, line, phrase, flat[max(0, found.start() - 30) : found.end() + 30])


def files() -> Iterator[Path]:
    for folder in CODE:
        yield from sorted((ROOT / folder).rglob("*.py"))
    for pattern in DOCUMENTS:
        yield from sorted(ROOT.glob(pattern))


def package_of(path: str) -> str:
    """`src/inferometer/cli/bench.py` → `src/inferometer/cli`; other files by their folder, or their own name."""
    parts = path.split("/")
    return "/".join(parts[:3] if parts[0] == "src" and len(parts) > 3 else parts[:1] if len(parts) > 1 else parts)


def main() -> int:
    checked = {path for path in files() if not any(part in str(path) for part in _DATA)}
    found = [place for path in sorted(checked) for place in places(path) if place.path not in ALLOWED]
    if "--report" in sys.argv[1:]:
        for package, count in sorted(Counter(package_of(place.path) for place in found).items()):
            print(f"{count:5} {package}")
        print(f"{len(found):5} in all")
        return 0
    for place in found:
        print(f"{place.path}:{place.line}: {place.phrase}: …{place.text}…", file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
