"""The rule by which code is taken from an answer. docs/reference/quality.md states it. Pure.

1. Of a completion, what precedes the first fence; in languages other than Python it ends with the line that closes the
   function. Of a chat answer with fenced blocks: the first one that defines the entry point, else the first one. A
   fence that is never closed ends with the answer; code is indented less by what its fence is.
2. If the code defines the entry point, the prompt's code up to the definition precedes it (imports and helpers); if
   not, the whole prompt does, because the code continues it. In EvalPlus's sets a chat answer that defines the entry
   point stands alone, as EvalPlus judges it.
   In languages whose functions stand in a class (`ENCLOSED`), a class of the same name in the code replaces the
   prompt's, of which only the imports precede it; classes are closed, or left open, as the tests need it.
3. Python: the longest run of lines that parses, and of it the imports, definitions and assignments that the entry point
   needs, as EvalPlus does. The harness in the sandbox does this part.
"""

import re

_FENCE = re.compile(
    r"^(?P<indent>[ \t]*)(?P<fence>`{3,}|~{3,})[^\n`]*\n(?P<code>.*?)(?:^[ \t]*(?P=fence)[`~]*[ \t]*$|\Z)",
    re.DOTALL | re.MULTILINE,
)
_REASONING = re.compile(r"\A(?:\s*<think>(?:.*?</think>|.*)|(?:(?!<think>).)*?</think>)", re.DOTALL)
"""At the beginning of an answer; the tag that opens it may be part of the prompt."""
_LONGEST = 200_000
"""Characters of an answer that are looked at; no right answer is longer."""


def completed(answer: str, language: str = "python") -> str:
    """The code in a completion, by step 1 of the rule."""
    text = re.split(r"^[ \t]*(?:```|~~~)", answer[:_LONGEST].replace("\r\n", "\n"), maxsplit=1, flags=re.MULTILINE)[0]
    if language == "python":
        return text
    closing = re.search(r"^end[ \t]*$" if language == "ruby" else r"^\};?[ \t]*$", text, re.MULTILINE)
    return text[: closing.end()] + "\n" if closing else text


def without_reasoning(answer: str) -> str:
    """The answer without what precedes `</think>`; "" if its reasoning never ends."""
    return _REASONING.sub("", answer) if "think>" in answer else answer


def code_of(answer: str, entry_point: str = "") -> str:
    """The code in an answer of a chat, by step 1 of the rule; the whole answer without fences. Reasoning in `<think>`
    is left out."""
    blocks = blocks_of(answer)
    return next((block for block in blocks if entry_point and defines(block, entry_point)), blocks[0])


def blocks_of(answer: str) -> list[str]:
    """The fenced blocks of an answer without its reasoning; the whole answer if it has none."""
    text = without_reasoning(answer)[:_LONGEST].replace("\r\n", "\n")
    blocks = [_dedented(found["code"], len(found["indent"])) for found in _FENCE.finditer(text)]
    return blocks or [text.replace("```", "") if text.lstrip().startswith("```") else text]


def _dedented(code: str, indent: int) -> str:
    """The code in a fence that stands in a list, without the indentation of the fence."""
    return re.sub(rf"^[ \t]{{1,{indent}}}", "", code, flags=re.MULTILINE) if indent else code


def defines(code: str, name: str) -> bool:
    """Whether the code defines this function: after a keyword, modifiers or a type, or as the target of `=`. A call is
    not a definition, nor is an example in a comment."""
    word = re.escape(name)
    typed = rf"^[ \t]*+(?![*#>]|//|{_NOT_TYPES}\b)[\w:<>,\[\]*&?.\t ]+[ *&]{word}\s*(?:[(<{{]|$)"
    assigned = rf"^[ \t]*(?:(?:const|let|var|val|my|our)[ \t]+)?{word}\s*(?::=|=[^=>]|:[^:\n]*=)"
    return re.search(f"{typed}|{assigned}", code, re.MULTILINE) is not None


_NOT_TYPES = r"(?:assert|return|await|new|throw|raise|yield|else|print|echo|puts|case|if|elif|while|not|and|or|in|is)"
"""Words that may precede a call."""


def whole_code(code: str, before: str, entry_point: str) -> str:
    """The code with what must precede it, by step 2 of the rule."""
    if not before:
        return code
    if entry_point and defines(code, entry_point):
        return preamble(before, entry_point) + "\n" + code
    return before + code


def preamble(before: str, entry_point: str) -> str:
    """The prompt's code up to the line that defines the entry point: imports and helpers."""
    lines = before.split("\n")
    at = next((place for place, line in enumerate(lines) if defines(line, entry_point)), len(lines))
    return "\n".join(lines[:at])


ENCLOSED = ("java", "csharp", "scala")
"""Languages of mxeval whose functions stand in a class, which some tests continue."""

_NOT_CODE = re.compile(r'"""(?s:.*?)"""|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])\'|//[^\n]*|/\*(?s:.*?)\*/')
_TYPE = re.compile(r"\b(?:class|object)\s+(\w+)")
_IMPORT = re.compile(r"^[ \t]*(?:import|using)\b.*$", re.MULTILINE)
_MAINS = {
    "csharp": re.compile(r"(?:\b(?:public|private|internal|async)\s+)*\bstatic\s+[\w<>]+\s+Main\s*\([^)]*\)\s*\{"),
    "cpp": re.compile(r"^(?:int|void|auto)\s+main\s*\([^)]*\)\s*(?:->\s*int\s*)?\{", re.MULTILINE),
    "go": re.compile(r"^func\s+main\s*\(\s*\)\s*\{", re.MULTILINE),
    "kotlin": re.compile(r"^fun\s+main\s*\([^)]*\)\s*(?::\s*Unit\s*)?\{", re.MULTILINE),
}
"""Where a program begins, in languages in which it may have one beginning."""


def in_class(before: str, code: str, entry_point: str, tests: str) -> tuple[str, str]:
    """What precedes the code, and the code, so that the tests can follow. See step 2 of the rule."""
    head = preamble(before, entry_point) if defines(code, entry_point) else before
    if set(_TYPE.findall(_NOT_CODE.sub("", head))) & set(_TYPE.findall(_NOT_CODE.sub("", code))):
        head = "\n".join(_IMPORT.findall(head))
    code = re.sub(r"^public\s+(?=(?:final\s+|abstract\s+)?class\b)", "", code, flags=re.MULTILINE)
    left_open = -min(_depths(tests))
    missing = _depths(f"{head}\n{code}")[-1] - left_open
    if missing >= 0:
        return head, code + "\n" + "}" * missing
    for _ in range(-missing):
        code = code[: max(code.rfind("}"), 0)]
    return head, code


def _depths(code: str) -> list[int]:
    """How many braces are open before the code, and after each of its braces."""
    depths = [0]
    for brace in re.findall(r"[{}]", _NOT_CODE.sub("", code)):
        depths.append(depths[-1] + (1 if brace == "{" else -1))
    return depths


def without_main(language: str, code: str, tests: str) -> str:
    """The code without its own `main` where the tests have one: an example of use, as answers often end with."""
    main = _MAINS.get(language)
    found = main.search(code) if main is not None and main.search(tests) else None
    if found is None:
        return code
    depth = 0
    for brace in re.finditer(r"[{}]", code[found.end() - 1 :]):
        depth += 1 if brace[0] == "{" else -1
        if depth == 0:
            return code[: found.start()] + code[found.end() - 1 + brace.end() :]
    return code[: found.start()]
