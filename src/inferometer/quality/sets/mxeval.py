"""mxeval (Athiwaratkun et al. 2022): HumanEval and MBPP in thirteen languages, from its files."""

from typing import Any, ClassVar

from inferometer.base.errors import DatasetUnusable
from inferometer.quality.languages import LANGUAGES
from inferometer.quality.problem import Problem, Program, PythonTests
from inferometer.quality.sets.problem_set import ProblemSet, SetSettings, asked_for_code, text_of

_NAMES = {"c++": "cpp", "c#": "csharp", "js": "javascript", "ts": "typescript"}


class MxevalSettings(SetSettings, frozen=True, tag="mxeval"):
    """mxeval's problems. `path`: a file, or a folder whose files are all read. `languages`: the only ones to take."""

    languages: tuple[str, ...] = ()

    def problems(self) -> list[str]:
        unknown = [name for name in self.languages if name not in LANGUAGES]
        wrong = [f"languages: {name!r} is unknown; known: {', '.join(LANGUAGES)}" for name in unknown]
        return [*super().problems(), *wrong]


class Mxeval(ProblemSet):
    """The workload."""

    settings: ClassVar = MxevalSettings
    name = "mxeval"

    def __init__(self, spec: MxevalSettings) -> None:
        super().__init__(spec)
        self._languages = spec.languages

    def read(self) -> list[Problem]:
        path = self.required_path()
        files = sorted(path.glob("*.jsonl")) if path.is_dir() else [path]
        if not files:
            raise DatasetUnusable(f"{path} has no .jsonl file. Name the folder of mxeval's data.")
        found = [
            _problem(entry, f"{file}, entry {number}")
            for file in files
            for number, entry in enumerate(self.file_entries(file), 1)
        ]
        return [one for one in found if not self._languages or one.language in self._languages]


def _problem(entry: dict[str, Any], place: str) -> Problem:
    prompt, name, tests = (text_of(entry, field, place) for field in ("prompt", "entry_point", "test"))
    told = text_of(entry, "language", place).lower()
    language = _NAMES.get(told, told)
    check: Program | PythonTests = Program(language, tests, name, prompt)
    if language == "python":
        check = PythonTests(f"{tests}\ncheck({name})\n", name, prompt)
    solution = entry.get("canonical_solution")
    return Problem(
        id=text_of(entry, "task_id", place),
        set="mxeval",
        messages=asked_for_code(prompt, language),
        text=prompt,
        check=check,
        language=language,
        solution=prompt + solution if isinstance(solution, str) and solution.strip() else "",
    )
