"""Bytes and parameters that a token needs, from the header of a GGUF file. Weights are not read."""

import re
import struct
from collections.abc import Iterable, Sequence
from typing import BinaryIO

import msgspec

from inferometer.base.errors import ModelUnusable
from inferometer.base.text import sanitize

MAGIC = b"GGUF"
KNOWN_VERSIONS = (2, 3)
LOOKED_UP = ("token_embd.weight", "position_embd.weight", "token_types.weight", "per_layer_token_embd.weight")
"""Tables from which a token reads one row."""

_STRING, _ARRAY = 8, 9
_NUMBERS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
"""GGUF's value types that have a fixed size, as `struct` writes them."""

_EXPERT = re.compile(r"_exps\.|\.ffn_(?:gate|up|down)\.\d+\.")
_BLOCK = re.compile(r"blk\.(\d+)\.")
_LONGEST_TEXT = 1 << 26  # a length beyond it is a damaged file, not a text
_MOST_VALUES = 1 << 16
_MOST_TENSORS = 1 << 20
_MOST_ELEMENTS = 1 << 24  # of an array: a vocabulary has some hundred thousand
_MOST_DIMENSIONS = 8  # ggml has 4
_DEEPEST_ARRAY = 4


class Tensor(msgspec.Struct, frozen=True):
    """A tensor as the header lists it. `bytes`: size of its elements, without padding."""

    name: str
    shape: tuple[int, ...]
    bytes: int

    @property
    def elements(self) -> int:
        count = 1
        for width in self.shape:
            count *= width
        return count


class ArrayLength(msgspec.Struct, frozen=True):
    """Length of an array in the metadata; its values are not kept."""

    length: int


class Header(msgspec.Struct, frozen=True):
    """Metadata and tensors of one file."""

    metadata: dict[str, str | float | bool | ArrayLength]
    tensors: tuple[Tensor, ...]

    def number(self, key: str) -> int | None:
        """An integer from the metadata; None if there is none, or one for each layer."""
        value = self.metadata.get(key)
        return value if isinstance(value, int) and not isinstance(value, bool) else None

    def text(self, key: str) -> str:
        """A text from the metadata, sanitized; "" if there is none."""
        value = self.metadata.get(key)
        return sanitize(value) if isinstance(value, str) else ""


class Attention(msgspec.Struct, frozen=True):
    """Attention in which every layer attends to all previous tokens, as in Llama and Qwen2."""

    layers: int
    heads: int
    kv_heads: int
    key_width: int
    value_width: int


class ModelFacts(msgspec.Struct, frozen=True):
    """A model's size, and the bytes and parameters that a token needs.

    `weight_bytes`, `parameters`: of all tensors, as llama-bench counts them. `token_bytes`: weights that are read to
    generate one token; None if the file does not state how many experts are used. `batch_bytes`: weights read for a
    batch of many tokens; None for experts, because the router decides how many are read. `looked_up_bytes`: tables from
    which a token reads one row, in neither of the two. `multiplied`: parameters that multiply a token that produces
    output; `multiplied_at_output`: those that multiply no other token of a prompt (llama.cpp skips the last layer's
    feed-forward part and the output matrix for the others). `attention` None: `attention_unknown` says why.
    `stand_in`: description of a file that is not a real model.
    """

    architecture: str
    size_label: str
    file_type: str
    weight_bytes: int
    parameters: int
    token_bytes: int | None
    batch_bytes: int | None
    looked_up_bytes: int
    multiplied: int | None
    multiplied_at_output: int | None
    layers: int | None
    experts: int | None = None
    experts_used: int | None = None
    vocabulary: int | None = None
    attention: Attention | None = None
    attention_unknown: str = ""
    stand_in: str = ""

    @property
    def description(self) -> str:
        """Name as in llama-bench: `qwen2 32B Q4_K - Medium`; `?B` if the file does not state its size."""
        return f"{self.architecture or '?'} {self.size_label or '?B'} {self.file_type}"


def header_of(stream: BinaryIO, name: str) -> Header:
    """Read the header of a file. `name`: for messages. Raises ModelUnusable."""
    reader = _Reader(stream, name)
    if reader.take(4) != MAGIC:
        raise ModelUnusable(
            f"{name} is not a GGUF file. It may be a Git LFS pointer or a broken download; download it again."
        )
    version = reader.number("I")
    if version not in KNOWN_VERSIONS:
        raise ModelUnusable(
            f"{name} has GGUF version {version}; only versions {KNOWN_VERSIONS[0]} and {KNOWN_VERSIONS[1]} are known. "
            "Use a newer file of the model."
        )
    tensor_count, value_count = reader.count("Q", _MOST_TENSORS), reader.count("Q", _MOST_VALUES)
    metadata = {reader.text(): reader.value(reader.number("I")) for _ in range(value_count)}
    return Header(metadata, tuple(_tensor(reader, name) for _ in range(tensor_count)))


def model_facts(headers: Sequence[Header]) -> ModelFacts:
    """The facts of a model from the headers of its files: one, or all parts of a split model in order."""
    first = headers[0]
    tensors = [tensor for header in headers for tensor in header.tensors]
    architecture = first.text("general.architecture")
    layers = first.number(f"{architecture}.block_count")
    experts, experts_used = (first.number(f"{architecture}.expert_{name}") for name in ("count", "used_count"))
    has_experts = any(map(_is_expert, tensors))
    share_known = not has_experts or bool(experts and experts_used)
    share = experts_used / experts if has_experts and experts and experts_used else 1.0
    used = [tensor for tensor in tensors if not _unused(tensor, layers, _predicting_layers(first, architecture))]
    tied = all(tensor.name != "output.weight" for tensor in tensors)
    read = [tensor for tensor in used if not _is_looked_up(tensor, tied=tied)]
    vocabulary = first.metadata.get("tokenizer.ggml.tokens")
    attention, unknown = _attention(first, architecture)
    model_name = first.text("general.name")
    return ModelFacts(
        architecture=architecture,
        size_label=first.text("general.size_label"),
        file_type=file_type_name(first.number("general.file_type")),
        weight_bytes=sum(tensor.bytes for tensor in tensors),
        parameters=sum(tensor.elements for tensor in tensors),
        token_bytes=_sum_with_share(((tensor, tensor.bytes) for tensor in read), share) if share_known else None,
        batch_bytes=None if has_experts else sum(tensor.bytes for tensor in read),
        looked_up_bytes=sum(tensor.bytes for tensor in used if _is_looked_up(tensor, tied=tied)),
        multiplied=_multiplied(read, share) if share_known else None,
        multiplied_at_output=_multiplied([t for t in read if _only_at_output(t, layers)], share)
        if share_known
        else None,
        layers=layers,
        experts=experts if has_experts else None,
        experts_used=experts_used if has_experts else None,
        vocabulary=vocabulary.length if isinstance(vocabulary, ArrayLength) else None,
        attention=attention,
        attention_unknown=unknown,
        stand_in=model_name if model_name.startswith("stand-in") else "",
    )


def split_names(name: str, count: int) -> list[str] | None:
    """The file names of all parts, from the name of the first; None if `name` is not that of a first part."""
    stem, mark, _ = name.rpartition(f"-00001-of-{count:05d}.gguf")
    return [f"{stem}-{part:05d}-of-{count:05d}.gguf" for part in range(1, count + 1)] if mark else None


def file_type_name(file_type: int | None) -> str:
    """llama.cpp's name of `general.file_type`, without the bits per weight that it adds to some names."""
    from gguf.constants import LlamaFileType

    known = {member.value: member.name for member in LlamaFileType}
    if file_type not in known:
        return "unknown" if file_type is None else f"file type {file_type}"
    name = known[file_type].removeprefix("MOSTLY_")
    if name == "ALL_F32":
        return "all F32"
    stem, _, size = name.rpartition("_")
    sizes = {"S": "Small", "M": "Medium", "L": "Large"}
    if stem.endswith("_K") and size in sizes:
        return f"{stem} - {sizes[size]}"
    return f"{name} - Medium" if name == "Q2_K" else name.replace("MXFP4_MOE", "MXFP4 MoE")


# --- what is read and what multiplies --------------------------------------------------------------------------------


def _is_expert(tensor: Tensor) -> bool:
    return _EXPERT.search(tensor.name) is not None


def _is_looked_up(tensor: Tensor, *, tied: bool) -> bool:
    return tensor.name in LOOKED_UP and not (tied and tensor.name == "token_embd.weight")


def _predicting_layers(header: Header, architecture: str) -> int:
    """Number of layers at the end for multi-token prediction, which plain generation does not use."""
    return header.number(f"{architecture}.nextn_predict_layers") or 0


def _unused(tensor: Tensor, layers: int | None, predicting: int) -> bool:
    block = _BLOCK.match(tensor.name)
    return layers is not None and block is not None and int(block[1]) >= layers - predicting


def _only_at_output(tensor: Tensor, layers: int | None) -> bool:
    if tensor.name in ("output.weight", "token_embd.weight"):  # token_embd is passed only if it is the output matrix
        return True
    return layers is not None and tensor.name.startswith(f"blk.{layers - 1}.ffn_")


def _multiplied(tensors: Iterable[Tensor], share: float) -> int:
    """Parameters of matrices. Vectors (norms, biases) only add or scale and do not count."""
    matrices = (tensor for tensor in tensors if len(tensor.shape) > 1 and tensor.name.endswith(".weight"))
    return _sum_with_share(((tensor, tensor.elements) for tensor in matrices), share)


def _sum_with_share(counts: Iterable[tuple[Tensor, int]], share: float) -> int:
    """The sum; of experts only the share that a token uses."""
    return round(sum(count * share if _is_expert(tensor) else count for tensor, count in counts))


def _attention(header: Header, architecture: str) -> tuple[Attention | None, str]:
    """The attention, or None and the reason why it is unknown. Keys are those of GGUF."""

    def number(name: str) -> int | None:
        return header.number(f"{architecture}.{name}")

    unsupported = {
        "attention.sliding_window": "sliding-window attention",
        "attention.kv_lora_rank": "latent attention",
        "ssm.state_size": "recurrent layers",
        "wkv.head_size": "recurrent layers",
        "shortconv.l_cache": "convolution layers",
    }
    for key, kind in unsupported.items():
        if number(key) or isinstance(header.metadata.get(f"{architecture}.{key}"), ArrayLength):
            return None, f"the model has {kind}"
    layers, heads, width = number("block_count"), number("attention.head_count"), number("embedding_length")
    kv_heads = number("attention.head_count_kv")
    if f"{architecture}.attention.head_count_kv" not in header.metadata:
        kv_heads = heads
    if not (layers and heads and kv_heads and width):
        return None, "the file does not give one number of heads for all layers"
    head = width // heads
    key_width = number("attention.key_length") or head
    return Attention(layers, heads, kv_heads, key_width, number("attention.value_length") or head), ""


# --- the file's bytes ------------------------------------------------------------------------------------------------


def _tensor(reader: "_Reader", name: str) -> Tensor:
    from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType

    tensor_name = reader.text()
    shape = tuple(reader.number("Q") for _ in range(reader.count("I", _MOST_DIMENSIONS)))
    kind = reader.number("I")
    reader.number("Q")  # offset of the tensor's data
    try:
        block, block_bytes = GGML_QUANT_SIZES[GGMLQuantizationType(kind)]
    except (ValueError, KeyError) as error:
        raise ModelUnusable(
            f"{name}: the tensor {sanitize(tensor_name, 100)} is of type {kind}, which the installed gguf package does "
            "not know. Try pip install --upgrade gguf."
        ) from error
    plain = Tensor(tensor_name, shape, 0)
    return msgspec.structs.replace(plain, bytes=plain.elements // block * block_bytes)


class _Reader:
    """GGUF's primitives from a stream; little-endian."""

    def __init__(self, stream: BinaryIO, name: str) -> None:
        self._stream = stream
        self._name = name

    def take(self, count: int) -> bytes:
        data = self._stream.read(count) if 0 <= count <= _LONGEST_TEXT else b""
        if len(data) != count:
            raise self._damaged()
        return data

    def _damaged(self) -> ModelUnusable:
        return ModelUnusable(f"{self._name} is cut off or damaged within its header: download the file again.")

    def number(self, kind: str) -> int:
        """An integer, for counts and lengths."""
        return int(self._unpacked(kind))

    def count(self, kind: str, most: int) -> int:
        """A count of following items. Raises ModelUnusable above `most`, which no valid file exceeds."""
        found = self.number(kind)
        if found > most:
            raise self._damaged()
        return found

    def text(self) -> str:
        return self.take(self.number("Q")).decode(errors="replace")

    def value(self, kind: int) -> str | float | bool | ArrayLength:
        if kind == _STRING:
            return self.text()
        if kind == _ARRAY:
            return self._skipped_array()
        return self._unpacked(self._format(kind))

    def _unpacked(self, kind: str) -> float | bool:
        found: float | bool = struct.unpack(f"<{kind}", self.take(struct.calcsize(f"<{kind}")))[0]
        return found

    def _format(self, kind: int) -> str:
        if kind not in _NUMBERS:
            raise ModelUnusable(
                f"{self._name} is damaged: its header has a value of type {kind}. Download the file again."
            )
        return _NUMBERS[kind]

    def _skipped_array(self, depth: int = 1) -> ArrayLength:
        """Skip the values of an array: a vocabulary has hundreds of thousands of texts."""
        kind, length = self.number("I"), self.count("Q", _MOST_ELEMENTS)
        if kind == _STRING:
            for _ in range(length):
                self._skip(self.count("Q", _LONGEST_TEXT))
        elif kind == _ARRAY:
            if depth == _DEEPEST_ARRAY:
                raise self._damaged()
            for _ in range(length):
                self._skipped_array(depth + 1)
        else:
            self._skip(length * struct.calcsize(f"<{self._format(kind)}"))
        return ArrayLength(length)

    def _skip(self, count: int) -> None:
        if count < 64:
            self.take(count)  # shorter than the reader's buffer: reading is faster than seeking
        else:
            self._stream.seek(count, 1)
