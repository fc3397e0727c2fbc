"""The JSON report of a comparison, with unrounded values."""

import json
from collections.abc import Mapping
from typing import Any

import msgspec

from inferometer.analysis.comparison import Comparison
from inferometer.analysis.decision import decisions
from inferometer.analysis.quantisation_ladder import ladder
from inferometer.base.text import escape_for_json


def document(comparison: Comparison) -> dict[str, Any]:
    """The object that `render` writes. `metric` is a key, stable over versions; null is unknown or undefined, never 0.

    `values`, `n` and `differences_percent` repeat the rows' estimates and differences in short form.
    `ladder`: the front of model files and its sentences, if the arms are files of one model. `decision`: speed and
    right answers in one sentence for each pair of arms, if answers were checked.
    `difference_percent` has a value for two arms and is null for any other number of arms.
    """
    whole = msgspec.to_builtins(comparison)
    for row, found in zip(whole["rows"], comparison.rows, strict=True):
        short = found.differences_percent
        row |= {
            "values": found.values,
            "n": found.n,
            "differences_percent": short,
            "difference_percent": next(iter(short.values())) if len(short) == 1 else None,
        }
    if not comparison.quality:  # no answer was checked
        del whole["quality"]
    else:
        whole["decision"] = decisions(comparison)
    del whole["ladder"]
    if (found := ladder(comparison)) is not None:
        whole["ladder"] = msgspec.to_builtins(found)
    if not comparison.fidelity:
        del whole["fidelity"]
    return whole | {
        "valid": not comparison.invalid,
        "warnings": [finding.sentence for finding in comparison.findings if finding.severity != "note"],
    }


def render(comparison: Comparison, more: Mapping[str, Any] = {}) -> str:
    """Indented, UTF-8; ends with a line break. `more`: further keys of the top-level object."""
    return (
        escape_for_json(json.dumps(document(comparison) | dict(more), indent=2, ensure_ascii=False, allow_nan=False))
        + "\n"
    )
