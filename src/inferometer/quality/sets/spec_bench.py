"""Spec-Bench (Xia et al. 2024): prompts of thirteen categories for speculative decoding, without checks."""

from typing import ClassVar

from inferometer.base.errors import DatasetUnusable
from inferometer.core.request import Message
from inferometer.quality.problem import Problem
from inferometer.quality.sets.problem_set import ProblemSet, SetSettings, list_of


class SpecBenchSettings(SetSettings, frozen=True, tag="spec-bench"):
    """Spec-Bench's `question.jsonl`: the first turn of each question. `categories`: the only ones to take."""

    categories: tuple[str, ...] = ()


class SpecBench(ProblemSet):
    """The workload."""

    settings: ClassVar = SpecBenchSettings
    name = "spec-bench"

    def __init__(self, spec: SpecBenchSettings) -> None:
        super().__init__(spec)
        self._categories = spec.categories

    def read(self) -> list[Problem]:
        path = self.required_path()
        found: list[Problem] = []
        for number, entry in enumerate(self.file_entries(path), 1):
            place = f"{path}, entry {number}"
            turns, category = list_of(entry, "turns", place), str(entry.get("category", ""))
            if not turns or not isinstance(turns[0], str):
                raise DatasetUnusable(f"{place} has no text in its first turn.")
            if not self._categories or category in self._categories:
                prompt = (Message("user", turns[0]),)
                name = str(entry.get("question_id", number))
                found.append(Problem(f"spec-bench/{name}", "spec-bench", prompt, turns[0], task=category))
        if not found:
            raise DatasetUnusable(f"{path} has no question of the categories {', '.join(self._categories)}.")
        return found
