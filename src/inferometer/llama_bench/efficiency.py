"""Efficiency of a row: bytes read and arithmetic done per second, as shares of the card's limits.

docs/reference/engine-bench.md has the formulas and their omissions.
"""

import re

import msgspec

from inferometer.llama_bench.devices import CardLimits
from inferometer.llama_bench.gguf_facts import Attention, ModelFacts
from inferometer.llama_bench.row import BenchRow, BenchTest

MICRO_BATCH = 512
"""llama.cpp's default number of prompt tokens that pass through the weights together."""

CACHE_TYPE = "f16"
CACHE_BYTES = {
    "f32": 4.0, "f16": 2.0, "bf16": 2.0,
    "q8_0": 34 / 32, "q5_1": 24 / 32, "q5_0": 22 / 32, "q4_1": 20 / 32, "q4_0": 18 / 32, "iq4_nl": 18 / 32,
}  # fmt: skip
"""Bytes per element of the KV cache, by llama.cpp's type names: blocks of 32 with their scales."""


class Efficiency(msgspec.Struct, frozen=True):
    """Rates of a row and their shares of the card's limits. None: unknown; `unknown` says why there are no shares."""

    bytes_per_s: float | None
    flop_per_s: float | None
    bandwidth_share: float | None = None
    arithmetic_share: float | None = None
    unknown: str = ""


def efficiency(
    row: BenchRow, model: ModelFacts | None, device: CardLimits | None, why_no_device: str = ""
) -> Efficiency:
    """The efficiency of a row. `why_no_device`: the reason if `device` is None."""
    if model is None or row.rate_per_s is None:
        return Efficiency(None, None, unknown="the model file is not known" if model is None else "the test failed")
    tests_per_s = row.rate_per_s / row.test.tokens
    bytes_per_test, flop_per_test = bytes_read(row.test, model, row.settings), flop(row.test, model)
    bytes_per_s = None if bytes_per_test is None else bytes_per_test * tests_per_s
    flop_per_s = None if flop_per_test is None else flop_per_test * tests_per_s
    unknown = why_no_device if device is None else why_not_on_card(row, model)
    if device is None or unknown:
        return Efficiency(bytes_per_s, flop_per_s, unknown=unknown)
    peak = device.peak_tflops
    bandwidth = _share(bytes_per_s, device.bandwidth_gb_per_s and device.bandwidth_gb_per_s.value * 1e9)
    arithmetic = _share(flop_per_s, peak and peak[1].value * 1e12)
    if max(bandwidth or 0.0, arithmetic or 0.0) > 1:
        why = "more than the card can do: the model has experts, or the card's limits are another's"
        return Efficiency(None, None, unknown=why)
    return Efficiency(bytes_per_s, flop_per_s, bandwidth, arithmetic)


_EXPERTS = re.compile(
    r"""moe|mixtral|\d+x\d+(?:\.\d+)?b|\d+bx\d+e|\ba\d+(?:\.\d+)?[bm]\b|llama-?4|gpt-?oss|kimi-?k2|dbrx|grok|jamba|minimax
    |deepseek[ -_]?(?:2|v[23]|r1(?!-distill))|glm-?4\.[5-9]|dots\.?1|qwen3-?next|arctic""",
    re.IGNORECASE | re.VERBOSE,
)
"""Names of models with experts, as llama-bench and file names write them: `qwen3moe 30B.A3B`, `llama 8x7B`, `llama4
17Bx16E`, `granite A400M`."""


def facts_from_size(row: BenchRow) -> ModelFacts | None:
    """Facts about a model whose file is not available: all of it is read, and all parameters multiply. None without
    size, and for experts, of which a token uses a part that the size does not tell."""
    if row.size_bytes is None or row.parameters is None or _EXPERTS.search(f"{row.model} {row.description}"):
        return None
    return ModelFacts(
        architecture="",
        size_label="",
        file_type="",
        weight_bytes=row.size_bytes,
        parameters=row.parameters,
        token_bytes=row.size_bytes,
        batch_bytes=row.size_bytes,
        looked_up_bytes=0,
        multiplied=row.parameters,
        multiplied_at_output=0,
        layers=None,
        attention_unknown="the model's file is not available, so that its whole size counts",
    )


def bytes_read(test: BenchTest, model: ModelFacts, settings: dict[str, str]) -> float | None:
    """Bytes that a test reads: weights, and the KV cache if the attention is known.

    None for a prompt through experts, and if the file does not state how many experts a token uses.
    """
    micro_batch = min(int(settings.get("n_ubatch") or MICRO_BATCH), int(settings.get("n_batch") or 2048))
    position = cache_bytes(model.attention, settings)
    total = 0.0
    if test.prompt:
        weights = model.batch_bytes if test.prompt > 1 else model.token_bytes
        if weights is None:
            return None
        ends = [min(begin + micro_batch, test.prompt) for begin in range(0, test.prompt, micro_batch)]
        total += weights * len(ends) + position * sum(test.depth + end for end in ends)
    if test.generated:
        if model.token_bytes is None:
            return None
        total += model.token_bytes * test.generated
        total += position * _positions(test.depth + test.prompt, test.generated)
    return total


def flop(test: BenchTest, model: ModelFacts) -> float | None:
    """Multiplications and additions of a test: 2 for each parameter that multiplies, and the attention if known."""
    if model.multiplied is None or model.multiplied_at_output is None:
        return None
    outputs = test.generated + (1 if test.prompt else 0)
    weights = (model.multiplied - model.multiplied_at_output) * test.tokens + model.multiplied_at_output * outputs
    return 2 * weights + _attention_flop(model.attention) * _positions(test.depth, test.tokens)


def cache_bytes(attention: Attention | None, settings: dict[str, str]) -> float:
    """Bytes of the KV cache for one position in all layers; 0 if the attention or the type is unknown."""
    kinds = [settings.get(name) or CACHE_TYPE for name in ("type_k", "type_v")]
    if attention is None or any(kind not in CACHE_BYTES for kind in kinds):
        return 0.0
    key, value = (CACHE_BYTES[kind] for kind in kinds)
    return attention.layers * attention.kv_heads * (attention.key_width * key + attention.value_width * value)


def why_not_on_card(row: BenchRow, model: ModelFacts) -> str:
    """Why a share of one card's limits would be wrong; "" if everything ran on the card, as far as is known."""
    if row.backend != "CPU" and row.offloaded is not None and row.offloaded[0] < row.offloaded[1]:
        return f"only {row.offloaded[0]} of {row.offloaded[1]} layers are on the card"
    layers = row.settings.get("n_gpu_layers", "")
    if row.offloaded is None and layers.isdecimal() and model.layers is not None and int(layers) <= model.layers:
        return f"only {layers} of {model.layers + 1} layers (with the output) are on the card"
    if row.settings.get("devices") == "none":
        return "no card was used (-dev none)"
    if row.settings.get("n_cpu_moe", "0") not in ("0", ""):
        return "experts are on the CPU (-ncmoe)"
    return ""


def _positions(before: int, count: int) -> int:
    """The sum of the positions that `count` tokens attend to, if `before` tokens precede them."""
    return before * count + count * (count + 1) // 2


def _attention_flop(attention: Attention | None) -> int:
    """Of one token, for each position that it attends to, in all layers: one product with the key, one with the
    value."""
    if attention is None:
        return 0
    return 2 * attention.layers * attention.heads * (attention.key_width + attention.value_width)


def _share(used: float | None, limit: float | None) -> float | None:
    return None if used is None or not limit else used / limit
