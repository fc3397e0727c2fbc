"""The check of one answer: the program that decides, run in the sandbox, and its outcome."""

import importlib.resources
import json
import re
import secrets
import threading
from typing import Any

import msgspec

from inferometer.core.record import AnswerCheck, CheckResult
from inferometer.quality.extraction import (
    ENCLOSED,
    blocks_of,
    code_of,
    completed,
    defines,
    in_class,
    preamble,
    whole_code,
    without_main,
    without_reasoning,
)
from inferometer.quality.languages import LANGUAGES, joined
from inferometer.quality.problem import (
    CommandCheck,
    Exact,
    JsonSchema,
    Number,
    Problem,
    Program,
    PythonInputs,
    PythonTests,
    Regex,
)
from inferometer.quality.sandbox import Ended, ProgramLimits, Sandbox

_REASON_CHARACTERS = 600
_MIB = 1024**2
_REFERENCE_S = 60.0
"""Seconds for the reference solution, which runs on the same inputs as the answer: the slowest of EvalPlus needs 10."""


class CheckLimits(msgspec.Struct, frozen=True):
    """What the check of one answer may use. `wall_s`: seconds, without those that a compiler takes. `interrupt`: ends
    the check's program when it is set."""

    wall_s: float = 10.0
    memory_mib: int = 2048
    interrupt: threading.Event | None = None

    def limits(self, extra_s: float = 0.0, *, address_space: bool = True) -> ProgramLimits:
        return ProgramLimits(
            wall_s=self.wall_s + extra_s,
            memory_bytes=self.memory_mib * _MIB,
            address_space=address_space,
            interrupt=self.interrupt,
        )


class CheckOutcome(msgspec.Struct, frozen=True):
    """The outcome for one answer, without the request that it belongs to. `base_passed`: of the base tests alone; None
    where a set has no other tests."""

    result: CheckResult
    reason: str = ""
    base_passed: bool | None = None

    def of_request(self, index: int) -> AnswerCheck:
        return AnswerCheck(index, self.result, self.reason, self.base_passed)


def check_answer(problem: Problem, answer: str, sandbox: Sandbox, limits: CheckLimits) -> CheckOutcome | None:
    """Whether the answer is right; None for a problem without a check."""
    check = problem.check
    if check is None:
        return None
    if not isinstance(check, CommandCheck):
        answer = without_reasoning(answer)
    if not answer.strip():
        return CheckOutcome("no_answer", "the answer is empty, or holds only reasoning")
    match check:
        case PythonTests() | PythonInputs():
            return _python(problem, check, answer, sandbox, limits)
        case Program():
            return _program(check, _code(problem, answer, check.entry_point), sandbox, limits)
        case CommandCheck():
            return _command(check, answer, sandbox, limits)
        case Exact():
            return _exact(check, answer)
        case Number():
            return _number(check, answer)
        case Regex():
            return _regex(check, answer, sandbox, limits)
        case JsonSchema():
            return _json_schema(check, answer, sandbox, limits)


# --- programs -------------------------------------------------------------------------------------


def _code(problem: Problem, answer: str, entry_point: str) -> str:
    return completed(answer, problem.language or "python") if problem.completion else code_of(answer, entry_point)


def _python(
    problem: Problem, check: PythonTests | PythonInputs, answer: str, sandbox: Sandbox, limits: CheckLimits
) -> CheckOutcome:
    code = _code(problem, answer, check.entry_point)
    before = check.before
    if isinstance(check, PythonInputs) and not problem.completion and defines(code, check.entry_point):
        before = ""  # EvalPlus's rule: such an answer stands alone
    has_plus = isinstance(check, PythonInputs) or bool(check.plus)
    first = preamble(before, check.entry_point)
    task = {**msgspec.to_builtins(check), "code": whole_code(code, before, check.entry_point), "preamble": first}
    return _in_harness(task, ("base", "plus") if has_plus else ("base",), sandbox, limits)


def _in_harness(task: dict[str, Any], parts: tuple[str, ...], sandbox: Sandbox, limits: CheckLimits) -> CheckOutcome:
    word = secrets.token_hex(16)
    files = {"harness.py": _data("python_harness.py"), "task.json": json.dumps({**task, "word": word})}
    allowed = limits.limits()
    if task.get("solution"):
        twice = 2 * allowed.memory_bytes
        allowed = msgspec.structs.replace(limits.limits(_REFERENCE_S), memory_bytes=twice)
    ended = sandbox.run([sandbox.python, "-X", "utf8", "harness.py"], files, allowed)
    passed = re.findall(rf"^{word} (\w+)$", ended.output, re.MULTILINE)
    base = None if len(parts) == 1 else "base" in passed
    if ended.status == 0 and tuple(passed) == parts:
        return CheckOutcome("passed", "", base)
    return msgspec.structs.replace(_failure(ended), base_passed=base)


def _data(name: str) -> str:
    return importlib.resources.files("inferometer.quality").joinpath("data", name).read_text("utf-8")


def _program(check: Program, code: str, sandbox: Sandbox, limits: CheckLimits) -> CheckOutcome:
    language = LANGUAGES.get(check.language)
    if language is None or not all(map(sandbox.has, language.programs)):
        need = f" (install {language.install})" if language is not None and language.install else ""
        return CheckOutcome("no_toolchain", f"there is no toolchain for {check.language}{need}")
    code = without_main(check.language, code, check.tests)
    if check.language in ENCLOSED and check.entry_point:
        before, code = in_class(check.before, code, check.entry_point, check.tests)
    else:
        before = whole_code(code, check.before, check.entry_point).removesuffix(code)
    files = {language.file: joined(check.language, before, code, check.tests)}
    if language.library:
        files[language.library] = _data(language.library)
    allowed = limits.limits(language.extra_s, address_space=False)
    return _ended(sandbox.run(["sh", "-c", language.command], files, allowed))


def _command(check: CommandCheck, answer: str, sandbox: Sandbox, limits: CheckLimits) -> CheckOutcome:
    files = {**check.files, "answer": code_of(answer) if check.code else answer}
    command = [sandbox.python if word in ("python", "python3") else word for word in check.command]
    return _ended(sandbox.run(command, files, limits.limits(address_space=False)))


def _ended(ended: Ended) -> CheckOutcome:
    return CheckOutcome("passed") if ended.status == 0 else _failure(ended)


def _failure(ended: Ended) -> CheckOutcome:
    if ended.stopped == "time":
        return CheckOutcome("timeout", f"it was stopped after {ended.wall_s:.0f} s")
    if ended.stopped:
        return CheckOutcome("failed", f"it was stopped at the limit of {ended.stopped}")
    return CheckOutcome("failed", _reason(ended))


_ERROR = re.compile(r"^(?!\s+(?:at|from|File)\b).*(?:error|exception|panic|assert|fatal|uncaught)", re.IGNORECASE)


def _reason(ended: Ended) -> str:
    """What the program wrote about its failure: the lines that name an error, else the last ones."""
    lines = [line for line in (ended.errors.strip() or ended.output.strip()).splitlines() if line.strip()]
    naming = [line for line in lines if _ERROR.search(line)]
    said = "\n".join(line.strip() for line in naming[-3:] or lines[-3:])[-_REASON_CHARACTERS:]
    if ended.status == 0:
        return f"it ended before its tests did. {said}".strip()
    return said or f"it ended with status {ended.status}"


# --- texts ----------------------------------------------------------------------------------------


def _exact(check: Exact, answer: str) -> CheckOutcome:
    right = [check.answer] if isinstance(check.answer, str) else check.answer
    found = answer.replace("\r\n", "\n").strip()
    same = (
        any(found.casefold() == one.strip().casefold() for one in right)
        if check.ignore_case
        else any(found == one.strip() for one in right)
    )
    return CheckOutcome("passed") if same else CheckOutcome("failed", f"not equal to {right[0]!r:.200}")


_DIGITS = (
    r"(?:(?:[0-9]{1,3}(?:,[0-9]{3})+(?![0-9])|[0-9]+)(?:\.[0-9]+)?|\.[0-9]+)(?:[eE][-+]?[0-9]+)?"
    r"(?:/[0-9]+(?![0-9/.]))?"
)
_NUMBER = re.compile(rf"(?<![\w.])-?(?:\$\s?)?{_DIGITS}")
_MARKED = re.compile(
    rf"####[\s*]*(?P<line>(?>-?(?:\$\s?)?{_DIGITS}))(?![.)][ \t]*\w)"  # but "#### 2. Add them" is a heading
    r"|\\boxed\{(?P<boxed>(?:[^{}\n]|\{[^{}\n]*\})*)\}"
)
_FRACTION = re.compile(r"\\[dt]?frac\{\s*([0-9]+)\s*\}\{\s*([0-9]+)\s*\}")
_GROUPED = re.compile(r"(?<=[0-9])(?:\{,\}|\\[,!]|[\u00a0\u2009\u202f])(?=[0-9]{3})")


def number_in(answer: str) -> float | None:
    """The number that an answer gives; None without one. See `problem.Number`."""
    text = _GROUPED.sub("", _FRACTION.sub(r"\1/\2", answer[-20_000:].replace("\u2212", "-")))
    marked = [found["line"] or found["boxed"].split("=")[-1] for found in _MARKED.finditer(text)]
    in_marked = [found[0] for one in marked if (found := _NUMBER.search(one))]
    numbers = in_marked or _NUMBER.findall(text)
    if not numbers:
        return None
    above, _, below = re.sub(r"[,$\s]", "", numbers[-1]).partition("/")
    return float(above) / float(below) if below.strip("0") else float(above)


def _number(check: Number, answer: str) -> CheckOutcome:
    found = number_in(answer)
    if found is None:
        return CheckOutcome("failed", f"no number in the answer; {check.answer:g} is right")
    if abs(found - check.answer) <= check.tolerance:
        return CheckOutcome("passed")
    return CheckOutcome("failed", f"{found:g} instead of {check.answer:g}")


_REGEX = """
import json, re, sys
task = json.load(open("task.json"))
found = (re.fullmatch if task["full"] else re.search)(task["pattern"], task["answer"].strip())
sys.exit(0 if found else "the pattern " + task["pattern"] + " is not found")
"""


def _regex(check: Regex, answer: str, sandbox: Sandbox, limits: CheckLimits) -> CheckOutcome:
    """In the sandbox, because a pattern may need forever."""
    task = json.dumps({"pattern": check.pattern, "full": check.full, "answer": answer})
    return _ended(sandbox.run([sandbox.python, "-c", _REGEX], {"task.json": task}, limits.limits()))


def _json_schema(check: JsonSchema, answer: str, sandbox: Sandbox, limits: CheckLimits) -> CheckOutcome:
    """In the sandbox, because a schema may hold a pattern."""
    code = importlib.resources.files("inferometer.quality").joinpath("json_schema.py").read_text("utf-8")
    task = json.dumps({"schema": check.schema, "answers": blocks_of(answer)})
    return _ended(sandbox.run([sandbox.python, "-c", code], {"task.json": task}, limits.limits()))
