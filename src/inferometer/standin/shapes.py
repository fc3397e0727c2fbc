"""Shapes of networks: by name, from a config.json, and what makes a shape invalid."""

import difflib
from pathlib import Path
from typing import Literal

import msgspec

from inferometer.base.errors import RequestWrong

BLOCK = 32
"""Elements of the smallest block that a quantised matrix's rows are cut into."""


class StandinShape(msgspec.Struct, frozen=True, kw_only=True):
    """The sizes of a Qwen2 or Llama network. Widths are in elements. `tied`: the output is the embedding again."""

    layers: int
    hidden: int
    ffn: int
    heads: int
    kv_heads: int
    vocab: int = 4096
    context_tokens: int = 4096
    architecture: Literal["qwen2", "llama"] = "qwen2"
    tied: bool = False

    @property
    def head_dim(self) -> int:
        return self.hidden // self.heads

    @property
    def kv_width(self) -> int:
        return self.kv_heads * self.head_dim

    def matrices(self) -> dict[str, tuple[int, int]]:
        """Rows and columns of each matrix, by its name in a GGUF file and in the order of one."""
        wide, kv = self.hidden, self.kv_width
        found = {"token_embd.weight": (self.vocab, wide)}
        for i in range(self.layers):
            found |= {
                f"blk.{i}.attn_q.weight": (wide, wide),
                f"blk.{i}.attn_k.weight": (kv, wide),
                f"blk.{i}.attn_v.weight": (kv, wide),
                f"blk.{i}.attn_output.weight": (wide, wide),
                f"blk.{i}.ffn_gate.weight": (self.ffn, wide),
                f"blk.{i}.ffn_up.weight": (self.ffn, wide),
                f"blk.{i}.ffn_down.weight": (wide, self.ffn),
            }
        return found if self.tied else found | {"output.weight": (self.vocab, wide)}

    def vectors(self) -> dict[str, int]:
        """The width of each norm and, in Qwen2, of each bias, by name."""
        found = {"output_norm.weight": self.hidden}
        for i in range(self.layers):
            found |= {f"blk.{i}.attn_norm.weight": self.hidden, f"blk.{i}.ffn_norm.weight": self.hidden}
            if self.architecture == "qwen2":
                found[f"blk.{i}.attn_q.bias"] = self.hidden
                found |= {f"blk.{i}.attn_k.bias": self.kv_width, f"blk.{i}.attn_v.bias": self.kv_width}
        return found

    @property
    def parameters(self) -> int:
        """Weights in the file, as llama-bench counts them: norms and biases are among them."""
        return sum(rows * columns for rows, columns in self.matrices().values()) + sum(self.vectors().values())

    def problems(self) -> list[str]:
        """Why no engine could load this shape: one line each, empty when one could."""
        bad = [
            f"{name} is {value}; it must be at least 1"
            for name, value in msgspec.structs.asdict(self).items()
            if isinstance(value, int) and not isinstance(value, bool) and value < 1
        ]
        if bad:
            return bad
        widths = {"hidden": self.hidden, "ffn": self.ffn}
        bad += [
            f"{name} is {width}; blocks of a quantised row need a multiple of {BLOCK}"
            for name, width in widths.items()
            if width % BLOCK
        ]
        if self.hidden % self.heads or self.head_dim % 2:
            bad.append(f"hidden {self.hidden} does not split into {self.heads} heads of one even width")
        if self.heads % self.kv_heads:
            bad.append(f"heads {self.heads} is not a multiple of kv_heads {self.kv_heads}")
        return bad


def _qwen(layers: int, hidden: int, ffn: int, heads: int, kv_heads: int, vocab: int, tied: bool) -> StandinShape:
    return StandinShape(
        layers=layers,
        hidden=hidden,
        ffn=ffn,
        heads=heads,
        kv_heads=kv_heads,
        vocab=vocab,
        tied=tied,
        context_tokens=32768,
    )


def _llama(layers: int, hidden: int, ffn: int, heads: int) -> StandinShape:
    return StandinShape(
        architecture="llama",
        layers=layers,
        hidden=hidden,
        ffn=ffn,
        heads=heads,
        kv_heads=8,
        vocab=128256,
        context_tokens=8192,
    )


NAMED = {
    "qwen2.5-coder-0.5b": _qwen(24, 896, 4864, 14, 2, 151936, tied=True),
    "qwen2.5-coder-1.5b": _qwen(28, 1536, 8960, 12, 2, 151936, tied=True),
    "qwen2.5-coder-3b": _qwen(36, 2048, 11008, 16, 2, 151936, tied=True),
    "qwen2.5-coder-7b": _qwen(28, 3584, 18944, 28, 4, 152064, tied=False),
    "qwen2.5-coder-14b": _qwen(48, 5120, 13824, 40, 8, 152064, tied=False),
    "qwen2.5-coder-32b": _qwen(64, 5120, 27648, 40, 8, 152064, tied=False),
    "llama-3-8b": _llama(32, 4096, 14336, 32),
    "llama-3-70b": _llama(80, 8192, 28672, 64),
}
"""From the models' own config.json (Qwen/Qwen2.5-Coder-…, meta-llama/Meta-Llama-3-…)."""


def named_shape(name: str) -> StandinShape:
    """Raises RequestWrong for a name that is not built in, with the nearest that is."""
    if (found := NAMED.get(name.lower())) is not None:
        return found
    near = difflib.get_close_matches(name.lower(), NAMED, n=1, cutoff=0.5)
    hint = f" Did you mean {near[0]}?" if near else ""
    raise RequestWrong(
        f"--like: there is no shape {name!r}.{hint} Known: {', '.join(NAMED)}.\n"
        "Any other Qwen2 or Llama model: --config with its config.json from Hugging Face."
    )


class _Config(msgspec.Struct, frozen=True):
    """The fields of a Hugging Face config.json that are used."""

    num_hidden_layers: int
    hidden_size: int
    intermediate_size: int
    num_attention_heads: int
    vocab_size: int
    model_type: str = ""
    num_key_value_heads: int | None = None
    head_dim: int | None = None
    tie_word_embeddings: bool = False
    max_position_embeddings: int = 4096
    attention_bias: bool = False


def shape_of_config(path: Path) -> StandinShape:
    """The shape that a config.json describes. Raises RequestWrong for another architecture or an unreadable file."""
    try:
        config = msgspec.json.decode(path.read_bytes(), type=_Config)
    except OSError as error:
        raise RequestWrong(f"--config {path} cannot be read: {error.strerror or error}") from error
    except msgspec.MsgspecError as error:
        raise RequestWrong(
            f"--config {path} is not a config.json of a Hugging Face model: {error}. "
            "Use the config.json next to the model's weights."
        ) from error
    if config.model_type not in ("qwen2", "llama"):
        raise RequestWrong(
            f"--config {path}: model_type is {config.model_type!r}. Stand-ins have the architecture qwen2 or llama; "
            "choose a model of one of these whose size is nearest."
        )
    if config.head_dim not in (None, config.hidden_size // max(1, config.num_attention_heads)):
        raise RequestWrong(
            f"--config {path}: head_dim is {config.head_dim}, and {config.num_attention_heads} heads of it are not the "
            f"hidden_size {config.hidden_size}; stand-ins have no such shape."
        )
    if config.attention_bias and config.model_type == "llama":
        raise RequestWrong(f"--config {path}: attention_bias is true; Llama stand-ins have no biases.")
    return StandinShape(
        layers=config.num_hidden_layers,
        hidden=config.hidden_size,
        ffn=config.intermediate_size,
        heads=config.num_attention_heads,
        kv_heads=config.num_attention_heads if config.num_key_value_heads is None else config.num_key_value_heads,
        vocab=config.vocab_size,
        context_tokens=config.max_position_embeddings,
        architecture="qwen2" if config.model_type == "qwen2" else "llama",
        tied=config.tie_word_embeddings,
    )
