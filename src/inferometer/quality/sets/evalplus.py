"""EvalPlus's sets HumanEval+ and MBPP+ (Liu et al. 2023): the answers' outputs are compared with a reference's."""

from typing import ClassVar

from inferometer.base.errors import DatasetUnusable
from inferometer.quality.problem import Problem, PythonInputs
from inferometer.quality.sets.problem_set import ProblemSet, SetSettings, asked_for_code, list_of, text_of


class HumanEvalPlusSettings(SetSettings, frozen=True, tag="humaneval+"):
    """HumanEval+ from EvalPlus's `HumanEvalPlus.jsonl.gz`; base and plus tests are counted apart."""


class MbppPlusSettings(SetSettings, frozen=True, tag="mbpp+"):
    """MBPP+ from EvalPlus's `MbppPlus.jsonl.gz`; base and plus tests are counted apart."""


_KINDS = {"HumanEval/": "humaneval+", "Mbpp/": "mbpp+"}
"""What each id of EvalPlus's own files begins with. Files of others have other ids."""


class _EvalPlus(ProblemSet):
    def read(self) -> list[Problem]:
        path = self.required_path()
        found: list[Problem] = []
        for number, entry in enumerate(self.file_entries(path), 1):
            place = f"{path}, entry {number}"
            task, prompt = text_of(entry, "task_id", place), text_of(entry, "prompt", place)
            kind = next((kind for ids, kind in _KINDS.items() if task.startswith(ids)), self.name)
            if kind != self.name:
                raise DatasetUnusable(f"{place} is {task}. Write kind: {kind}.")
            solution = text_of(entry, "canonical_solution", place)
            check = PythonInputs(
                entry_point=text_of(entry, "entry_point", place),
                before="" if prompt.lstrip().startswith('"""') else prompt,  # MBPP's is a text, not a signature
                solution=solution,
                base=list_of(entry, "base_input", place),
                plus=list(entry.get("plus_input") or []),
                tolerance=float(entry.get("atol") or 0),
                task=task,
            )
            found.append(
                Problem(
                    id=task,
                    set=self.name,
                    messages=asked_for_code(prompt, "python"),
                    text=prompt,
                    check=check,
                    language="python",
                    solution=prompt + solution,
                )
            )
        return found


class HumanEvalPlus(_EvalPlus):
    """The workload."""

    settings: ClassVar = HumanEvalPlusSettings
    name = "humaneval+"


class MbppPlus(_EvalPlus):
    """The workload."""

    settings: ClassVar = MbppPlusSettings
    name = "mbpp+"
