"""Problems and their checks, as structs. Pure."""

import ast
import math
import re
from pathlib import PurePosixPath
from typing import Any

import msgspec

from inferometer.core.request import Message
from inferometer.quality.json_schema import unsupported
from inferometer.quality.languages import LANGUAGES


class Check(msgspec.Struct, frozen=True, tag_field="kind", forbid_unknown_fields=True):
    """Decides whether an answer is right. A subclass states its kind."""

    @property
    def kind(self) -> str:
        return str(self.__struct_config__.tag)

    def fault(self) -> str:
        """Why this check can judge no answer; "" if it can. Found before the first trial, not after the last."""
        return ""


class PythonTests(Check, frozen=True, tag="python_tests"):
    """Python code that runs after the answer's code, in its namespace, and raises if the answer is wrong. `plus`:
    further tests, counted apart. `entry_point`: the function that the answer must define. `before`: code that the
    answer continues, such as the signature of its function."""

    tests: str
    entry_point: str = ""
    before: str = ""
    plus: str = ""

    def fault(self) -> str:
        if not self.tests.strip():
            return "tests is empty: every answer would pass"
        try:
            ast.parse(self.tests + "\n" + self.plus)
        except (SyntaxError, ValueError, RecursionError) as error:
            return f"its tests are not Python: {error}"
        return ""


class PythonInputs(Check, frozen=True, tag="python_inputs"):
    """EvalPlus's form of tests: the answer's function must give the same outputs as `solution`, for the `base` inputs
    and for the `plus` inputs, which are counted apart. `task`: EvalPlus's name of the problem, because some of its
    problems have a separate rule."""

    entry_point: str
    before: str
    solution: str
    base: list[Any]  # arguments of any type
    plus: list[Any]
    tolerance: float
    task: str


class Program(Check, frozen=True, tag="program"):
    """A program in any language of `languages`: what precedes the answer (`before`), the answer's code, and `tests`.
    It must end with status 0."""

    language: str
    tests: str
    entry_point: str = ""
    before: str = ""

    def fault(self) -> str:
        if self.language in LANGUAGES:
            return ""
        return f"language {self.language!r} is unknown; known: {', '.join(LANGUAGES)}"


class CommandCheck(Check, frozen=True, tag="command"):
    """A command that gets the answer as the file `answer`, runs in the sandbox, and must end with status 0. `files`:
    further files, by name. `code`: the file holds the answer's code only, without prose and fences."""

    command: list[str]
    files: dict[str, str] = {}
    code: bool = False

    def fault(self) -> str:
        if not self.command or not self.command[0]:
            return "command is empty"
        for name in self.files:
            path = PurePosixPath(name)
            if path.is_absolute() or ".." in path.parts or not path.parts or "\0" in name or name == "answer":
                return f"files: {name!r} is not a name below the check's folder, or is that of the answer"
        return ""


class Exact(Check, frozen=True, tag="exact"):
    """The answer must be this text, or one of these, white space at both ends aside. `ignore_case`: letters in upper
    and lower case are equal."""

    answer: str | list[str]
    ignore_case: bool = False

    def fault(self) -> str:
        answers = [self.answer] if isinstance(self.answer, str) else self.answer
        return "" if answers and all(one.strip() for one in answers) else "answer is empty: no answer could pass"


class Number(Check, frozen=True, tag="number"):
    """The number after `####` or in `\\boxed{}`, else the last number of the answer, must be this one, or closer than
    `tolerance`. A fraction (1/2, `\\frac{1}{2}`) is one number."""

    answer: float
    tolerance: float = 1e-6

    def fault(self) -> str:
        if math.isfinite(self.answer) and self.tolerance >= 0:
            return ""
        return "answer must be a finite number, and tolerance 0 or more"


class Regex(Check, frozen=True, tag="regex"):
    """The pattern (of Python's `re`) must be found in the answer; with `full` it must match all of it."""

    pattern: str
    full: bool = False

    def fault(self) -> str:
        try:
            re.compile(self.pattern)
        except (re.error, RecursionError, OverflowError) as error:
            return f"pattern is not a regular expression: {error}"
        return ""


class JsonSchema(Check, frozen=True, tag="json_schema"):
    """The answer must be JSON, alone or in a fence, that this JSON Schema allows."""

    schema: dict[str, Any]  # a JSON Schema

    def fault(self) -> str:
        return unsupported(self.schema)


AnyCheck = PythonTests | PythonInputs | Program | CommandCheck | Exact | Number | Regex | JsonSchema


class Problem(msgspec.Struct, frozen=True):
    """One problem of a set. `messages`: what a chat model is asked. `text`: the prompt that a completion continues.
    `check` None: nothing decides whether an answer is right. `solution`: an answer that is right, "" if unknown.
    `wrong`: answers that are not. `completion`: the answers continue `text`."""

    id: str
    set: str
    messages: tuple[Message, ...]
    text: str
    check: AnyCheck | None = None
    task: str = ""
    language: str = ""
    solution: str = ""
    wrong: tuple[str, ...] = ()
    completion: bool = False
