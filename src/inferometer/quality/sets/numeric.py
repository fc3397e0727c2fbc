"""Problems whose answer is a number, in GSM8K's form: `question`, and an `answer` that ends with `#### 72`."""

from typing import ClassVar

from inferometer.base.errors import DatasetUnusable
from inferometer.core.request import Message
from inferometer.quality.checking import number_in
from inferometer.quality.problem import Number, Problem
from inferometer.quality.sets.problem_set import ProblemSet, SetSettings, text_of

_ASKED = "\n\nThink step by step. End your answer with the number alone, on a last line that begins with ####."


class NumericSettings(SetSettings, frozen=True, tag="numeric"):
    """A JSONL file with `question` and `answer`; the answer is a number, or a text whose last number counts."""


class NumericFile(ProblemSet):
    """The workload."""

    settings: ClassVar = NumericSettings
    name = "numeric"

    def read(self) -> list[Problem]:
        path = self.required_path()
        found: list[Problem] = []
        for number, entry in enumerate(self.file_entries(path), 1):
            place = f"{path}, entry {number}"
            question, answer = text_of(entry, "question", place), str(entry.get("answer", ""))
            right = number_in(answer)
            if right is None:
                raise DatasetUnusable(f"{place} has no number in its answer ({answer[:60]!r}).")
            found.append(
                Problem(
                    id=str(entry.get("id", f"{path.stem}/{number}")),
                    set=path.stem,
                    messages=(Message("user", question + _ASKED),),
                    text=f"Question: {question}\nAnswer:",
                    check=Number(right),
                    task="arithmetic",
                    solution=f"#### {right:g}",
                )
            )
        return found
