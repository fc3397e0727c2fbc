"""Judgement of rows: how close each came to the limits of its card, and the same as JSON. Pure."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from inferometer.llama_bench.devices import CardLimits, find_device
from inferometer.llama_bench.efficiency import efficiency, facts_from_size
from inferometer.llama_bench.gguf_facts import ModelFacts
from inferometer.llama_bench.row import BenchRow
from inferometer.llama_bench.sheet import RatedRow


def judged(
    rows: Sequence[BenchRow],
    models: Mapping[str, ModelFacts],
    known: Sequence[CardLimits],
    stated: CardLimits | None,
    *,
    everywhere: bool,
) -> list[RatedRow]:
    """The rows with their efficiency. `known`: cards with known figures. `stated`: the card that the user named, or the
    figures that the user gave; these apply to rows on a CPU too (`everywhere`)."""
    found: list[RatedRow] = []
    for row in rows:
        model = models.get(row.model) or facts_from_size(row)
        device, why = _device(row, known, stated, everywhere=everywhere)
        found.append(RatedRow(row, efficiency(row, model, device, why), model, device))
    return found


def document(entry: RatedRow) -> dict[str, Any]:
    """A row as JSON, with the values computed from it; unrounded. Any: JSON."""
    row, used, device = entry.row, entry.efficiency, entry.device
    return {
        **msgspec.to_builtins(row),
        "label": row.test.label,
        "rate_per_s": row.rate_per_s,
        "deviation_per_s": row.deviation_per_s,
        "efficiency": msgspec.to_builtins(used),
        "device": None if device is None else msgspec.to_builtins(device),
    }


def _device(
    row: BenchRow, known: Sequence[CardLimits], stated: CardLimits | None, *, everywhere: bool
) -> tuple[CardLimits | None, str]:
    """The card that a row is compared with; or None, and the reason."""
    on_cpu = row.backend in ("CPU", "BLAS", "BLAS,CPU")
    if stated is not None and (everywhere or not on_cpu):
        return stated, ""
    if on_cpu:
        return None, "it ran on the CPU, whose memory bandwidth is unknown: state it with --bandwidth (GB/s)"
    if len(row.devices) == 0:
        return None, "the card that it ran on is unknown: name it with --card"
    if len(row.devices) > 1:
        return (
            None,
            f"it could use {len(row.devices)} cards, but a share refers to one: name one with --card",
        )
    (name,) = row.devices
    why = f"no figures are known for the card {name!r}: name a known card with --card, or use --bandwidth and --tflops"
    device = find_device(known, name)
    return device, "" if device else why
