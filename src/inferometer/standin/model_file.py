"""Writing of stand-in files in GGUF, tensor by tensor, so that memory never holds the whole file."""

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from gguf import GGMLQuantizationType, GGUFWriter, LlamaFileType, TokenType

from inferometer.standin.shapes import StandinShape
from inferometer.standin.vocabulary import Vocabulary

NAME_PREFIX = "stand-in"
"""Prefix of every stand-in's `general.name`, which marks the file as not a real model."""

PART = ".part"
_ALIGNMENT = 32
_TOKEN_TYPES = {"text": TokenType.NORMAL, "unused": TokenType.UNUSED, "control": TokenType.CONTROL}


class Zeros(NamedTuple):
    """`size` zero bytes: a hole in the file, which costs neither time nor disk space."""

    size: int


class PlannedTensor(NamedTuple):
    """A tensor to write. `pieces` returns its bytes in order, made on demand; their total is `size`."""

    name: str
    dims: tuple[int, ...]
    kind: GGMLQuantizationType
    size: int
    pieces: Callable[[], Iterable["bytes | np.ndarray | Zeros"]]


class Head(NamedTuple):
    """Metadata of the file."""

    name: str
    description: str
    shape: StandinShape
    words: Vocabulary
    rms_eps: float
    rope_base: float
    file_type: LlamaFileType
    size_label: str = ""


def write_model(path: Path, head: Head, tensors: Sequence[PlannedTensor]) -> None:
    """Write the file. Raises OSError and leaves the part that it has written."""
    writer = GGUFWriter(path, head.shape.architecture)
    _add_metadata(writer, head)
    for tensor in tensors:
        writer.add_tensor_info(tensor.name, tensor.dims, np.dtype(np.float32), tensor.size, raw_dtype=tensor.kind)
    try:
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
    finally:
        writer.close()
    with path.open("r+b") as file:
        file.seek(0, os.SEEK_END)
        for tensor in tensors:
            file.seek(-file.tell() % _ALIGNMENT, os.SEEK_CUR)
            begin = file.tell()
            for piece in tensor.pieces():
                if isinstance(piece, Zeros):
                    file.seek(piece.size, os.SEEK_CUR)
                else:
                    file.write(piece if isinstance(piece, bytes) else piece.data)
            if (written := file.tell() - begin) != tensor.size:
                raise AssertionError(f"{tensor.name} has {written} bytes instead of {tensor.size}")
        file.truncate(file.tell() + -file.tell() % _ALIGNMENT)


def _add_metadata(writer: GGUFWriter, head: Head) -> None:
    shape, words = head.shape, head.words
    writer.add_name(head.name)
    writer.add_description(head.description)
    if head.size_label:
        writer.add_size_label(head.size_label)
    writer.add_context_length(shape.context_tokens)
    writer.add_embedding_length(shape.hidden)
    writer.add_block_count(shape.layers)
    writer.add_feed_forward_length(shape.ffn)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.kv_heads)
    writer.add_rope_dimension_count(shape.head_dim)
    writer.add_rope_freq_base(head.rope_base)
    writer.add_layer_norm_rms_eps(head.rms_eps)
    writer.add_vocab_size(shape.vocab)
    writer.add_file_type(head.file_type)
    writer.add_quantization_version(2)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(words.cuts)
    writer.add_token_list(words.tokens)
    writer.add_token_types([_TOKEN_TYPES[kind] for kind in words.kinds])
    writer.add_token_merges(words.merges)
    writer.add_bos_token_id(words.tokens.index(words.begin))
    writer.add_pad_token_id(words.tokens.index(words.pad))
    writer.add_eos_token_id(words.tokens.index(words.end))
    writer.add_add_bos_token(False)
    writer.add_chat_template(words.template)


@contextlib.contextmanager
def whole_or_nothing(path: Path) -> Iterator[Path]:
    """A name to write under; the file takes its own name when the block ends well, and goes when it doesn't."""
    part = path.with_name(f"{path.name}.{os.getpid()}{PART}")
    try:
        yield part
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
