"""Effective settings of a llama.cpp server, read from its log and answers: draft, flash attention, GPU layers, context.

The arm holds the requested settings; these facts hold what the server really uses. A fact without evidence is left out.
The log's wording was checked in logs of builds 4293 (December 2024), 6139 (August 2025), 9093 (May 2026), 11434 and
11549 (October and November 2026). For the builds between them it was checked in llama.cpp's source.
"""

import re
from collections.abc import Iterator
from typing import Any, cast

from inferometer.core import quantities
from inferometer.core.record import Fact

LOG = "the engine's log"
SINCE_START = "since the engine's start, warm-ups included"


def facts_when_ready(log: str, props: Any, slots: Any) -> tuple[Fact, ...]:
    """Settings known after the first token. `props`, `slots`: the JSON of /props and /slots, of any shape, or None."""
    found = (_flash_attn(log), _cache_types(log), _gpu_layers(log), _draft(log, props, slots), _context(log, props))
    return tuple(fact for fact in found if fact is not None)


def facts_at_end(log: str, known: tuple[Fact, ...]) -> tuple[Fact, ...]:
    """Facts that the complete log adds to the `known` ones: whether a draft was used, if unknown, and its statistics.

    The statistics count everything since the engine's start: warm-ups, our first token, and earlier trials if the
    engine was kept. The log does not separate these from the plan's requests.
    """
    statistics = _statistics(log)
    accepted, drafted = _acceptance(log)
    facts: list[Fact] = []
    if not any(fact.name == quantities.EFFECTIVE_DRAFT for fact in known) and (drafted or statistics):
        facts.append(Fact(quantities.EFFECTIVE_DRAFT, "on", f"{LOG}: it drafted"))
    if statistics:
        source = f"{LOG}: its statistics, {SINCE_START}"
        facts += [
            Fact(quantities.spec_log_fact(name), _text(name, value), source) for name, value in statistics.items()
        ]
    elif drafted:
        source = f"{LOG}: acceptance, summed over all requests, {SINCE_START}"
        facts.append(Fact(quantities.SPEC_LOG_DRAFTED_TOKENS, str(drafted), source))
        facts.append(Fact(quantities.SPEC_LOG_ACCEPTED_TOKENS, str(accepted), source))
    return tuple(facts)


_CONTEXT_FLASH_ATTN = re.compile(r"\bflash_attn\s+= (\w+)")
_RESOLVED = re.compile(r"Flash Attention (?:was auto, set to |not supported, set to )?(enabled|disabled)")
_SAID_ON = {"1": "on", "enabled": "on", "0": "off", "disabled": "off"}
_DRAFT_BEGINS = re.compile(r"loading draft model|creating MTP draft context")


def _of_target(log: str) -> str:
    """The part of the log before the draft model is loaded. If a line occurs several times in it, the last one counts:
    with --verbose, llama.cpp also logs the contexts that it only tries out to see what fits."""
    begins = _DRAFT_BEGINS.search(log)
    return log if begins is None else log[: begins.start()]


def _last(pattern: str | re.Pattern[str], text: str) -> re.Match[str] | None:
    return next(reversed(list(re.finditer(pattern, text))), None)


def _flash_attn(log: str) -> Fact | None:
    """Flash attention of the target. The result of `auto` is logged some lines below the context's own line."""
    of_target = _of_target(log)
    said = _last(_CONTEXT_FLASH_ATTN, of_target)
    resolved = _RESOLVED.search(of_target, said.end() if said else 0)
    value = _SAID_ON.get(resolved[1] if resolved else said[1] if said else "")
    return None if value is None else Fact(quantities.EFFECTIVE_FLASH_ATTN, value, LOG)


def _cache_types(log: str) -> Fact | None:
    """Types of the keys and values in the target's KV cache, as `q8_0/f16`."""
    found = _last(r"(?:kv_cache\w*:|KV self size) .*\bK \((\w+)\):.*\bV \((\w+)\):", _of_target(log))
    return None if found is None else Fact(quantities.EFFECTIVE_CACHE_TYPES, f"{found[1]}/{found[2]}", LOG)


def _gpu_layers(log: str) -> Fact | None:
    """`offloaded/total` layers of the target. A build without a GPU backend logs no offloaded layers, which means 0.

    llama.cpp counts the output layer too. `0/?`: none is offloaded, and the log does not show the total.
    """
    of_target = _of_target(log)
    offloaded = _last(r"offloaded (\d+/\d+) layers to GPU", of_target)
    if offloaded:
        return Fact(quantities.EFFECTIVE_GPU_LAYERS, offloaded[1], LOG)
    layers = _last(r"\bn_layer\s+= (\d+)", of_target)
    total = str(int(layers[1]) + 1) if layers else "?"
    if "no usable GPU found" in log:
        return Fact(quantities.EFFECTIVE_GPU_LAYERS, f"0/{total}", f"{LOG}: no usable GPU found")
    if re.search(r"load_tensors: .*buffer size", of_target):
        return Fact(quantities.EFFECTIVE_GPU_LAYERS, f"0/{total}", f"{LOG}: no layer was offloaded")
    return None


def _draft(log: str, props: Any, slots: Any) -> Fact | None:
    """Whether slots speculate. A loaded draft proves nothing: builds of 2026 may load a draft and leave it unused."""
    if isinstance(slots, list):
        of_each = [_field(slot, "speculative") for slot in cast("list[Any]", slots)]
        if of_each and all(isinstance(value, bool) for value in of_each):
            return Fact(quantities.EFFECTIVE_DRAFT, "on" if any(of_each) else "off", "/slots")
    value = _field(_field(props, "default_generation_settings"), "speculative")
    if isinstance(value, bool):
        return Fact(quantities.EFFECTIVE_DRAFT, "on" if value else "off", "/props")
    if "speculative decoding context initialized" in log:
        return Fact(quantities.EFFECTIVE_DRAFT, "on", LOG)
    if "no implementations specified for speculative decoding" in log:
        return Fact(quantities.EFFECTIVE_DRAFT, "off", LOG)
    return None


def _context(log: str, props: Any) -> Fact | None:
    """Context in tokens, summed over all slots."""
    total = _last(r"\bn_ctx\s+= (\d+)", _of_target(log))
    if total:
        return Fact(quantities.EFFECTIVE_CONTEXT, total[1], LOG)
    slots = re.search(r"n_slots = (\d+), n_ctx_slot = (\d+)(?:, kv_unified = '(\w+)')?", log)
    if slots:
        of_all = int(slots[2]) * (1 if slots[3] == "true" else int(slots[1]))
        return Fact(quantities.EFFECTIVE_CONTEXT, str(of_all), f"{LOG}: its slots")
    per_slot = _field(_field(props, "default_generation_settings"), "n_ctx")
    count = _field(props, "total_slots")
    if count == 1 and isinstance(per_slot, int):
        return Fact(quantities.EFFECTIVE_CONTEXT, str(per_slot), "/props")
    return None


_ACCEPTANCE = re.compile(r"draft acceptance(?: rate)? = [\d.]+ \(\s*(\d+) accepted /\s*(\d+) generated\)")
_STATISTICS = re.compile(
    r"statistics\s+(?P<kind>\S+): #calls(?:\(b,g,a\))? = [\d ]+, #gen drafts =\s*(?P<drafts>\d+), "
    r"#acc drafts =\s*(?P<accepted_drafts>\d+), #gen tokens =\s*(?P<drafted_tokens>\d+), "
    r"#acc tokens =\s*(?P<accepted_tokens>\d+)"
)
_DURATIONS = re.compile(r"dur\(b,g,a\) = (?P<begin_ms>[\d.]+), (?P<draft_ms>[\d.]+), (?P<accept_ms>[\d.]+) ms")
_SLOT = re.compile(r"print_timing: id\s+(\d+)")
_COUNTS = ("drafts", "accepted_drafts", "drafted_tokens", "accepted_tokens")
_TIMES = ("begin_ms", "draft_ms", "accept_ms")


def _acceptance(log: str) -> tuple[int, int]:
    """Tokens accepted and drafted, summed over the requests; 0 and 0 for a build that logs neither (4293)."""
    of_each = [(int(match[1]), int(match[2])) for match in _ACCEPTANCE.finditer(log)]
    return sum(accepted for accepted, _ in of_each), sum(drafted for _, drafted in of_each)


def _statistics(log: str) -> dict[str, float]:
    """Drafts, tokens and durations, summed over all kinds of drafting; empty if the log has no statistics.

    The lines count up from the engine's start, so the last line of each counter is the total. Times are left out if one
    of the kinds logs none.
    """
    last = dict(_counters(log))
    totals: dict[str, float] = (
        {name: sum(counter[name] for counter in last.values()) for name in _COUNTS} if last else {}
    )
    if last and all(_TIMES[0] in counter for counter in last.values()):
        totals |= {name: sum(counter[name] for counter in last.values()) for name in _TIMES}
    return totals


def _counters(log: str) -> Iterator[tuple[tuple[str, str], dict[str, float]]]:
    """Each statistics line as (counter, values).

    In build 9093 each slot has a counter, kinds have no hyphens (`draft`, `ngram_mod`), and the line follows the
    timings of its slot. In 11434 all slots share a counter, and kinds have hyphens (`draft-simple`).
    """
    slot = ""
    for line in log.splitlines():
        timing = _SLOT.search(line)
        if timing:
            slot = timing[1]
        counts = _STATISTICS.search(line)
        if counts is None:
            continue
        values = {name: float(counts[name]) for name in _COUNTS}
        durations = _DURATIONS.search(line)
        if durations:
            values |= {name: float(durations[name]) for name in _TIMES}
        yield (counts["kind"], "" if "-" in counts["kind"] else slot), values


def _text(name: str, value: float) -> str:
    return f"{value:.3f}" if name in _TIMES else str(int(value))


def _field(value: Any, name: str) -> Any:
    """A member of a JSON object; None if `value` is not an object."""
    return cast("dict[str, Any]", value).get(name) if isinstance(value, dict) else None
