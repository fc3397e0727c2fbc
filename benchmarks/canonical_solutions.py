"""Whether canonical solutions of a problem set pass its checks in the sandbox, by language, and which do not.

python benchmarks/canonical_solutions.py mxeval FOLDER --languages kotlin --every 20

Results are kept in --out, one line for each problem, and a second run checks only what is missing there.
"""

import argparse
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec

from inferometer.quality.checking import CheckLimits, check_answer
from inferometer.quality.problem import Problem
from inferometer.quality.sandbox import Sandbox, find_sandbox
from inferometer.quality.sets.problem_set import ProblemSet
from inferometer.workloads.catalog import make_workload, settings_struct

ROOT = Path(__file__).parents[1]
SHOWN = 160
"""Characters of a reason in the list."""


class Checked(msgspec.Struct, frozen=True):
    """The outcome for one canonical solution."""

    id: str
    language: str
    result: str
    reason: str


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=("humaneval", "humaneval+", "mbpp+", "mxeval"))
    parser.add_argument("path", type=Path)
    parser.add_argument("--languages", nargs="+", default=[], help="of mxeval")
    parser.add_argument("--every", type=int, default=1, help="check only every n-th problem of a language")
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "canonical.jsonl")
    asked = parser.parse_args()
    settings = {"kind": asked.kind, "path": str(asked.path)} | (
        {"languages": asked.languages} if asked.languages else {}
    )
    workload = make_workload(msgspec.convert(settings, settings_struct(asked.kind)))
    assert isinstance(workload, ProblemSet)
    chosen = list(every_nth([one for one in workload.problems().values() if one.solution], asked.every))
    asked.out.parent.mkdir(parents=True, exist_ok=True)
    known = kept(asked.out)
    sandbox = find_sandbox()
    with asked.out.open("ab") as file, ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        missing = [one for one in chosen if one.id not in known]
        for found in pool.map(lambda problem: checked(problem, sandbox), missing):
            file.write(msgspec.json.encode(found) + b"\n")
            file.flush()
            known[found.id] = found
    print_table([known[one.id] for one in chosen])


def every_nth(problems: Sequence[Problem], step: int) -> Iterator[Problem]:
    """Of each language: the first problem, and every n-th after it."""
    seen: Counter[str] = Counter()
    for one in problems:
        if seen[one.language] % step == 0:
            yield one
        seen[one.language] += 1


def kept(path: Path) -> dict[str, Checked]:
    """The outcomes of earlier runs, by problem."""
    lines = path.read_bytes().splitlines() if path.exists() else []
    return {one.id: one for one in (msgspec.json.decode(line, type=Checked) for line in lines)}


def checked(problem: Problem, sandbox: Sandbox) -> Checked:
    """The check of the solution, as if a chat had answered it in a fence."""
    found = check_answer(problem, f"```\n{problem.solution}\n```", sandbox, CheckLimits(120))
    assert found is not None, problem.id
    return Checked(problem.id, problem.language, found.result, found.reason)


def print_table(found: Sequence[Checked]) -> None:
    print("| language | solutions | passed | other |\n| --- | --- | --- | --- |")
    for language in sorted({one.language for one in found}):
        results = Counter(one.result for one in found if one.language == language)
        other = ", ".join(f"{count} {name}" for name, count in results.items() if name != "passed")
        print(f"| {language} | {results.total()} | {results['passed']} | {other} |")
    for one in found:
        if one.result not in ("passed", "no_toolchain"):
            print(f"{one.id}: {one.result}: {' | '.join(one.reason.splitlines())[:SHOWN]}")


if __name__ == "__main__":
    main()
