"""Two halves of a workload's prompts: one for a search, one held out for its confirmation."""

import msgspec

from inferometer.base.errors import RequestWrong
from inferometer.core.request import Sampled, TokenCounter
from inferometer.core.workload_settings import WorkloadSettings
from inferometer.workloads.catalog import make_workload


class PromptHalf:
    """A workload with the first or, if `held_out`, the other half of the prompts. The workload is asked for twice its
    number of prompts, so that both halves have the size that the study asks for, if the source has enough. No prompt is
    in both."""

    def __init__(self, settings: WorkloadSettings, *, held_out: bool) -> None:
        count = getattr(settings, "num_prompts", None)
        if isinstance(count, int):
            settings = msgspec.structs.replace(settings, num_prompts=2 * count)
        self._source = make_workload(settings)
        self._held_out = held_out

    def sample(self, seed: int, counter: TokenCounter | None) -> Sampled:
        """Raises RequestWrong where the workload has fewer than two different prompts."""
        found = self._source.sample(seed, counter)
        half = (len(found.requests) + 1) // 2
        first, other = found.requests[:half], found.requests[half:]
        known = {request.messages for request in first}
        held_out = tuple(request for request in other if request.messages not in known)
        if not held_out:
            raise RequestWrong(
                f"the workload has {len(known)} different prompt(s), and a search needs others to confirm its winner: "
                "give at least 2 prompts."
            )
        chosen = held_out if self._held_out else first
        notes = (f"{len(first)} prompts for the search, {len(held_out)} others for its confirmation",)
        recorded = found.recorded_ns[half:] if self._held_out else found.recorded_ns[:half]
        return msgspec.structs.replace(found, requests=chosen, notes=notes, recorded_ns=recorded[: len(chosen)])
