"""Tensor types of each quantisation, as llama.cpp's llama-quantize mixes them.

Read from src/llama-quant.cpp of build b11434 (`llama_tensor_get_type_impl`, `tensor_type_fallback`), for the
architectures qwen2 and llama, without an importance matrix. Norms and biases are F32 in every mix.
"""

import difflib

from gguf import GGMLQuantizationType, LlamaFileType

from inferometer.base.errors import RequestWrong
from inferometer.standin.quantise import block_elements, row_bytes
from inferometer.standin.shapes import StandinShape

Type = GGMLQuantizationType

QUANTISATIONS = {
    "F32": (Type.F32, LlamaFileType.ALL_F32),
    "F16": (Type.F16, LlamaFileType.MOSTLY_F16),
    "Q8_0": (Type.Q8_0, LlamaFileType.MOSTLY_Q8_0),
    "Q6_K": (Type.Q6_K, LlamaFileType.MOSTLY_Q6_K),
    "Q5_K_M": (Type.Q5_K, LlamaFileType.MOSTLY_Q5_K_M),
    "Q4_K_M": (Type.Q4_K, LlamaFileType.MOSTLY_Q4_K_M),
}
"""By llama.cpp's name: the type of most matrices, and the file type in the metadata."""

_FALLBACKS = {Type.Q4_K: Type.Q5_0, Type.Q5_K: Type.Q5_1, Type.Q6_K: Type.Q8_0}
"""Types for rows that are not a multiple of 256."""

_70B_LAYERS = 80
"""llama.cpp treats Qwen2 and Llama networks with this many layers as a 70B, and gives their few values more bits."""


def known_quantisation(name: str) -> str:
    """The canonical name. Raises RequestWrong for an unknown one and suggests the nearest."""
    if name.upper() in QUANTISATIONS:
        return name.upper()
    near = difflib.get_close_matches(name.upper(), QUANTISATIONS, n=1, cutoff=0.4)
    hint = f" The nearest is {near[0]}." if near else ""
    raise RequestWrong(f"there is no quantisation {name!r} here.{hint} Known: {', '.join(QUANTISATIONS)}.")


def tensor_types(shape: StandinShape, quantisation: str) -> dict[str, GGMLQuantizationType]:
    """The type of each matrix, by name."""
    return {
        name: _fitting(columns, _wanted(name, columns, shape, quantisation))
        for name, (_, columns) in shape.matrices().items()
    }


def tensor_bytes(shape: StandinShape, quantisation: str) -> int:
    """Size of all tensors, as llama-bench shows a model's size: the file without its metadata."""
    matrices = shape.matrices()
    types = tensor_types(shape, quantisation)
    in_matrices = sum(matrices[name][0] * row_bytes(matrices[name][1], kind) for name, kind in types.items())
    return in_matrices + 4 * sum(shape.vectors().values())


def _wanted(name: str, columns: int, shape: StandinShape, quantisation: str) -> GGMLQuantizationType:
    most = QUANTISATIONS[quantisation][0]
    if most not in _FALLBACKS:
        return most
    if name == "output.weight" or (shape.tied and name == "token_embd.weight"):
        return Type.Q8_0 if columns % block_elements(most) else Type.Q6_K
    if quantisation in ("Q4_K_M", "Q5_K_M") and name.endswith(("attn_v.weight", "ffn_down.weight")):
        if _has_more_bits(int(name.split(".")[1]), shape.layers):
            return Type.Q6_K
        if most == Type.Q4_K and shape.layers == _70B_LAYERS and name.endswith("attn_v.weight"):
            return Type.Q5_K
    return most


def _has_more_bits(layer: int, layers: int) -> bool:
    """The first and the last eighth, and every third layer between."""
    return layer < layers // 8 or layer >= 7 * layers // 8 or (layer - layers // 8) % 3 == 2


def _fitting(columns: int, kind: GGMLQuantizationType) -> GGMLQuantizationType:
    if columns % block_elements(kind):
        kind = _FALLBACKS.get(kind, kind)
    return Type.F16 if columns % block_elements(kind) else kind
