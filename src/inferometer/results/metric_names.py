"""Names of metrics, as users write them: keys, labels and groups."""

import difflib
import re

from inferometer.analysis.comparison import PRIMARY
from inferometer.base.errors import RequestWrong
from inferometer.metrics.rows import GROUPS, METRICS, METRICS_BY_KEY


def known_metric(name: str) -> str:
    """The key of the metric with this key or label. Raises RequestWrong with the nearest name."""
    keys = {metric.key: metric.key for metric in METRICS if metric.group != "vllm"}
    labels = {metric.label.partition(" (")[0].lower(): metric.key for metric in METRICS if metric.key in keys}
    short = {"throughput": PRIMARY, "ttft": "median_ttft_ms", "tpot": "mean_tpot_ms", "memory": "memory_gib"}
    known = labels | short | keys
    if name.lower() in known:
        return known[name.lower()]
    near = _same_words(name, list(keys)) or difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    raise RequestWrong(f"unknown metric {name!r}.{hint} All metrics: inferometer explain")


def _same_words(name: str, keys: list[str]) -> list[str]:
    """The keys that have all words of the name, in any order: `ttft_median` is `median_ttft_ms`."""
    words = set(re.split(r"[\W_]+", name.lower()))
    return [key for key in keys if words <= set(key.split("_"))]


def constraint_metric(name: str) -> str:
    """The key of a metric in a constraint: as `known_metric`, and any percentile of a metric that has percentiles
    (`p95_ttft_ms`), and `checks_passed`. Raises RequestWrong with the nearest name."""
    if name in ("checks_passed", "right_answers"):
        return "checks_passed_percent"
    head, _, rest = name.partition("_")
    if head[:1] == "p" and head[1:].isdecimal() and f"p99_{rest}" in METRICS_BY_KEY:
        return name
    return known_metric(name)


def known_metrics(names: str) -> tuple[str, ...]:
    """The keys of the metrics in a list separated by commas: keys, labels, and names of groups for all of a group.
    Raises RequestWrong with the nearest name."""
    groups = {key: key for key in GROUPS} | {name.lower(): key for key, name in GROUPS.items()}
    groups |= {"throughput": "rate", "speculation": "draft"}
    found: list[str] = []
    for name in filter(None, map(str.strip, names.split(","))):
        group = groups.get(name.lower())
        if group is not None:
            found += [metric.key for metric in METRICS if metric.group == group]
            continue
        try:
            found.append(known_metric(name))
        except RequestWrong:
            near = difflib.get_close_matches(name.lower(), [*groups, *METRICS_BY_KEY], n=1, cutoff=0.6)
            if near and near[0] in groups:
                raise RequestWrong(f"unknown metric {name!r}. Did you mean the group {near[0]!r}?") from None
            raise
    if not found:
        raise RequestWrong(f"--metrics is empty. Groups: {', '.join(GROUPS)}.")
    return tuple(dict.fromkeys(found))
