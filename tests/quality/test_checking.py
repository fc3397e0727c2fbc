import os
import sys

import pytest

from inferometer.quality.checking import CheckLimits, check_answer
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
from inferometer.quality.sandbox import Sandbox, sandbox_state

_FOUND, _REASON = sandbox_state()
LIMITS = CheckLimits(wall_s=3.0)


@pytest.fixture
def sandbox() -> Sandbox:
    if _FOUND is None and (os.environ.get("CI") or sys.platform != "linux"):
        pytest.skip(f"there is no sandbox on this machine: {_REASON}")
    assert _FOUND is not None, _REASON
    return _FOUND


def outcome(check, answer: str, sandbox: Sandbox, **fields):
    problem = Problem("p/1", "test", (), "", check, language="python", **fields)
    return check_answer(problem, answer, sandbox, LIMITS)


DOUBLE = PythonTests("assert f(2) == 4", "f", "import math\ndef f(x):\n", plus="assert f(-1) == -2")


@pytest.mark.parametrize(
    "answer",
    [
        "```python\ndef f(x):\n    return 2 * x\n```",
        "    return 2 * x",
        "def f(x):\n    return math.floor(2 * x)",
        "def f(x):\n    return 2 * x\n\nprint(f(3)\nThis prints six",
        "The function:\n\ndef helper(x):\n    return 2 * x\n\ndef f(x):\n    return helper(x)\n\nIt uses a helper.",
        "```python\ndef f(x):\n    return 2 * x\n\nvalue = int(input())\nprint(f(value))\n```",
        "```python\ndef f(x):\n    print('a' * 1000)\n    return 2 * x\n```",
        "def f(x):\n    pass\n\ndef f(x):\n    return 2 * x",
    ],
)
def test_right_code_passes_in_every_form(answer, sandbox):
    found = outcome(DOUBLE, answer, sandbox)
    assert (found.result, found.base_passed) == ("passed", True), found


@pytest.mark.parametrize(
    ("answer", "result"),
    [
        ("def f(x):\n    return x + 2", "failed"),
        ("def f(x):\n    raise SystemExit(0)", "failed"),
        ("def f(x):\n    import os\n    os._exit(0)", "failed"),
        (
            "import os\nfor n in range(3, 20):\n    os.write(n, b'base\\nplus\\n')\nos._exit(0)\ndef f(x): return 0",
            "failed",
        ),
        ("def f(x):\n    while True: pass", "timeout"),
        ("def f(x):\n    return f(x)", "failed"),
        ("I cannot do that.", "failed"),
        ("   ", "no_answer"),
        ("\ud800", "failed"),
        ("(" * 100_000, "failed"),
    ],
)
def test_wrong_code_fails_however_it_ends(answer, result, sandbox):
    assert outcome(DOUBLE, answer, sandbox).result == result


def test_the_reason_shows_the_test_that_failed(sandbox):
    tests = "def check(f):\n    assert f(1) == 2\n    assert f(2) == 4\n\ncheck(f)\n"
    found = outcome(PythonTests(tests, "f"), "def f(x):\n    return 2", sandbox)
    assert found.reason == "assert f(2) == 4\nAssertionError"


def test_base_and_plus_tests_are_counted_apart(sandbox):
    found = outcome(DOUBLE, "def f(x):\n    return abs(2 * x)", sandbox)
    assert (found.result, found.base_passed) == ("failed", True)
    check = PythonInputs("f", "", "def f(x):\n    return [x / 3]", [[1.0]], [[0.5], [3]], 1e-6, "Test/1")
    assert outcome(check, "def f(x):\n    return [x * (1 / 3)]", sandbox).result == "passed"
    found = outcome(check, "def f(x):\n    return [1 / 3]", sandbox)
    assert (found.result, found.base_passed) == ("failed", True)
    assert "f(*[0.5]) gave" in found.reason


@pytest.mark.parametrize(
    ("answer", "completion", "result"),
    [
        ("def f(x: List[int]):\n    return x", False, "failed"),  # the prompt's import does not count
        ("from typing import List\ndef f(x: List[int]):\n    return x", False, "passed"),
        ("    return x", False, "passed"),
        ("    y: List[int] = x\n    return y", True, "passed"),
        ("def f(x: List[int]):\n    return x", True, "passed"),
    ],
)
def test_a_chat_answer_to_a_set_of_evalplus_stands_alone(answer, completion, result, sandbox):
    before = "from typing import List\ndef f(x: List[int]):\n"
    check = PythonInputs("f", before, "    return x", [[[1]]], [[[]]], 0, "Test/1")
    assert outcome(check, answer, sandbox, completion=completion).result == result


def test_a_language_without_a_toolchain_counts_neither_way(sandbox):
    found = outcome(Program("swift", "", "f"), "x", sandbox)
    assert (found.result, found.of_request(3).passed) == ("no_toolchain", None)


@pytest.mark.parametrize(
    ("check", "right", "wrong"),
    [
        (Exact("a b"), " a b\n", "A B"),
        (Exact(["x", "y"], ignore_case=True), "Y", "z"),
        (Number(1072), "so it is $1,072.", "1072 minus 1 is 1071"),
        (Number(0.5), r"\boxed{0.5} because 1/2", "half"),
        (Number(-3), "#### -3", "#### 3"),
        (Number(-3), "**\u22123**", "- 3"),
        (Number(0.5), r"\boxed{x = \dfrac{1}{2}}", "1 or 2"),
        (Number(18), "#### 2. Add them\n- 18", "#### 2. Add them\n- 2"),
        (Number(1000), r"\boxed{1{,}000} of 5", "<think>1000</think>1"),
        (Exact("a\nb"), "<think>c?</think>\na\r\nb\r\n", "a b"),
        (Exact("a"), "c? No.</think>a", "<think>a"),
        (Regex(r"^b$"), "b", "<think>b</think>c"),
        (JsonSchema({"const": {"a": 1}}), '```sh\nls\n```\nSo:\n```json\n{"a": 1}\n```\n', "NaN"),
        (Regex(r"^\d+$"), "17", "x17"),
        (Regex(r"a+", full=True), "aaa", "aab"),
        (CommandCheck(["python3", "-c", "assert open('answer').read() == 'x'"]), "x", "y"),
        (CommandCheck(["sh", "answer"], code=True), "```sh\nexit 0\n```", "```sh\nexit 1\n```"),
        (JsonSchema({"type": "object", "required": ["a"]}), '```json\n{"a": 1}\n```', '{"b": 1}'),
        (JsonSchema({"type": "array", "items": {"enum": [1, "x"]}}), '[1, "x"]', "[true]"),
        (JsonSchema({"anyOf": [{"type": "integer", "minimum": 3}, {"const": None}]}), "null", "2"),
        (
            JsonSchema({"properties": {"a": {"pattern": "^b"}}, "additionalProperties": False}),
            '{"a": "bc"}',
            '{"c": 1}',
        ),
    ],
)
def test_each_kind_of_check_tells_right_from_wrong(check, right, wrong, sandbox):
    assert outcome(check, right, sandbox).result == "passed"
    assert outcome(check, wrong, sandbox).result in ("failed", "no_answer")


def test_a_schema_with_a_keyword_that_is_not_supported_lets_nothing_pass(sandbox):
    found = outcome(JsonSchema({"$ref": "#/x"}), "1", sandbox)
    assert (found.result, "not supported" in found.reason) == ("failed", True)


def test_a_pattern_that_needs_forever_is_stopped(sandbox):
    assert outcome(Regex(r"(a+)+$"), "a" * 40 + "b", sandbox).result == "timeout"


@pytest.mark.parametrize(
    ("answer", "result"),
    [("new Dictionary<string, int[]> {{\"a\", new[] {1, 2}}}", "passed"),
     ("new Dictionary<string, int[]> {{\"a\", new[] {2, 1}}}", "failed"),
     ("new Dictionary<string, long[]> {{\"a\", new long[] {1, 2}}}", "failed")],
)  # fmt: skip
def test_csharp_tests_compare_values_as_the_library_of_mxeval_does(sandbox, answer, result):
    if not sandbox.has("mcs"):
        pytest.skip("needs mono: apt-get install mono-mcs")
    tests = (
        'public static void Main() { var expected = new Dictionary<string, int[]> {{"a", new[] {1, 2}}};\n'
        "if (!new CompareLogic().Compare(F(), expected).AreEqual) throw new Exception(); } }"
    )
    before = "using System; using System.Collections.Generic; using KellermanSoftware.CompareNetObjects;\nclass P {\n"
    problem = Problem("p", "set", (), before, Program("csharp", tests, "F", before), language="csharp")
    found = check_answer(problem, f"```csharp\nstatic object F() {{ return {answer}; }}\n```", sandbox, CheckLimits())
    assert found.result == result
