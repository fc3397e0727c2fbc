"""Prompts written into the study itself."""

import hashlib
from typing import ClassVar

import msgspec

from inferometer.core.request import Message, Request, Sampled, TokenCounter
from inferometer.core.workload_settings import WorkloadSettings, at_least_one


class PromptList(WorkloadSettings, frozen=True, tag="prompts"):
    """The prompts in their order. `max_tokens`: the most output tokens of each request."""

    prompts: tuple[str, ...]
    max_tokens: int = 256

    def request_count(self) -> int | None:
        return len(self.prompts)

    def problems(self) -> list[str]:
        empty = [f"prompts: number {n} is empty" for n, prompt in enumerate(self.prompts, 1) if not prompt.strip()]
        return (
            empty
            + ([] if self.prompts else ["prompts: give at least one"])
            + at_least_one("max_tokens", self.max_tokens)
        )


class PromptsOfStudy:
    """The workload."""

    settings: ClassVar = PromptList

    def __init__(self, spec: PromptList) -> None:
        self._spec = spec

    def sample(self, seed: int, counter: TokenCounter | None) -> Sampled:
        requests = tuple(
            msgspec.structs.replace(request, prompt_tokens=counter and counter.count(request.prompt, special=True))
            for number, prompt in enumerate(self._spec.prompts, 1)
            for request in [Request(f"prompt-{number}", (Message("user", prompt),), max_tokens=self._spec.max_tokens)]
        )
        digest = hashlib.sha256("\0".join(self._spec.prompts).encode()).hexdigest()
        return Sampled(requests, (), (), (("dataset", "prompts in the study"), ("dataset_sha256", digest)))
