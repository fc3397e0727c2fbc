"""Definitions of the metrics, read from the text of docs/reference/metrics.md. Pure."""

import re
from typing import NamedTuple

_STATISTICS = re.compile(r"(mean|median|p[\d.]+|std) ")


class MetricDefinition(NamedTuple):
    """`label` as in the document. `formula` and `caution` are Markdown; "" if the document has none."""

    label: str
    formula: str
    caution: str


class MetricTexts(NamedTuple):
    """`by_name`: definitions by the metric's name in lower case, without statistic and unit. `clock`: the paragraph on
    clocks and terms that holds for all of them."""

    by_name: dict[str, MetricDefinition]
    clock: str

    def of(self, label: str) -> MetricDefinition | None:
        """The definition of the metric with this label, such as "Median TTFT (ms)"."""
        return self.by_name.get(_name(label))


def metric_texts(document: str) -> MetricTexts:
    """The table under "Definitions" and the paragraph before it."""
    head, _, rest = document.partition("\n## Definitions\n")
    table = rest.partition("\n##")[0]
    found: dict[str, MetricDefinition] = {}
    for line in table.splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split(" | ")]
        if not line.startswith("| ") or len(cells) < 2 or cells[0] == "metric":
            continue
        definition = MetricDefinition(cells[0], cells[1], cells[2].strip("| ") if len(cells) > 2 else "")
        for name in _names(cells[0]):
            found[name] = definition
    paragraphs = [" ".join(part.split()) for part in head.split("\n\n")]
    clock = next((part for part in paragraphs if part.startswith("*Measured*")), "")
    return MetricTexts(found, clock)


def plain(text: str) -> str:
    """Markdown without links, emphasis and code marks."""
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", text)
    return re.sub(r"(?<!\w)\*([^*]+)\*|`([^`]+)`", lambda match: match[1] or match[2], text)


def _names(label: str) -> list[str]:
    """Every metric that one row defines: "E2E latency from sent, from due" is two."""
    first, *others = [part.strip() for part in re.sub(r" ?\([^)]*\)", "", label).split(",")]
    names = [first, *others]
    words = first.split()
    names += [f"{' '.join(words[:count])} {other}" for other in others for count in range(1, len(words))]
    return [_name(name) for name in names]


def _name(label: str) -> str:
    """In lower case, without unit and statistic."""
    text = re.sub(r"@\d+", "@k", label.partition(" (")[0].lower().strip())
    return text if text.startswith(("mean power", "mean accepted")) else _STATISTICS.sub("", text, count=1)
