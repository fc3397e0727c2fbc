"""Where does a model come from when nothing may be downloaded? Random weights in Qwen2's shape, written from a seed.

A stand-in costs what its size says: real tensors, real arithmetic, a real tokenizer. Its text is made of words and
means nothing. A pair shares one small core network. The draft is the core alone; the target is the core padded with
zeros to a larger width, which changes nothing in what it computes, and then layers whose output projections are scaled
down (`drift`), so that the two mostly name the same next token. How often is for the engine to say: it is set nowhere.
"""

import contextlib
import functools
import hashlib
import importlib.resources
import math
import os
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from inferometer.errors import RequestWrong

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Tensor = NDArray[Any]  # Any: Q8_0 blocks are a structured dtype, which numpy's types can't name

FORMAT_VERSION = 1  # part of a cached file's name: raise it when the same shape and seed would give other bytes


class StandinShape(msgspec.Struct, frozen=True, kw_only=True):
    """The sizes of a Qwen2 network. Widths are in elements; Q8_0 stores them in blocks of 32."""

    layers: int
    hidden: int
    ffn: int
    heads: int
    kv_heads: int
    vocab: int = 4096
    context_tokens: int = 4096

    @property
    def head_dim(self) -> int:
        return self.hidden // self.heads

    @property
    def kv_width(self) -> int:
        return self.kv_heads * self.head_dim

    @property
    def matrix_bytes(self) -> int:
        """What the Q8_0 matrices take, bytes: nearly the whole file."""
        layer = 2 * self.hidden * self.hidden + 2 * self.hidden * self.kv_width + 3 * self.hidden * self.ffn
        return (self.layers * layer + 2 * self.vocab * self.hidden) * _BLOCK_BYTES // _BLOCK

    def problems(self) -> list[str]:
        """Why the engine could not load this shape: one line each, empty when it could."""
        bad = [
            f"{name} is {value}; it must be at least 1"
            for name, value in msgspec.structs.asdict(self).items()
            if value < 1
        ]
        if bad:
            return bad
        widths = {"hidden": self.hidden, "ffn": self.ffn}
        bad += [
            f"{name} is {width}; Q8_0 needs a multiple of {_BLOCK}" for name, width in widths.items() if width % _BLOCK
        ]
        if self.hidden % self.heads or self.head_dim % 2:
            bad.append(f"hidden {self.hidden} does not split into {self.heads} heads of one even width")
        if self.heads % self.kv_heads:
            bad.append(f"heads {self.heads} is not a multiple of kv_heads {self.kv_heads}")
        if self.vocab < _MIN_VOCAB:
            bad.append(f"vocab is {self.vocab}; bytes and special tokens alone need {_MIN_VOCAB}")
        return bad


class StandinPair(NamedTuple):
    """Two files that may be given to one engine as target and draft."""

    target: Path
    draft: Path


# In both pairs the target is 4 or 16 times as wide as the draft. The square root of that, by which norms are scaled, is
# then a power of two, and the target repeats the draft's arithmetic to the last bit until its own layers begin.
DEMO_TARGET = StandinShape(layers=6, hidden=2048, ffn=5120, heads=32, kv_heads=16)
DEMO_DRAFT = StandinShape(layers=1, hidden=128, ffn=384, heads=2, kv_heads=1)
TINY_TARGET = StandinShape(layers=3, hidden=256, ffn=512, heads=8, kv_heads=4)
TINY_DRAFT = StandinShape(layers=1, hidden=64, ffn=192, heads=2, kv_heads=1)
DRIFT = 0.006

_PAIRS = {"demo": (DEMO_TARGET, DEMO_DRAFT), "tiny": (TINY_TARGET, TINY_DRAFT)}


def default_cache_dir() -> Path:
    """$INFEROMETER_CACHE, else inferometer/ in $XDG_CACHE_HOME or ~/.cache. It need not exist yet."""
    if own := os.environ.get("INFEROMETER_CACHE"):
        return Path(own)
    shared = os.environ.get("XDG_CACHE_HOME")
    return (Path(shared) if shared else Path.home() / ".cache") / "inferometer"


def standin_pair(cache_dir: Path, size: str = "demo", *, seed: int = 1) -> StandinPair:
    """The files of a target and its draft, `size` being demo or tiny; those not in the cache yet are written there.

    Raises RequestWrong for another size, or when the cache cannot be written.
    """
    if size not in _PAIRS:
        raise RequestWrong(f"there is no stand-in of size {size!r}. Known: {', '.join(_PAIRS)}.")
    target, draft = _PAIRS[size]
    return StandinPair(
        target=_cached(cache_dir, f"standin-{size}-target", target, seed, core=draft, drift=DRIFT),
        draft=_cached(cache_dir, f"standin-{size}-draft", draft, seed, core=draft, drift=0.0),
    )


def write_standin(
    path: Path, shape: StandinShape, *, seed: int = 1, core: StandinShape | None = None, drift: float = DRIFT
) -> None:
    """Write one stand-in. The same arguments give the same bytes; `path` is whole or not there at all.

    `core`: the shape of the draft it has to agree with, written with the same seed; None: it agrees with no one.
    `drift`: how loud all layers beyond the core's are together, as a share of a layer of the core. 0 agrees fully.
    Takes about three times the largest matrix in memory. Raises RequestWrong for a shape that cannot be.
    """
    core = core or shape
    if problems := _problems(shape, core, seed, drift):
        raise RequestWrong("this stand-in cannot be written:\n" + "\n".join(f"  - {problem}" for problem in problems))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _whole_or_nothing(path) as part:
            _write_gguf(part, shape, core, seed, drift)
    except OSError as error:
        raise RequestWrong(
            f"the stand-in model cannot be written to {path}: {error.strerror or error}.\n"
            f"It takes {shape.matrix_bytes / 1e6:.0f} MB. Free some space, or name another folder in INFEROMETER_CACHE."
        ) from error


# --- the cache -------------------------------------------------------------------------------------------------------


def _cached(cache_dir: Path, name: str, shape: StandinShape, seed: int, *, core: StandinShape, drift: float) -> Path:
    """The file for these arguments. All that decides its bytes is in its name, so that a name that exists is right."""
    decides = msgspec.json.encode([FORMAT_VERSION, shape, core, seed, drift])
    digest = hashlib.sha256(decides + _corpus().encode()).hexdigest()[:12]
    path = cache_dir / f"{name}-{digest}.gguf"
    if not path.exists():
        _remove_abandoned(cache_dir)
        write_standin(path, shape, seed=seed, core=core, drift=drift)
    return path


@contextlib.contextmanager
def _whole_or_nothing(path: Path) -> Iterator[Path]:
    """A name to write under; the file takes its own name when the block ends well, and goes when it doesn't."""
    part = path.with_name(f"{path.name}.{os.getpid()}{_PART}")
    try:
        yield part
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _remove_abandoned(cache_dir: Path) -> None:
    """Remove what a killed run left behind. A younger file may be another run's, still being written."""
    for part in cache_dir.glob(f"*{_PART}"):
        with contextlib.suppress(FileNotFoundError):
            if time.time() - part.stat().st_mtime > _ABANDONED_AFTER_S:
                part.unlink()


_PART = ".part"
_ABANDONED_AFTER_S = 3600


# --- the words -------------------------------------------------------------------------------------------------------

# How Qwen2 cuts text before it merges bytes, from its tokenizer.json; llama.cpp does the same for "qwen2".
_QWEN2_CUTS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
_MIN_VOCAB = 256 + len(_SPECIAL)
_CHATML = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)


class _Vocabulary(msgspec.Struct, frozen=True):
    """`tokens` in the order of their ids: trained ones, unused ones up to the size asked for, special ones."""

    tokens: tuple[str, ...]
    merges: tuple[str, ...]
    trained: int
    sayable: tuple[bool, ...]  # one per token


@functools.cache
def _vocabulary(size: int) -> _Vocabulary:
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    cuts = pre_tokenizers.Split(Regex(_QWEN2_CUTS), "isolated")
    as_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([cuts, as_bytes])
    trainer = trainers.BpeTrainer(
        vocab_size=size - len(_SPECIAL), initial_alphabet=as_bytes.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator([_corpus()], trainer)
    model = msgspec.json.decode(tokenizer.to_str(), type=_Trained).model
    trained = sorted(model.vocab, key=model.vocab.__getitem__)
    unused = [f"<|unused_{i}|>" for i in range(size - len(_SPECIAL) - len(trained))]
    text_of = decoders.ByteLevel()
    return _Vocabulary(
        tokens=(*trained, *unused, *_SPECIAL),
        merges=tuple(" ".join(pair) for pair in model.merges),
        trained=len(trained),
        sayable=(*(_sayable(text_of.decode([token])) for token in trained), *[False] * (len(unused) + len(_SPECIAL))),
    )


class _Merges(msgspec.Struct):
    vocab: dict[str, int]
    merges: list[tuple[str, str]]


class _Trained(msgspec.Struct):
    model: _Merges


def _sayable(text: str) -> bool:
    """May the model say it? Each token said must be text at once, or a stream has fewer chunks than tokens.

    The server holds back half a character (decoded as U+FFFD) and what may become a tag, and strips white space.
    """
    return text.isprintable() and text.strip() != "" and "\ufffd" not in text and "<" not in text


@functools.cache
def _corpus() -> str:
    """What the tokenizer learns from: the built-in coding set, so that its prompts have sensible token counts."""
    data = importlib.resources.files("inferometer").joinpath("workloads", "data", "coding.json").read_bytes()
    conversations = msgspec.json.decode(data, type=list[_Conversation])
    return "\n".join(turn.value for conversation in conversations for turn in conversation.conversations)


class _Turn(msgspec.Struct):
    value: str


class _Conversation(msgspec.Struct):
    conversations: list[_Turn]


# --- the weights -----------------------------------------------------------------------------------------------------

_BLOCK = 32
_BLOCK_BYTES = 34
_UNIFORM_STD = 255 / math.sqrt(12)  # of the integers from -127 to 127, nearly
_RMS_EPS = 1e-6
_ROPE_BASE = 10_000.0

# Gains, found by trial: attention sharp enough for the text to hang on the whole prompt, and logits far enough apart
# for the likeliest token to be about as probable as a trained model's, so that a draft's p_min means something.
_ATTENTION_GAIN = 1.6
_GATE_GAIN = 1.5
_FFN_GAIN = 2.0
_LOGIT_STD = 12.0


def _problems(shape: StandinShape, core: StandinShape, seed: int, drift: float) -> list[str]:
    problems = shape.problems()
    if core != shape:
        problems += [f"core: {problem}" for problem in core.problems()]
    if seed < 0:
        problems.append(f"seed is {seed}; it must be at least 0")
    if not 0 <= drift < math.inf:
        problems.append(f"drift is {drift}; it must be a number of at least 0")
    if problems:
        return problems
    for name in ("layers", "hidden", "ffn", "heads"):
        if getattr(core, name) > getattr(shape, name):
            problems.append(f"{name} {getattr(shape, name)} has no room for the core's {getattr(core, name)}")
    if core.vocab != shape.vocab:
        problems.append(f"vocab {shape.vocab} is not the core's {core.vocab}")
    if core.head_dim != shape.head_dim:
        problems.append(f"a head of {shape.head_dim} elements is not as wide as the core's of {core.head_dim}")
    if core.heads * shape.kv_heads != shape.heads * core.kv_heads:
        problems.append(
            f"{shape.heads} heads on {shape.kv_heads} kv_heads share otherwise than the core's "
            f"{core.heads} on {core.kv_heads}"
        )
    return problems


class _Planned(NamedTuple):
    """A tensor to be written: a vector of F32, or a matrix of Q8_0 with its rows first."""

    name: str
    dims: tuple[int, ...]
    make: "Callable[[], Tensor]"


def _write_gguf(path: Path, shape: StandinShape, core: StandinShape, seed: int, drift: float) -> None:
    import numpy as np
    from gguf import GGMLQuantizationType, GGUFWriter, LlamaFileType, TokenType

    words = _vocabulary(shape.vocab)
    unused = shape.vocab - words.trained - len(_SPECIAL)
    writer = GGUFWriter(path, "qwen2")
    writer.add_name(f"stand-in {shape.layers}x{shape.hidden}, random weights of seed {seed}")
    writer.add_context_length(shape.context_tokens)
    writer.add_embedding_length(shape.hidden)
    writer.add_block_count(shape.layers)
    writer.add_feed_forward_length(shape.ffn)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.kv_heads)
    writer.add_rope_freq_base(_ROPE_BASE)
    # A mean over more elements, the new ones zero, is smaller by this ratio; so must be what is added to it.
    writer.add_layer_norm_rms_eps(_RMS_EPS * core.hidden / shape.hidden)
    writer.add_file_type(LlamaFileType.MOSTLY_Q8_0)
    writer.add_quantization_version(2)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list(words.tokens)
    writer.add_token_types(
        [TokenType.NORMAL] * words.trained + [TokenType.UNUSED] * unused + [TokenType.CONTROL] * len(_SPECIAL)
    )
    writer.add_token_merges(words.merges)
    writer.add_bos_token_id(words.tokens.index("<|endoftext|>"))
    writer.add_pad_token_id(words.tokens.index("<|endoftext|>"))
    writer.add_eos_token_id(words.tokens.index("<|im_end|>"))
    writer.add_add_bos_token(False)
    writer.add_chat_template(_CHATML)

    planned = list(_tensors(shape, core, seed, drift))
    for tensor in planned:
        if len(tensor.dims) == 1:
            writer.add_tensor_info(tensor.name, tensor.dims, np.dtype(np.float32), tensor.dims[0] * 4)
        else:
            size = math.prod(tensor.dims) // _BLOCK * _BLOCK_BYTES
            writer.add_tensor_info(
                tensor.name, tensor.dims, np.dtype(np.float32), size, raw_dtype=GGMLQuantizationType.Q8_0
            )
    try:
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        for tensor in planned:  # made one by one, so that memory holds one matrix and not the model
            writer.write_tensor_data(tensor.make())
    finally:
        writer.close()


def _tensors(shape: StandinShape, core: StandinShape, seed: int, drift: float) -> Iterator[_Planned]:
    """The model's tensors in the file's order.

    The core's part of a matrix is its first rows and columns, and the same in every model with this core and seed. In
    the core's layers, what is beyond it may read what it likes, but writes nothing.
    """
    import numpy as np

    # Beyond the core's width the stream is zero or nearly so: what sums over all of it sums over the core's width.
    spread = 1 / math.sqrt(core.hidden)
    scale = math.sqrt(core.hidden / shape.hidden)
    own_layers = shape.layers - core.layers

    def vector(name: str, width: int, value: float) -> _Planned:
        return _Planned(name, (width,), lambda: np.full(width, value, np.float32))

    def matrix(name: str, rows: int, columns: int, fill: "Callable[[_Random], Tensor]") -> _Planned:
        return _Planned(name, (rows, columns), lambda: fill(_Random(seed, name)))

    def reads(layer: int, name: str, rows: int, core_rows: int, gain: float) -> _Planned:
        def fill(random: _Random) -> "Tensor":
            if layer >= core.layers:
                return random.blocks(rows, shape.hidden, gain * spread)
            inner = random.blocks(core_rows, core.hidden, gain * spread)
            return random.around(inner, rows, shape.hidden, gain * spread)

        return matrix(f"blk.{layer}.{name}.weight", rows, shape.hidden, fill)

    def writes(layer: int, name: str, columns: int, core_columns: int, gain: float) -> _Planned:
        def fill(random: _Random) -> "Tensor":
            if layer >= core.layers:
                loudness = drift * gain / math.sqrt(own_layers * columns)
                return random.blocks(shape.hidden, columns, loudness)
            inner = random.blocks(core.hidden, core_columns, gain / math.sqrt(core.layers * core_columns))
            return random.around(inner, shape.hidden, columns, 0)

        return matrix(f"blk.{layer}.{name}.weight", shape.hidden, columns, fill)

    def embeds(random: _Random) -> "Tensor":
        inner = _with_row_norms(random.blocks(core.vocab, core.hidden, 1), math.sqrt(core.hidden))
        return random.around(inner, shape.vocab, shape.hidden, 0)

    def says(random: _Random) -> "Tensor":
        # Rows of one length, or the longest would win everywhere. A row of zeros never wins against 4000 random ones:
        # generation therefore ends at max_tokens only.
        inner = _with_row_norms(random.blocks(core.vocab, core.hidden, 1), _LOGIT_STD)
        outer = random.around(inner, shape.vocab, shape.hidden, _LOGIT_STD * spread)
        outer["scale"][~np.array(_vocabulary(shape.vocab).sayable)] = 0
        return outer

    yield matrix("token_embd.weight", shape.vocab, shape.hidden, embeds)
    for layer in range(shape.layers):
        yield vector(f"blk.{layer}.attn_norm.weight", shape.hidden, scale)
        yield reads(layer, "attn_q", shape.hidden, core.hidden, _ATTENTION_GAIN)
        yield reads(layer, "attn_k", shape.kv_width, core.kv_width, _ATTENTION_GAIN)
        yield reads(layer, "attn_v", shape.kv_width, core.kv_width, 1)
        yield vector(f"blk.{layer}.attn_q.bias", shape.hidden, 0)
        yield vector(f"blk.{layer}.attn_k.bias", shape.kv_width, 0)
        yield vector(f"blk.{layer}.attn_v.bias", shape.kv_width, 0)
        yield writes(layer, "attn_output", shape.hidden, core.hidden, 1)
        yield vector(f"blk.{layer}.ffn_norm.weight", shape.hidden, scale)
        yield reads(layer, "ffn_gate", shape.ffn, core.ffn, _GATE_GAIN)
        yield reads(layer, "ffn_up", shape.ffn, core.ffn, 1)
        yield writes(layer, "ffn_down", shape.ffn, core.ffn, _FFN_GAIN)
    yield vector("output_norm.weight", shape.hidden, scale)
    yield matrix("output.weight", shape.vocab, shape.hidden, says)


class _Random:
    """Random Q8_0 blocks of one tensor. Each tensor has its own stream: a shape doesn't shift what the core draws."""

    def __init__(self, seed: int, tensor: str) -> None:
        import numpy as np

        self._rng = np.random.default_rng([seed, zlib.crc32(tensor.encode())])

    def blocks(self, rows: int, columns: int, std: float) -> "Tensor":
        """Elements of mean 0 and this standard deviation (uniform, which after a sum of many is normal)."""
        import numpy as np

        made = np.empty((rows, columns // _BLOCK), np.dtype([("scale", "<f2"), ("values", "i1", (_BLOCK,))]))
        drawn = np.frombuffer(self._rng.bytes(rows * columns), np.int8).reshape(made["values"].shape)
        # A quantizer never writes -128, and kernels that negate in 8 bits get it wrong.
        np.maximum(drawn, -127, out=made["values"])
        made["scale"] = std / _UNIFORM_STD
        return made

    def around(self, inner: "Tensor", rows: int, columns: int, std: float) -> "Tensor":
        """A matrix of this size that begins with `inner` and goes on with blocks of `std`."""
        if inner.shape == (rows, columns // _BLOCK):
            return inner
        outer = self.blocks(rows, columns, std)
        outer[: inner.shape[0], : inner.shape[1]] = inner
        return outer


def _with_row_norms(blocks: "Tensor", norm: float) -> "Tensor":
    """The same rows, each scaled to this length."""
    import numpy as np

    squares = np.einsum("rbv,rbv->r", blocks["values"], blocks["values"], dtype=np.float32)
    blocks["scale"] = (norm / np.sqrt(squares))[:, None]
    return blocks
