"""Whether the engines of all arms can run at once, judged by what the first of them took."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from inferometer.base.units import bytes_text
from inferometer.core.spec import Arm
from inferometer.probes.free_memory import FreeMemory

SPARE_SHARE = 0.05
"""Share of the free memory that stays free: engines allocate a little more while they work than at their start."""

_RESERVING = {"vllm": "--gpu-memory-utilization", "sglang": "--mem-fraction-static"}
"""Engines that take a fraction of the GPU whatever the model needs, and the flag that sets the fraction."""


def why_too_little(
    first: str, arms: Mapping[str, Arm], before: Mapping[str, FreeMemory], after: Mapping[str, FreeMemory]
) -> str:
    """Why the other arms' engines cannot run next to the engine of `first`; "" if they can. `before`, `after`: the free
    memory of the host and of each GPU before that engine started and with its first token.

    An arm needs what the first one took, in proportion to the sizes of their model files where both are known.
    """
    others = [arm for name, arm in arms.items() if name != first and not arm.runs_already]
    factor = sum(_size_ratio(arm, arms[first]) for arm in others)
    for place, now in after.items():
        taken = max(0, before[place].free_bytes - now.free_bytes) if place in before else 0
        if taken and others and now.is_exclusive:
            return (
                f"the engine of {first} holds {place}, which lets one process use it at a time (compute mode "
                "EXCLUSIVE_PROCESS; `nvidia-smi -c DEFAULT` ends that)"
            )
        needed = round(taken * factor)
        if needed > (1 - SPARE_SHARE) * now.free_bytes:
            return (
                f"{first} took {bytes_text(taken)} of {place}, the other arms would need about {bytes_text(needed)}, "
                f"and {bytes_text(now.free_bytes)} are free{_advice(arms)}"
            )
    return ""


def _size_ratio(arm: Arm, first: Arm) -> float:
    own, firsts = _bytes(arm), _bytes(first)
    return own / firsts if own and firsts else 1.0


def _bytes(arm: Arm) -> int:
    """The size of the arm's model files; 0 if it is unknown."""
    files = [Path(name) for name in (arm.model, arm.draft.model if arm.draft else "") if name]
    return sum(file.stat().st_size for file in files) if all(file.is_file() for file in files) else 0


def _advice(arms: Mapping[str, Arm]) -> str:
    """How arms whose engines reserve a fraction of the GPU could fit."""
    flags: Sequence[str] = sorted({_RESERVING[arm.engine] for arm in arms.values() if arm.engine in _RESERVING})
    if not flags:
        return ""
    share = int(90 / len(arms)) / 100
    return f". To interleave the requests, give every arm {' or '.join(f'{flag} {share:g}' for flag in flags)}"
