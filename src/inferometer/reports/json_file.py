"""How is a comparison written for a program to read? As JSON, with unrounded values."""

import json
from typing import Any

from inferometer.compare import Comparison


def document(comparison: Comparison) -> dict[str, Any]:
    """What `render` writes. `metric` is the key, stable over versions; null is unknown or undefined, never 0.

    `difference_percent` is there for two arms, null for any other number; `differences_percent` is always there.
    """
    rows: list[dict[str, Any]] = []
    for row in comparison.rows:
        differences = row.differences_percent
        rows.append(
            {
                "metric": row.metric,
                "label": row.label,
                "unit": row.unit,
                "values": row.values,
                "difference_percent": next(iter(differences.values())) if len(differences) == 1 else None,
                "differences_percent": differences,
                "n": row.n,
            }
        )
    return {
        "arms": list(comparison.arms),
        "rows": rows,
        "notes": list(comparison.notes),
        "warnings": list(comparison.warnings),
    }


def render(comparison: Comparison) -> str:
    """Indented, UTF-8; ends with a line break."""
    return json.dumps(document(comparison), indent=2, ensure_ascii=False, allow_nan=False) + "\n"
