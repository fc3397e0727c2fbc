"""The workload `countdown`: prompts that ask for a countdown from a number."""

import random
from typing import ClassVar

from inferometer.core.request import Sampled, TokenCounter, user_request
from inferometer.core.workload_settings import WorkloadSettings, at_least_one


class CountdownSettings(WorkloadSettings, frozen=True, tag="countdown"):
    """`start`: the smallest number to count down from."""

    num_prompts: int = 10
    start: int = 1

    def request_count(self) -> int | None:
        return self.num_prompts

    def problems(self) -> list[str]:
        return at_least_one("num_prompts", self.num_prompts) + at_least_one("start", self.start)


class Countdown:
    settings: ClassVar = CountdownSettings

    def __init__(self, settings: CountdownSettings) -> None:
        self._settings = settings

    def sample(self, seed: int, counter: TokenCounter | None) -> Sampled:
        first = self._settings.start
        numbers = list(range(first, first + self._settings.num_prompts))
        random.Random(seed).shuffle(numbers)
        requests = tuple(
            user_request(f"countdown-{number}", f"Count down from {number}.", max_tokens=16) for number in numbers
        )
        spare = (user_request("countdown-spare", "Count down from 1.", max_tokens=16),)  # for warm-ups
        return Sampled(requests, spare, source=(("dataset", f"countdown from {first}"),))
