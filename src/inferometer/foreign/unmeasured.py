"""Numbers that stand for "not measured" in other tools' files, made unknown in the runs of every reader."""

import msgspec

from inferometer.foreign.foreign_run import ForeignRun
from inferometer.foreign.tool_json import family

_LATENCIES = frozenset({"ttft", "tpot", "itl", "e2el", "chunk_gap", "itl_per_token", "latency_from_sent"})
_RATES = ("request_throughput", "output_throughput", "total_token_throughput")
_NEVER_0 = ("duration", "mean_accepted_length", "memory_gib", "max_output_tokens_per_s", "max_concurrent_requests")
_NEVER_AT_ONCE = frozenset({"ttft", "e2el", "latency_from_sent"})
"""Latencies of which no answer can have 0. Between tokens that come together there may be 0."""
_OF_ANSWERS = (*_RATES, "total_input_tokens", "total_output_tokens")
"""More than 0 wherever a request succeeded."""


def without_unmeasured(run: ForeignRun) -> ForeignRun:
    """The run with None in place of zeros that no measurement can give.

    Tools write 0 for statistics of nothing. A latency is not measured where its mean is 0, where no statistic of it is
    above 0, or where no request succeeded; then there are no rates either.
    """
    values = dict(run.values)
    for key, value in run.values.items():
        if value is not None and (value < 0 or (value == 0 and key in _NEVER_0)):
            values[key] = None
    nothing_succeeded = values.get("completed") == 0
    for key, value in tuple(values.items()):
        is_latency = key != family(key) and family(key) in _LATENCIES
        is_impossible = family(key) in _NEVER_AT_ONCE and value == 0 and not key.startswith("std_")
        if (is_latency and (is_impossible or nothing_succeeded or _is_nothing(values, family(key)))) or (
            key in _RATES and nothing_succeeded
        ):
            values[key] = None
    if values.get("completed"):
        values |= {key: None for key in _OF_ANSWERS if values.get(key) == 0}
    if values.get("drafted_tokens") == 0:
        values |= dict.fromkeys(values.keys() & {"acceptance_rate_percent", "mean_accepted_length"})
    return msgspec.structs.replace(run, values=values) if values != run.values else run


def _is_nothing(values: dict[str, float | None], latency: str) -> bool:
    told = {key: value for key, value in values.items() if family(key) == latency and key != latency}
    mean = f"mean_{latency}_ms"
    return (mean in told and not told[mean]) or not any(told.values())
