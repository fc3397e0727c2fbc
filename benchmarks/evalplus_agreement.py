"""Agreement of our checks of HumanEval+ and MBPP+ with the package evalplus, on the chat answers of stored studies.

python3 -m venv .evalplus && .evalplus/bin/pip install evalplus
python benchmarks/evalplus_agreement.py STUDY... --humaneval HumanEvalPlus.jsonl.gz --mbpp MbppPlus.jsonl.gz \\
    --python .evalplus/bin/python

Every answer is judged by our extraction and checks, and by evalplus's `check_correctness` after its own `sanitize`
(full). Where they differ, evalplus also judges the code that we extract (same), and the answer is printed. evalplus
runs in bubblewrap, because it runs the answers.
"""

import argparse
import json
import os
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec

from inferometer.core.request import problem_id
from inferometer.quality.checking import CheckLimits, CheckOutcome, check_answer
from inferometer.quality.extraction import code_of, defines, whole_code
from inferometer.quality.problem import Problem, PythonInputs
from inferometer.quality.sandbox import find_sandbox
from inferometer.quality.sets.evalplus import HumanEvalPlus, HumanEvalPlusSettings, MbppPlus, MbppPlusSettings
from inferometer.results.read import read_study

ORACLE = """
import json, sys
from concurrent.futures import ThreadPoolExecutor
from evalplus.data import get_human_eval_plus, get_human_eval_plus_hash, get_mbpp_plus, get_mbpp_plus_hash
from evalplus.eval._special_oracle import MBPP_OUTPUT_NOT_NONE_TASKS
from evalplus.evaluate import check_correctness, get_groundtruth
from evalplus.sanitize import sanitize
folder = sys.argv[1]
samples = [json.loads(line) for line in open(folder + "/samples.jsonl")]
names = {one["task"] for one in samples}
sets = {"HumanEval": ("humaneval", get_human_eval_plus, get_human_eval_plus_hash, []),
        "Mbpp": ("mbpp", get_mbpp_plus, get_mbpp_plus_hash, MBPP_OUTPUT_NOT_NONE_TASKS)}
problems, truth = {}, {}
for prefix in {name.split("/")[0] for name in names}:
    _, read, hashed, not_none = sets[prefix]
    found = {name: one for name, one in read().items() if name in names}
    problems |= found
    truth |= get_groundtruth(found, "part-" + hashed(), not_none)
def judged(one):
    problem = problems[one["task"]]
    cleaned = sanitize(one["answer"], entrypoint=problem["entry_point"])
    def result(code):
        kind = sets[one["task"].split("/")[0]][0]
        found = check_correctness(kind, 0, problem, code, truth[one["task"]], fast_check=True, min_time_limit=10)
        return [found[part][0] == "pass" for part in ("base", "plus")]
    full = result(cleaned)
    agrees = [full[0], all(full)] == one["ours"]
    found = {"full": full, "same": full if agrees else result(one["code"])}
    return {"task": one["task"], "cleaned": cleaned, **found}
with ThreadPoolExecutor(2) as pool, open(folder + "/found.jsonl", "w") as out:
    for one in pool.map(judged, samples):
        out.write(json.dumps(one) + "\\n")
"""


class Answer(msgspec.Struct, frozen=True):
    """A distinct answer to a problem, and how often the studies hold it."""

    task: str
    text: str
    count: int


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("studies", nargs="+", type=Path)
    parser.add_argument("--humaneval", type=Path, required=True, help="EvalPlus's HumanEvalPlus.jsonl.gz")
    parser.add_argument("--mbpp", type=Path, required=True, help="EvalPlus's MbppPlus.jsonl.gz")
    parser.add_argument("--python", type=Path, required=True, help="an interpreter that has evalplus")
    asked = parser.parse_args()
    problems = HumanEvalPlus(HumanEvalPlusSettings(path=str(asked.humaneval))).problems()
    problems |= MbppPlus(MbppPlusSettings(path=str(asked.mbpp))).problems()
    answers = list(answers_of(asked.studies, problems))
    total = sum(one.count for one in answers)
    print(f"{total} answers, {len(answers)} of them different, to {len({one.task for one in answers})} problems")
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        ours = list(pool.map(judged_by_us, [problems[one.task] for one in answers], [one.text for one in answers]))
    print("judged by us", flush=True)
    report(answers, ours, judged_by_evalplus(answers, problems, ours, asked))


def answers_of(folders: Iterable[Path], problems: dict[str, Problem]) -> Iterable[Answer]:
    """Those of trials under way count too: an answer is complete or not there."""
    counts: Counter[tuple[str, str]] = Counter()
    for folder in folders:
        for trial in read_study(folder).trials:
            for record in trial.records:
                if record.ok and record.measured and problem_id(record.request_id) in problems:
                    counts[problem_id(record.request_id), record.text] += 1
    return (Answer(task, text, count) for (task, text), count in counts.items())


def judged_by_us(problem: Problem, text: str) -> CheckOutcome:
    outcome = check_answer(problem, text, find_sandbox(), CheckLimits(wall_s=20.0))
    assert outcome is not None
    return outcome


def judged_by_evalplus(
    answers: list[Answer], problems: dict[str, Problem], ours: list[CheckOutcome], asked: argparse.Namespace
) -> list[dict[str, Any]]:
    with tempfile.TemporaryDirectory() as folder:
        with (Path(folder) / "samples.jsonl").open("w") as file:
            for one, our in zip(answers, ours, strict=True):
                judged = [bool(our.base_passed), our.result == "passed"]
                code = our_code(problems[one.task], one)
                sample = {"task": one.task, "answer": one.text, "code": code, "ours": judged}
                file.write(json.dumps(sample) + "\n")
        inside = ["bwrap", "--unshare-all", "--die-with-parent", "--ro-bind", "/", "/", "--dev", "/dev", "--proc"]
        inside += ["/proc", "--tmpfs", "/tmp", "--bind", folder, folder, "--setenv", "HOME", folder, "--setenv"]
        inside += ["HUMANEVAL_OVERRIDE_PATH", str(asked.humaneval.resolve()), "--setenv", "MBPP_OVERRIDE_PATH"]
        inside += [str(asked.mbpp.resolve()), "--chdir", folder]
        # Not resolved: the link tells Python which environment it belongs to.
        subprocess.run([*inside, "--", str(asked.python.absolute()), "-c", ORACLE, folder], check=True)
        return [json.loads(line) for line in (Path(folder) / "found.jsonl").read_text().splitlines()]


def our_code(problem: Problem, answer: Answer) -> str:
    assert isinstance(problem.check, PythonInputs)
    code = code_of(answer.text, problem.check.entry_point)
    is_whole = defines(code, problem.check.entry_point)
    return code if is_whole else whole_code(code, problem.check.before, problem.check.entry_point)


def report(answers: list[Answer], ours: list[CheckOutcome], theirs: list[dict[str, Any]]) -> None:
    agreed = Counter[str]()
    passed = 0
    for answer, our, their in zip(answers, ours, theirs, strict=True):
        found = [bool(our.base_passed), our.result == "passed"]
        expected = {name: [their[name][0], all(their[name])] for name in ("full", "same")}
        passed += answer.count * found[1]
        agreed.update({name: answer.count * (found == one) for name, one in expected.items()})
        if any(found != one for one in expected.values()):
            print(f"\n{answer.task} (×{answer.count}): base, plus: ours {found}, evalplus {expected}")
            print(f"our reason: {our.reason}\n--- answer\n{answer.text}\n--- evalplus's code\n{their['cleaned']}")
    total = sum(one.count for one in answers)
    print(f"\n{passed} of {total} answers pass all tests. Judged alike by evalplus:")
    for name, count in agreed.items():
        print(f"  {name}: {count} ({100 * count / total:.2f}%)")


if __name__ == "__main__":
    main()
