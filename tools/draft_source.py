"""Prompts to train on: Python source under free licences on this machine, and chats made of it."""

import ast
import hashlib
import importlib.metadata
import random
import re
import sys
import sysconfig
import textwrap
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

FREE = re.compile(r"\b(BSD|MIT|Apache|PSF|Python Software Foundation)\b|0BSD|BSD-|MIT-", re.IGNORECASE)
NOT_FREE = re.compile(r"GPL|MPL|Mozilla|EUPL|propriet|NVIDIA|NonCommercial|-NC|CDDL|EPL", re.IGNORECASE)
SKIPPED = re.compile(r"(^|/)(tests?|testing|_vendor|vendor\w*|third_party|extern\w*|__pycache__|idlelib|lib2to3)/|_pb2")


def packages() -> Iterator[tuple[str, str, str, list[Path]]]:
    """Name, version, licence and files of Python's library and of each installed package under a free licence."""
    library = Path(sysconfig.get_paths()["stdlib"])
    own = [
        path
        for path in library.rglob("*.py")
        if "site-packages" not in path.parts and "dist-packages" not in path.parts
    ]
    yield "Python's standard library", sys.version.split()[0], "PSF-2.0", _usable(own, library)
    seen: set[str] = set()
    for package in importlib.metadata.distributions():
        name = str(package.metadata["Name"])
        licence = _licence(package)
        if name.lower() in seen or not FREE.search(licence) or NOT_FREE.search(licence):
            continue
        seen.add(name.lower())
        root = Path(str(package.locate_file("")))
        files = [root / str(file) for file in package.files or () if str(file).endswith(".py")]
        if usable := _usable(files, root):
            yield name, package.version, licence, usable


def _licence(package: importlib.metadata.Distribution) -> str:
    """The licence as the metadata name it in a few words. A full licence text is ignored: it names others too."""
    if said := package.metadata.get("License-Expression"):
        return str(said)
    classifiers = package.metadata.get_all("Classifier") or []
    if named := [line.rpartition(" :: ")[2] for line in classifiers if line.startswith("License :: OSI Approved ::")]:
        return "; ".join(named)
    said = str(package.metadata.get("License") or "").strip()
    return said if len(said) < 60 and "\n" not in said else ""


def _usable(files: list[Path], root: Path) -> list[Path]:
    found: list[Path] = []
    for path in files:
        try:
            inside = path.relative_to(root).as_posix()
            if not SKIPPED.search(inside) and 400 < path.stat().st_size < 200_000:
                found.append(path)
        except (OSError, ValueError):
            continue
    return sorted(found)


# --- chats made of source ---------------------------------------------------------------------------------------------

LANGUAGES = ("Python", "Python", "Python", "Go", "Rust", "JavaScript", "TypeScript", "Java", "C++", "SQL", "Bash")
WRITE = (
    "Write a {lang} {kind} that {does}.",
    "Write a {lang} {kind} `{name}` that {does}.",
    "I need a {kind} in {lang}: {does}. Standard library only.",
    "Write a small {lang} {kind} called {name}. It should {does}.",
    "In our {lang} project we need a {kind} that {does}. {rest}\n\nKeep it short, and raise clear errors.",
    "How would you write {name} in {lang}? It {does}.",
    "Implement `{head}`: {does}. {rest}",
    "Please write {head} in {lang}. {does_capital}. {rest}",
)
EXPLAIN = (
    "Explain what this code does.\n\n```python\n{code}\n```",
    "Can you explain what happens here?\n\n```python\n{code}\n```",
    "I took over this code and do not see how it works. Please explain it.\n\n```python\n{code}\n```",
)
DOCUMENT = (
    "Add a docstring to this {kind}.\n\n```python\n{code}\n```",
    "Please document this code:\n\n```python\n{code}\n```",
    "Review this {kind} and improve it.\n\n```python\n{code}\n```",
)
FIX = (
    "There is a mistake in this {kind}. Find and fix it.\n\n```python\n{code}\n```",
    "This gives the wrong result, why?\n\n```python\n{code}\n```",
    "Our tests fail since somebody changed this. What is wrong, and how do I fix it?\n\n```python\n{code}\n```",
)
MISTAKES = (
    (" == ", " != "), (" < ", " <= "), (" > ", " >= "), (" + ", " - "), (" and ", " or "), (" is None", " is not None"),
    ("True", "False"), ("[0]", "[1]"), (" not in ", " in "), ("if not ", "if "), ("return ", ""), ("+= 1", "-= 1"),
)  # fmt: skip


def read_file(path: Path) -> tuple[str, list[tuple[str, str]]]:
    """A file's text and the chats (prompt, answer) made of what it defines. Unparsable files give nothing."""
    try:
        text = path.read_text("utf-8")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(text)
    except (OSError, ValueError, SyntaxError, RecursionError, MemoryError):
        return "", []
    rng = random.Random(hashlib.sha256(text.encode()).digest())
    lines = text.splitlines()
    chats: list[tuple[str, str]] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and not node.name.startswith("test"):
            chats += _chats(node, lines, rng)
    return text, chats


def _chats(node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef, lines: list[str], rng: random.Random):
    first = min([node.lineno, *(each.lineno for each in node.decorator_list)])
    code = textwrap.dedent("\n".join(lines[first - 1 : node.end_lineno])).strip("\n")
    if not 100 <= len(code) <= 2200 or max(map(len, code.splitlines())) > 160 or "```" in code or _repeats(code):
        return
    doc = ast.get_docstring(node) or ""
    bare = _without_docstring(node, lines, first) if doc else code
    kind = "class" if isinstance(node, ast.ClassDef) else "function"
    said = re.sub(r"\s+", " ", re.sub(r":\w+:`~?([^`]*)`|``", r"\1", doc.split("\n\n")[0])).strip()
    sentence, _, rest = said.partition(". ")
    sentence = sentence.rstrip(".")
    if not 12 <= len(sentence) <= 240:
        sentence, rest = node.name.strip("_").replace("_", " "), ""
    head = re.sub(r"^(class|async def|def) ", "", lines[node.lineno - 1].strip()).rstrip(":")
    words = {
        "lang": rng.choice(LANGUAGES), "kind": kind, "name": node.name, "head": head, "code": bare,
        "does": sentence[:1].lower() + sentence[1:], "does_capital": sentence, "rest": rest[:300],
    }  # fmt: skip

    def ask(templates: tuple[str, ...], **changed: str) -> str:
        return rng.choice(templates).format(**{**words, **changed}).strip().replace(" \n", "\n")

    note = _note(said, node, rng)

    def fenced(source: str) -> str:
        return f"```python\n{source}\n```{note}"

    shown = code if not doc or rng.random() < 0.5 else bare
    yield ask(WRITE), fenced(shown)
    if doc and len(bare) > 80:
        if len(doc) > 60:
            yield ask(EXPLAIN), f"`{node.name}` is a {kind}. {_cut(doc, 700)}\n\n```python\n{_cut(bare, 500)}\n```"
        if rng.random() < 0.5:
            yield ask(DOCUMENT), fenced(code)
    spoilt = [(right, wrong) for right, wrong in MISTAKES if right in bare]
    if spoilt and len(bare) < 1400:
        right, wrong = rng.choice(spoilt)
        where = rng.choice([match.start() for match in re.finditer(re.escape(right), bare)])
        changed = bare[:where] + wrong + bare[where + len(right) :]
        line = bare[:where].count("\n")
        is_now, was = bare.splitlines()[line].strip(), changed.splitlines()[line].strip()
        why = f"The mistake is in `{was}`: it should be `{is_now}`."
        yield ask(FIX, code=changed), f"{why}\n\n```python\n{bare}\n```"


def _note(said: str, node: ast.AST, rng: random.Random) -> str:
    """A sentence or two after the code, as real answers have."""
    if not 20 <= len(said) <= 500 or rng.random() < 0.35:
        return ""
    raised = sorted({each.exc.func.id for each in ast.walk(node) if isinstance(each, ast.Raise)
                     and isinstance(each.exc, ast.Call) and isinstance(each.exc.func, ast.Name)})  # fmt: skip
    more = f"\n\nIt raises `{'`, `'.join(raised)}` on bad input." if raised else ""
    return f"\n\n{said}{'' if said.endswith('.') else '.'}{more}"


def _without_docstring(
    node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef, lines: list[str], first: int
) -> str:
    doc = node.body[0]
    kept = lines[first - 1 : doc.lineno - 1] + lines[doc.end_lineno or doc.lineno : node.end_lineno]
    if len(node.body) == 1:
        kept.append(" " * doc.col_offset + "...")
    return textwrap.dedent("\n".join(kept)).strip("\n")


def _cut(text: str, most: int) -> str:
    """The text, cut at a line end to at most this many characters."""
    return text if len(text) <= most else text[:most].rpartition("\n")[0] or text[:most]


def _repeats(code: str) -> bool:
    """Whether the text is a table of similar lines: these teach a model to repeat itself."""
    shapes = [re.sub(r"\w+", "w", line) for line in code.splitlines() if line.strip()]
    return len(shapes) > 8 and max(Counter(shapes).values()) > 0.4 * len(shapes)
