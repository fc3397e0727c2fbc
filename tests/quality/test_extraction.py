import re

import pytest

from inferometer.quality.extraction import code_of, completed, defines, in_class, preamble, whole_code, without_main

CODE = "def f(x):\n    return x\n"
BEFORE = 'import math\n\ndef helper():\n    return 1\n\ndef f(x):\n    """Returns x."""\n'


@pytest.mark.parametrize(
    "answer",
    [
        f"```python\n{CODE}```",
        f"Here it is:\n\n```python\n{CODE}```\nIt returns x.",
        f"```\n{CODE}```\n\nExample:\n```\nf(1)\n```",
        f"First install:\n```sh\npip install x\n```\nthen\n```python\n{CODE}```",
        f"~~~py\n{CODE}~~~",
        f"````python\n{CODE}````\n",
        "1. Define it:\n\n   ```python\n   def f(x):\n       return x\n   ```\n2. Call it.",
        f"```python\n{CODE}",
        f"<think>```python\nwrong\n```</think>\n```python\n{CODE}```",
        f"```python\r\n{CODE}```".replace("\n", "\r\n").replace("\r\r", "\r"),
    ],
)
def test_the_first_fenced_block_that_defines_the_function_is_taken(answer):
    assert code_of(answer, "f") == CODE


@pytest.mark.parametrize(
    ("language", "main"),
    [
        ("go", "func main() {\n\tif true { f(1) }\n}\n"),
        ("cpp", "int main(int n, char** words) {\n  { f(1); }\n}\n"),
        ("kotlin", "fun main(args: Array<String>) {\n  f(1)\n}\n"),
        ("csharp", "public static void Main(string[] args) { f(1); }\n"),
    ],
)
def test_an_answer_s_own_beginning_of_a_program_is_left_out_where_the_tests_have_one(language, main):
    assert without_main(language, f"before\n{main}after\n", main).split() == ["before", "after"]
    assert without_main(language, f"before\n{main}", "assert") == f"before\n{main}"


def test_an_answer_without_fences_is_taken_whole():
    assert code_of(CODE, "f") == CODE


def test_code_that_continues_the_prompt_follows_it_and_a_repeated_signature_follows_its_helpers_only():
    assert whole_code("    return x\n", BEFORE, "f") == BEFORE + "    return x\n"
    assert whole_code(CODE, BEFORE, "f") == preamble(BEFORE, "f") + "\n" + CODE
    assert preamble(BEFORE, "f") == "import math\n\ndef helper():\n    return 1\n"


@pytest.mark.parametrize(
    "code",
    ["def f(x):", "async def f(x):", "function f(x) {", "const f = (x) =>", "func f(n int) int {", "sub f {",
     "def f", "    public static int f(int x) {", "std::vector<int> f(int x) {", "fn f<T>(x: T)"],
)  # fmt: skip
def test_a_definition_is_known_in_every_language(code):
    assert defines(code, "f")


@pytest.mark.parametrize(
    "code",
    [
        "# f returns x",
        "    return f(1)",
        "fx = 2",
        "y == f",
        "assert f(1) == 2",
        "f(1)",
        "print(f(2))",
        " * >>> f(1)",
        "/// >>> f(1)",
        "// f(1)",
    ],
)
def test_a_mention_is_not_a_definition(code):
    assert not defines(code, "f")


@pytest.mark.parametrize(
    ("language", "answer", "kept"),
    [
        ("python", "    return x\n```\nprose", "    return x\n"),
        ("javascript", "  return x;\n}\nconsole.log(f(1));", "  return x;\n}\n"),
        ("ruby", "  x\nend\nputs f(1)", "  x\nend\n"),
    ],
)
def test_a_completion_ends_with_its_function(language, answer, kept):
    assert completed(answer, language) == kept


JAVA = "import java.util.*;\nclass Add {\n    /** >>> add(1, 2) */\n    public static int add(int x, int y) {\n"
JAVA_METHOD = "    public static int add(int x, int y) { return x; }\n"
SHARP = "using System;\nnamespace S\n{\n  public class P\n  {\n    public static int Add(int x)\n    {\n"
SHARP_METHOD = "    public static int Add(int x)\n    { return x; } // }\n"
MAIN = "public static void Main(string[] args)\n{ }\n"


@pytest.mark.parametrize(
    ("before", "answer", "tests", "program"),
    [
        (JAVA, JAVA_METHOD, "class Main { }", "class Add class Main"),
        (JAVA, f"public class Add {{\n{JAVA_METHOD}}}\n", "class Main { }", "class Add class Main"),
        (JAVA, "        return x;\n    }\n}\n", "class Main { }", "class Add class Main"),
        (JAVA, "        return x;\n    }\n", "class Main { }", "class Add class Main"),
        (SHARP, SHARP_METHOD, f"{MAIN}}}\n}}", "namespace S"),
        (SHARP, f"namespace S {{ public class P {{\n{SHARP_METHOD}{MAIN}}} }}", f"{MAIN}}}\n}}", "namespace S"),
    ],
)
def test_a_class_is_closed_or_left_open_as_the_tests_need_it(before, answer, tests, program):
    head, code = in_class(before, without_main("csharp", answer, tests), "add" if before == JAVA else "Add", tests)
    whole = re.sub(r"//.*|/\*.*?\*/|\b(?:import|using) .*", "", f"{head}\n{code}\n{tests}")
    while "{" in (shorter := re.sub(r"\{[^{}]*\}", "", whole)):
        whole = shorter
    assert " ".join(shorter.split()) == program
    assert (head + code).count("class") == 1 and (code + tests).count("Main") == 1
