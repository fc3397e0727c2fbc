"""Inputs of the rows: which measured facts each row rests on.

A finding names the inputs that it makes doubtful; the verdicts of the rows that rest on these are withheld, and no
others.
"""

from typing import Literal

RowInput = Literal[
    "output_tokens",  # how many tokens the answers have
    "prompt_tokens",  # how many tokens the prompts have
    "cached_tokens",  # how many of these came from a prefix cache
    "draft_counts",  # what speculation drafted and accepted
    "first_token",  # when the first token came
    "token_times",  # when the others came
    "chunk_gaps",  # the gaps between chunks, whatever number of tokens a chunk has
    "latency",  # how long a request took, as the load allowed
    "answer_lengths",  # that the answers of both arms are equally long
    "prefill_share",  # that the prompt's share in the time of an answer is alike: it is smaller in long answers
    "work",  # that both arms did the same work
    "memory",
    "energy",
]

_TOKENS = (
    "output_throughput",
    "total_token_throughput",
    "total_output_tokens",
    "tokens_per_burst",
    "energy_j_per_token",
)

_OF_LENGTHS = ("duration", "request_throughput", "total_token_throughput", "mean_latency_ms", "energy_j", "stalls")


def inputs_of(key: str, group: str) -> frozenset[RowInput]:
    """Of the row `key` of `group` (see `metrics.rows`)."""
    found: set[RowInput] = set()
    if key in _TOKENS or "tpot" in key or "itl_per_token" in key:
        found.add("output_tokens")
    if key in ("total_input_tokens", "total_token_throughput"):
        found.add("prompt_tokens")
    if key == "cached_prompt_tokens":
        found.add("cached_tokens")
    if group == "draft":
        found.add("draft_counts")
    if "ttft" in key or "tpot" in key:
        found.add("first_token")
    if group in ("tpot", "itl", "tokens"):
        found.add("token_times")
    if group == "itl" or "chunk_gap" in key:
        found.add("chunk_gaps")
    if group in ("ttft", "open_loop") or "e2el" in key or key == "mean_latency_ms":
        found.add("latency")
    if "e2el" in key or "latency_from" in key or key in _OF_LENGTHS:
        found.add("answer_lengths")
    if key in ("output_throughput", "output_chars_throughput", "energy_j_per_token"):
        found.add("prefill_share")
    if group in ("rate", "text", "ttft", "tpot", "itl", "tokens", "open_loop", "energy") or key == "duration":
        found.add("work")
    if group in ("memory", "phase"):
        found.add("memory")
    if group == "energy":
        found.add("energy")
    return frozenset(found)
