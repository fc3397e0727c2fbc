#!/usr/bin/env python3
"""How were the stand-in's weights made? Trains a small code model and its draft from Python source on this machine.

    python3 tools/train_standin.py --minutes 5 --device cuda --out OUT      # one H100 or H200
    python3 tools/train_standin.py --smoke --out OUT                        # seconds on a CPU: does it run at all

Needs torch, tokenizers and numpy; nothing is downloaded. In order: collect source under free licences, learn a byte
pair encoding, train the target on source and on chats made of it, let the target answer and go on with its own good
answers, then train the draft on what the target says and how sure it is. What comes out (`src/inferometer/standin/data`
has it): target.npz, draft.npz, tokenizer.json, recipe.json, loss.csv, samples.md. Weights are written after each phase,
so that a run which is cut off leaves some.
"""

import argparse
import ast
import csv
import dataclasses
import hashlib
import importlib.metadata
import io
import json
import math
import multiprocessing
import os
import random
import re
import sys
import sysconfig
import textwrap
import time
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

END_OF_TEXT, IM_START, IM_END = SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
PROMPT = IM_START + "user\n{}" + IM_END + "\n" + IM_START + "assistant\n"
BUILTIN = Path(__file__).parent.parent / "src/inferometer/workloads/data/coding.json"
# How Qwen2 cuts text before it merges bytes (its tokenizer.json). The engine does the same for files that say "qwen2".
CUTS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"


@dataclasses.dataclass(frozen=True)
class Shape:
    """A Qwen2 network whose biases are zero and whose output is its embedding."""

    layers: int
    hidden: int
    ffn: int
    heads: int
    kv_heads: int
    vocab: int
    head_dim: int = 64


@dataclasses.dataclass(frozen=True)
class Settings:
    """All that decides a run. Heads of 64: they fit into heads of 64, 128, 192 …, as RoPE's angles nest."""

    target: Shape
    draft: Shape
    row_tokens: int = 1024
    batch_rows: int = 64
    rope_base: float = 1e6
    rms_eps: float = 1e-6
    raw_mb: float = 110
    chat_mb: float = 170
    bpe_mb: float = 24
    target_lr: float = 3e-3
    draft_lr: float = 4e-3
    own_lr: float = 4e-4
    unlearn_lr: float = 1e-4
    unlearn_rounds: int = 4
    answers: int = 2048  # written by the target at once
    answer_batches: int = 18
    answer_tokens: int = 384
    # shares of --minutes
    target_share: float = 0.42
    own_share: float = 0.07
    unlearn_share: float = 0.12  # all rounds together, answers included
    answers_share: float = 0.12  # at most, for each time that the target answers
    draft_share: float = 0.30


FULL = Settings(
    target=Shape(layers=6, hidden=384, ffn=1024, heads=6, kv_heads=2, vocab=6144),
    draft=Shape(layers=4, hidden=128, ffn=384, heads=2, kv_heads=1, vocab=6144),
)
SMOKE = Settings(
    target=Shape(layers=2, hidden=128, ffn=256, heads=2, kv_heads=1, vocab=1024),
    draft=Shape(layers=1, hidden=64, ffn=128, heads=1, kv_heads=1, vocab=1024),
    row_tokens=256, batch_rows=8, raw_mb=0.5, chat_mb=1.0, bpe_mb=0.5,
    answers=8, answer_batches=2, answer_tokens=48,
)  # fmt: skip


# --- source code under free licences ----------------------------------------------------------------------------------

FREE = re.compile(r"\b(BSD|MIT|Apache|PSF|Python Software Foundation)\b|0BSD|BSD-|MIT-", re.IGNORECASE)
NOT_FREE = re.compile(r"GPL|MPL|Mozilla|EUPL|propriet|NVIDIA|NonCommercial|-NC|CDDL|EPL", re.IGNORECASE)
SKIPPED = re.compile(r"(^|/)(tests?|testing|_vendor|vendor\w*|third_party|extern\w*|__pycache__|idlelib|lib2to3)/|_pb2")


def packages() -> Iterator[tuple[str, str, str, list[Path]]]:
    """Name, version, licence and files of Python's library and of each installed package under a free licence."""
    library = Path(sysconfig.get_paths()["stdlib"])
    own = [
        path
        for path in library.rglob("*.py")
        if "site-packages" not in path.parts and "dist-packages" not in path.parts
    ]
    yield "Python's standard library", sys.version.split()[0], "PSF-2.0", _usable(own, library)
    seen: set[str] = set()
    for package in importlib.metadata.distributions():
        name = str(package.metadata["Name"])
        licence = _licence(package)
        if name.lower() in seen or not FREE.search(licence) or NOT_FREE.search(licence):
            continue
        seen.add(name.lower())
        root = Path(str(package.locate_file("")))
        files = [root / str(file) for file in package.files or () if str(file).endswith(".py")]
        if usable := _usable(files, root):
            yield name, package.version, licence, usable


def _licence(package: importlib.metadata.Distribution) -> str:
    """What the metadata say in few words; a whole licence text names others' licences too, and counts as nothing."""
    if said := package.metadata.get("License-Expression"):
        return str(said)
    classifiers = package.metadata.get_all("Classifier") or []
    if named := [line.rpartition(" :: ")[2] for line in classifiers if line.startswith("License :: OSI Approved ::")]:
        return "; ".join(named)
    said = str(package.metadata.get("License") or "").strip()
    return said if len(said) < 60 and "\n" not in said else ""


def _usable(files: list[Path], root: Path) -> list[Path]:
    found: list[Path] = []
    for path in files:
        try:
            inside = path.relative_to(root).as_posix()
            if not SKIPPED.search(inside) and 400 < path.stat().st_size < 200_000:
                found.append(path)
        except (OSError, ValueError):
            continue
    return sorted(found)


# --- chats made of source ---------------------------------------------------------------------------------------------

LANGUAGES = ("Python", "Python", "Python", "Go", "Rust", "JavaScript", "TypeScript", "Java", "C++", "SQL", "Bash")
WRITE = (
    "Write a {lang} {kind} that {does}.",
    "Write a {lang} {kind} `{name}` that {does}.",
    "I need a {kind} in {lang}: {does}. Standard library only.",
    "Write a small {lang} {kind} called {name}. It should {does}.",
    "In our {lang} project we need a {kind} that {does}. {rest}\n\nKeep it short, and raise clear errors.",
    "How would you write {name} in {lang}? It {does}.",
    "Implement `{head}`: {does}. {rest}",
    "Please write {head} in {lang}. {does_capital}. {rest}",
)
EXPLAIN = (
    "Explain what this code does.\n\n```python\n{code}\n```",
    "Can you explain what happens here?\n\n```python\n{code}\n```",
    "I took over this code and do not see how it works. Please explain it.\n\n```python\n{code}\n```",
)
DOCUMENT = (
    "Add a docstring to this {kind}.\n\n```python\n{code}\n```",
    "Please document this code:\n\n```python\n{code}\n```",
    "Review this {kind} and improve it.\n\n```python\n{code}\n```",
)
FIX = (
    "There is a mistake in this {kind}. Find and fix it.\n\n```python\n{code}\n```",
    "This gives the wrong result, why?\n\n```python\n{code}\n```",
    "Our tests fail since somebody changed this. What is wrong, and how do I fix it?\n\n```python\n{code}\n```",
)
MISTAKES = (
    (" == ", " != "), (" < ", " <= "), (" > ", " >= "), (" + ", " - "), (" and ", " or "), (" is None", " is not None"),
    ("True", "False"), ("[0]", "[1]"), (" not in ", " in "), ("if not ", "if "), ("return ", ""), ("+= 1", "-= 1"),
)  # fmt: skip


def read_file(path: Path) -> tuple[str, list[tuple[str, str]]]:
    """A file's text and the chats (prompt, answer) made of what it defines. Nothing of what cannot be parsed."""
    try:
        text = path.read_text("utf-8")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(text)
    except (OSError, ValueError, SyntaxError, RecursionError, MemoryError):
        return "", []
    rng = random.Random(hashlib.sha256(text.encode()).digest())
    lines = text.splitlines()
    chats: list[tuple[str, str]] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and not node.name.startswith("test"):
            chats += _chats(node, lines, rng)
    return text, chats


def _chats(node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef, lines: list[str], rng: random.Random):
    first = min([node.lineno, *(each.lineno for each in node.decorator_list)])
    code = textwrap.dedent("\n".join(lines[first - 1 : node.end_lineno])).strip("\n")
    if not 100 <= len(code) <= 2200 or max(map(len, code.splitlines())) > 160 or "```" in code or _repeats(code):
        return
    doc = ast.get_docstring(node) or ""
    bare = _without_docstring(node, lines, first) if doc else code
    kind = "class" if isinstance(node, ast.ClassDef) else "function"
    said = re.sub(r"\s+", " ", re.sub(r":\w+:`~?([^`]*)`|``", r"\1", doc.split("\n\n")[0])).strip()
    sentence, _, rest = said.partition(". ")
    sentence = sentence.rstrip(".")
    if not 12 <= len(sentence) <= 240:
        sentence, rest = node.name.strip("_").replace("_", " "), ""
    head = re.sub(r"^(class|async def|def) ", "", lines[node.lineno - 1].strip()).rstrip(":")
    words = {
        "lang": rng.choice(LANGUAGES), "kind": kind, "name": node.name, "head": head, "code": bare,
        "does": sentence[:1].lower() + sentence[1:], "does_capital": sentence, "rest": rest[:300],
    }  # fmt: skip

    def ask(templates: tuple[str, ...], **changed: str) -> str:
        return rng.choice(templates).format(**{**words, **changed}).strip().replace(" \n", "\n")

    note = _note(said, node, rng)

    def fenced(source: str) -> str:
        return f"```python\n{source}\n```{note}"

    shown = code if not doc or rng.random() < 0.5 else bare
    yield ask(WRITE), fenced(shown)
    if doc and len(bare) > 80:
        if len(doc) > 60:
            yield ask(EXPLAIN), f"`{node.name}` is a {kind}. {_cut(doc, 700)}\n\n```python\n{_cut(bare, 500)}\n```"
        if rng.random() < 0.5:
            yield ask(DOCUMENT), fenced(code)
    spoilt = [(right, wrong) for right, wrong in MISTAKES if right in bare]
    if spoilt and len(bare) < 1400:
        right, wrong = rng.choice(spoilt)
        where = rng.choice([match.start() for match in re.finditer(re.escape(right), bare)])
        changed = bare[:where] + wrong + bare[where + len(right) :]
        line = bare[:where].count("\n")
        is_now, was = bare.splitlines()[line].strip(), changed.splitlines()[line].strip()
        why = f"The mistake is in `{was}`: it should be `{is_now}`."
        yield ask(FIX, code=changed), f"{why}\n\n```python\n{bare}\n```"


def _note(said: str, node: ast.AST, rng: random.Random) -> str:
    """Some words after the code, as answers have them."""
    if not 20 <= len(said) <= 500 or rng.random() < 0.35:
        return ""
    raised = sorted({each.exc.func.id for each in ast.walk(node) if isinstance(each, ast.Raise)
                     and isinstance(each.exc, ast.Call) and isinstance(each.exc.func, ast.Name)})  # fmt: skip
    more = f"\n\nIt raises `{'`, `'.join(raised)}` on bad input." if raised else ""
    return f"\n\n{said}{'' if said.endswith('.') else '.'}{more}"


def _without_docstring(
    node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef, lines: list[str], first: int
) -> str:
    doc = node.body[0]
    kept = lines[first - 1 : doc.lineno - 1] + lines[doc.end_lineno or doc.lineno : node.end_lineno]
    if len(node.body) == 1:
        kept.append(" " * doc.col_offset + "...")
    return textwrap.dedent("\n".join(kept)).strip("\n")


def _cut(text: str, most: int) -> str:
    """At most so many characters, ended at a line."""
    return text if len(text) <= most else text[:most].rpartition("\n")[0] or text[:most]


def _repeats(code: str) -> bool:
    """Tables of much the same lines teach a model to go round in circles."""
    shapes = [re.sub(r"\w+", "w", line) for line in code.splitlines() if line.strip()]
    return len(shapes) > 8 and max(Counter(shapes).values()) > 0.4 * len(shapes)


# --- tokens -----------------------------------------------------------------------------------------------------------


def trained_tokenizer(texts: list[str], vocab: int):
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    cuts = pre_tokenizers.Split(Regex(CUTS), "isolated")
    as_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([cuts, as_bytes])
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab - len(SPECIAL), initial_alphabet=as_bytes.alphabet(), show_progress=False, max_token_length=16
    )
    tokenizer.train_from_iterator(texts, trainer)
    if tokenizer.get_vocab_size() != vocab - len(SPECIAL):
        raise SystemExit(f"only {tokenizer.get_vocab_size()} tokens could be learnt: more source is needed")
    tokenizer.add_special_tokens([AddedToken(token, special=True) for token in SPECIAL])
    return tokenizer


def encode_texts(job: tuple[str, list[str]]) -> list[np.ndarray]:
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_str(job[0])
    return [np.array(one.ids, np.int16) for one in tokenizer.encode_batch_fast(job[1], add_special_tokens=False)]


@dataclasses.dataclass
class Rows:
    """Rows of one length. `marks`: what is to be done with each token: nothing, LEARN or UNLEARN it."""

    tokens: Tensor
    marks: Tensor


LEARN, UNLEARN = 1, 2


def answer_marks(prompt: int, tokens: int) -> np.ndarray:
    """A prompt's tokens are not to be learnt, those after it are."""
    return np.repeat(np.array([0, LEARN], np.int8), [prompt, tokens - prompt])


def packed(documents: list[tuple[np.ndarray, np.ndarray]], row_tokens: int, device: str, pad: int) -> Rows:
    """Documents (tokens and their marks) laid side by side into rows, each whole or cut at the row's end."""
    open_rows: list[list[tuple[np.ndarray, np.ndarray]]] = []
    room: list[int] = []
    closed: list[list[tuple[np.ndarray, np.ndarray]]] = []
    for tokens, marked in documents:
        size = min(len(tokens), row_tokens + 1)
        place = next((i for i, free in enumerate(room) if free >= size), None)
        if place is None:
            if len(room) >= 24:
                fullest = room.index(min(room))
                closed.append(open_rows.pop(fullest))
                room.pop(fullest)
            open_rows.append([])
            room.append(row_tokens + 1)
            place = len(room) - 1
        open_rows[place].append((tokens[:size], marked[:size]))
        room[place] -= size
    rows = closed + open_rows
    filled = np.full((len(rows), row_tokens + 1), pad, np.int16)
    marks = np.zeros((len(rows), row_tokens + 1), np.int8)
    for row, members in enumerate(rows):
        at = 0
        for tokens, marked in members:
            filled[row, at : at + len(tokens)] = tokens
            marks[row, at : at + len(tokens)] = marked
            at += len(tokens)
    return Rows(torch.from_numpy(filled).to(device), torch.from_numpy(marks).to(device))


# --- the network ------------------------------------------------------------------------------------------------------


class Layer(nn.Module):
    def __init__(self, shape: Shape) -> None:
        super().__init__()
        q, kv = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
        self.shape = shape
        self.attn_norm = nn.Parameter(torch.ones(shape.hidden))
        self.ffn_norm = nn.Parameter(torch.ones(shape.hidden))
        self.attn_qkv = nn.Linear(shape.hidden, q + 2 * kv, bias=False)
        self.attn_output = nn.Linear(q, shape.hidden, bias=False)
        self.ffn_gate_up = nn.Linear(shape.hidden, 2 * shape.ffn, bias=False)
        self.ffn_down = nn.Linear(shape.ffn, shape.hidden, bias=False)

    def forward(self, x: Tensor, turn: tuple[Tensor, Tensor], eps: float, cache: "Cache | None", index: int) -> Tensor:
        shape = self.shape
        rows, tokens, _ = x.shape
        q_width, kv_width = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
        q, k, v = self.attn_qkv(F.rms_norm(x, (shape.hidden,), self.attn_norm, eps)).split(
            (q_width, kv_width, kv_width), -1
        )
        q = turned(q.view(rows, tokens, shape.heads, -1).transpose(1, 2), turn)
        k = turned(k.view(rows, tokens, shape.kv_heads, -1).transpose(1, 2), turn)
        v = v.view(rows, tokens, shape.kv_heads, -1).transpose(1, 2)
        if cache is not None:
            k, v = cache.grown(index, k, v)
        if tokens > 1:
            seen = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
        else:  # heads of a group side by side, without a copy of keys and values for each: 20 times faster
            grouped = q.view(rows, shape.kv_heads, -1, shape.head_dim) * shape.head_dim**-0.5
            seen = ((grouped @ k.transpose(-1, -2)).float().softmax(-1).to(v.dtype) @ v).view(q.shape)
        x = x + self.attn_output(seen.transpose(1, 2).reshape(rows, tokens, q_width))
        gate, up = self.ffn_gate_up(F.rms_norm(x, (shape.hidden,), self.ffn_norm, eps)).chunk(2, -1)
        return x + self.ffn_down(F.silu(gate) * up)


class Net(nn.Module):
    def __init__(self, shape: Shape, rope_base: float, eps: float, context: int) -> None:
        super().__init__()
        self.shape, self.eps, self.rope_base = shape, eps, rope_base
        self.embed = nn.Parameter(torch.randn(shape.vocab, shape.hidden) * 0.02)
        self.layers = nn.ModuleList(Layer(shape) for _ in range(shape.layers))
        self.output_norm = nn.Parameter(torch.ones(shape.hidden))
        for name, parameter in self.named_parameters():
            if parameter.dim() == 2 and name != "embed":
                last = name.endswith(("attn_output.weight", "ffn_down.weight"))
                nn.init.normal_(parameter, std=0.02 / math.sqrt(2 * shape.layers) if last else 0.02)
        half = shape.head_dim // 2
        speeds = rope_base ** (-torch.arange(half, dtype=torch.float64) / half)
        angles = torch.outer(torch.arange(context, dtype=torch.float64), speeds)
        self.register_buffer("cos", torch.cat([angles.cos()] * 2, -1).float(), persistent=False)
        self.register_buffer("sin", torch.cat([angles.sin()] * 2, -1).float(), persistent=False)

    def forward(self, tokens: Tensor, cache: "Cache | None" = None, *, normed: bool = True) -> Tensor:
        """What the embedding's rows are multiplied with to give logits; `normed=False`: before the last norm."""
        x = F.embedding(tokens.long(), self.embed)
        at = 0 if cache is None else cache.used
        turn = (self.cos[at : at + tokens.shape[1]].to(x.dtype), self.sin[at : at + tokens.shape[1]].to(x.dtype))
        for index, layer in enumerate(self.layers):
            x = layer(x, turn, self.eps, cache, index)
        if cache is not None:
            cache.used += tokens.shape[1]
        return F.rms_norm(x, (self.shape.hidden,), self.output_norm, self.eps) if normed else x

    def logits(self, features: Tensor) -> Tensor:
        return features @ self.embed.T


def turned(x: Tensor, turn: tuple[Tensor, Tensor]) -> Tensor:
    """RoPE on halves, as Qwen2 has it."""
    cos, sin = turn
    left, right = x.chunk(2, -1)
    return (x * cos + torch.cat((-right, left), -1) * sin).to(x.dtype)


class Cache:
    """Keys and values of `rows` texts that are all as long as `used`."""

    def __init__(self, net: Net, rows: int, tokens: int, device: str, dtype: torch.dtype) -> None:
        shape = net.shape
        size = (shape.layers, rows, shape.kv_heads, tokens, shape.head_dim)
        self.keys = torch.empty(size, device=device, dtype=dtype)
        self.values = torch.empty(size, device=device, dtype=dtype)
        self.used = 0

    def grown(self, layer: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        end = self.used + k.shape[2]
        self.keys[layer, :, :, self.used : end] = k
        self.values[layer, :, :, self.used : end] = v
        return self.keys[layer, :, :, :end], self.values[layer, :, :, :end]


# --- weight files -----------------------------------------------------------------------------------------------------


def q8_0(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """llama.cpp's Q8_0: blocks of 32 along a row, one half-precision scale each. Returns the values and the scales."""
    blocks = matrix.astype(np.float32).reshape(matrix.shape[0], -1, 32)
    scale = np.abs(blocks).max(-1) / 127
    inverse = np.divide(1, scale, out=np.zeros_like(scale), where=scale > 0)
    return np.rint(blocks * inverse[..., None]).astype(np.int8).reshape(matrix.shape), scale.astype(np.float16)


def tensors_of(net: Net) -> dict[str, np.ndarray]:
    """Its tensors under the names that GGUF files have."""
    shape = net.shape
    q, kv = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
    state = {name: value.detach().float().cpu().numpy() for name, value in net.state_dict().items()}
    found = {"token_embd.weight": state["embed"], "output_norm.weight": state["output_norm"]}
    for i in range(shape.layers):
        qkv, gate_up = state[f"layers.{i}.attn_qkv.weight"], state[f"layers.{i}.ffn_gate_up.weight"]
        parts = {
            "attn_norm": state[f"layers.{i}.attn_norm"], "ffn_norm": state[f"layers.{i}.ffn_norm"],
            "attn_q": qkv[:q], "attn_k": qkv[q : q + kv], "attn_v": qkv[q + kv :],
            "attn_output": state[f"layers.{i}.attn_output.weight"],
            "ffn_gate": gate_up[: shape.ffn], "ffn_up": gate_up[shape.ffn :],
            "ffn_down": state[f"layers.{i}.ffn_down.weight"],
        }  # fmt: skip
        found |= {f"blk.{i}.{name}.weight": value for name, value in parts.items()}
    return found


def write_weights(path: Path, net: Net, final_rms: float) -> None:
    """Matrices as Q8_0 (`NAME` values, `NAME.scale`), vectors as F32, and `meta`: shape and settings as JSON."""
    meta = {"format": 1, "shape": dataclasses.asdict(net.shape), "rope_base": net.rope_base, "rms_eps": net.eps,
            "final_rms": final_rms}  # fmt: skip
    arrays: dict[str, np.ndarray] = {"meta": np.frombuffer(json.dumps(meta).encode(), np.uint8)}
    for name, value in tensors_of(net).items():
        if value.ndim == 1:
            arrays[name] = value
        else:
            arrays[name], arrays[f"{name}.scale"] = q8_0(value)
    held = io.BytesIO()
    np.savez_compressed(held, **arrays)
    part = path.with_suffix(".part")
    part.write_bytes(held.getvalue())
    part.replace(path)
    print(f"{path.name}: {path.stat().st_size / 1e6:.2f} MB", flush=True)


@torch.no_grad()
def read_weights(path: Path, net: Net) -> None:
    """What `write_weights` wrote, into a net of the same shape."""
    with np.load(path) as file:
        arrays = {name: file[name] for name in file.files}
    meta = json.loads(arrays["meta"].tobytes())
    if meta["shape"] != dataclasses.asdict(net.shape):
        raise SystemExit(f"{path} has the shape {meta['shape']}")

    def exact(*names: str) -> Tensor:
        held = [arrays[f"{name}.weight"] for name in names]
        if held[0].ndim == 2:
            scales = [arrays[f"{name}.weight.scale"].astype(np.float32)[..., None] for name in names]
            held = [
                (values.reshape(*scale.shape[:2], 32) * scale).reshape(values.shape)
                for values, scale in zip(held, scales, strict=True)
            ]
        return torch.from_numpy(np.concatenate(held).astype(np.float32))

    state = {"embed": exact("token_embd"), "output_norm": exact("output_norm")}
    for i in range(net.shape.layers):
        own = f"blk.{i}."
        state |= {
            f"layers.{i}.attn_norm": exact(f"{own}attn_norm"),
            f"layers.{i}.ffn_norm": exact(f"{own}ffn_norm"),
            f"layers.{i}.attn_qkv.weight": exact(f"{own}attn_q", f"{own}attn_k", f"{own}attn_v"),
            f"layers.{i}.attn_output.weight": exact(f"{own}attn_output"),
            f"layers.{i}.ffn_gate_up.weight": exact(f"{own}ffn_gate", f"{own}ffn_up"),
            f"layers.{i}.ffn_down.weight": exact(f"{own}ffn_down"),
        }
    net.load_state_dict(state)


@torch.no_grad()
def round_to_q8_0(net: Net) -> None:
    """The net as its file will have it, so that what is measured and imitated is what ships."""
    for parameter in net.parameters():
        if parameter.dim() == 2:
            values, scale = q8_0(parameter.float().cpu().numpy())
            exact = values.astype(np.float32).reshape(*scale.shape, 32) * scale.astype(np.float32)[..., None]
            parameter.copy_(torch.from_numpy(exact.reshape(values.shape)))


# --- training ---------------------------------------------------------------------------------------------------------


class Run:
    """The clock, the log and the settings of this run."""

    def __init__(self, settings: Settings, args: argparse.Namespace) -> None:
        self.settings, self.device, self.out = settings, args.device, Path(args.out)
        self.minutes: float = args.minutes
        self.began = time.monotonic()
        self.dtype = torch.bfloat16 if args.device == "cuda" else torch.float32
        self.compiled: bool = args.compile
        self.log = (self.out / "loss.csv").open("w", newline="")
        self.csv = csv.writer(self.log)
        self.csv.writerow(["phase", "step", "seconds", "tokens", "loss", "learning_rate"])
        self.facts: dict[str, object] = {}
        self.sources: list[dict] = []
        if args.finished is not None:
            self._take_over(Path(args.finished) / "loss.csv")

    def _take_over(self, log: Path) -> None:
        """The earlier run's losses, and from them what can be said of its phases."""
        with log.open(newline="") as file:
            rows = list(csv.reader(file))[1:]
        self.csv.writerows(rows)
        for phase, step, seconds, tokens, loss, _ in rows:
            self.facts[phase] = {"steps": int(step) + 1, "tokens": int(tokens), "last_loss": float(loss)} | {
                "ended_after_seconds": float(seconds),
                "note": "an earlier run, of which the target was kept (--finished)",
            }

    def write_recipe(self, args: argparse.Namespace) -> None:
        """What is known so far of what was made, from what and how."""
        made = [self.out / name for name in ("target.npz", "draft.npz", "tokenizer.json")]
        recipe = {
            "made_by": "tools/train_standin.py",
            "seed": args.seed,
            "minutes": args.minutes,
            "seconds": round(time.monotonic() - self.began, 1),
            "device": torch.cuda.get_device_name() if self.device == "cuda" else "cpu",
            "torch": torch.__version__,
            "settings": dataclasses.asdict(self.settings),
            **self.facts,
            "sha256": {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in made if path.exists()},
            "sources": self.sources,
        }
        (self.out / "recipe.json").write_text(json.dumps(recipe, indent=1) + "\n")

    def say(self, text: str) -> None:
        print(f"[{time.monotonic() - self.began:6.1f} s] {text}", flush=True)

    def autocast(self) -> torch.autocast:
        return torch.autocast(self.device, torch.bfloat16, enabled=self.device == "cuda")


def train(run: Run, phase: str, net: Net, seconds: float, peak_lr: float, batches, loss_of, save) -> None:
    """Steps for so many seconds: the first ones tell how many fit, and the schedule is laid over these."""
    matrices = [p for p in net.parameters() if p.dim() == 2]
    vectors = [p for p in net.parameters() if p.dim() == 1]
    groups = [{"params": matrices, "weight_decay": 0.1}, {"params": vectors, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=peak_lr, betas=(0.9, 0.95), fused=run.device == "cuda")
    began, steps, step, probe = time.monotonic(), 1_000_000, 0, 12
    saved = began
    tokens = 0
    while step < steps:
        if step == 4:
            _wait(run)
            probe_began = time.monotonic()
        if step == 4 + probe:
            _wait(run)
            per_step = (time.monotonic() - probe_began) / probe
            steps = step + max(8, int((seconds - (time.monotonic() - began)) / per_step))
            run.say(f"{phase}: {per_step * 1e3:.0f} ms a step, {steps} steps")
        lr = peak_lr * _schedule(step, steps)
        for group in optimizer.param_groups:
            group["lr"] = lr
        row_tokens, marks = next(batches)
        with run.autocast():
            loss = loss_of(row_tokens[:, :-1], row_tokens[:, 1:].long(), marks[:, 1:])
        loss.backward()
        tokens += row_tokens.numel()
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if step % 20 == 0 or step == steps - 1:
            row = [phase, step, round(time.monotonic() - run.began, 1), tokens, round(loss.item(), 4), f"{lr:.2e}"]
            run.csv.writerow(row)
            run.log.flush()
            if step % 200 == 0 or step == steps - 1:
                run.say(
                    f"{phase} {step}/{steps}: loss {row[4]}, {tokens / (time.monotonic() - began) / 1e6:.2f} M tok/s"
                )
            if time.monotonic() - saved > 45:
                save()
                saved = time.monotonic()
            if time.monotonic() - began > 1.15 * seconds + 5:
                run.say(f"{phase}: stopped at step {step}, out of time")
                break
        step += 1
    run.facts[phase] = {"steps": step, "tokens": tokens, "seconds": round(time.monotonic() - began, 1),
                        "last_loss": round(loss.item(), 4), "peak_learning_rate": peak_lr}  # fmt: skip
    save()


def _schedule(step: int, steps: int) -> float:
    """A short rise, then a cosine to 2%. Before the number of steps is known, the rise."""
    rise = min(150, max(10, steps // 20)) if steps < 1_000_000 else 150
    if step < rise:
        return (step + 1) / rise
    return 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * (step - rise) / max(1, steps - rise)))


def _wait(run: Run) -> None:
    if run.device == "cuda":
        torch.cuda.synchronize()


def batches_of(sources: list[tuple[Rows, float]], rows: int, seed: int, device: str):
    """Endless batches, each with a share of every source, every source in a new order each time round."""
    generator = torch.Generator(device).manual_seed(seed)
    shares = [max(1, round(rows * share)) for _, share in sources]
    orders = [torch.randperm(len(source.tokens), generator=generator, device=device) for source, _ in sources]
    used = [0] * len(sources)
    while True:
        picked: list[tuple[Tensor, Tensor]] = []
        for i, (source, _) in enumerate(sources):
            if used[i] + shares[i] > len(orders[i]):
                orders[i] = torch.randperm(len(source.tokens), generator=generator, device=device)
                used[i] = 0
            chosen = orders[i][used[i] : used[i] + shares[i]]
            used[i] += shares[i]
            picked.append((source.tokens[chosen], source.marks[chosen]))
        yield torch.cat([tokens for tokens, _ in picked]), torch.cat([marks for _, marks in picked])


@torch.no_grad()
def answers(
    run: Run, net: Net, prompts: list[np.ndarray], most: int, end: int, temperature: float, seed: int
) -> list[np.ndarray]:
    """What the net says to each prompt, its end token included if it came. Prompts are best of much the same length."""
    shortest, longest = min(map(len, prompts)), max(map(len, prompts))
    total = longest + most
    given = torch.full((len(prompts), longest), -1, dtype=torch.int64)
    for row, prompt in enumerate(prompts):
        given[row, : len(prompt)] = torch.from_numpy(prompt.astype(np.int64))
    given = given.to(run.device)
    generator = torch.Generator(run.device).manual_seed(seed)
    cache = Cache(net, len(prompts), total, run.device, run.dtype)
    said = torch.full((len(prompts), total + 1), end, dtype=torch.int64, device=run.device)
    said[:, :shortest] = given[:, :shortest]
    done = torch.zeros(len(prompts), dtype=torch.bool, device=run.device)
    token = given[:, :shortest]
    for at in range(shortest, total):
        with run.autocast():
            logits = net.logits(net(token, cache)[:, -1]).float()
        if temperature > 0:
            drawn = torch.multinomial((logits / temperature).softmax(-1), 1, generator=generator)[:, 0]
        else:
            drawn = logits.argmax(-1)
        if at < longest:
            drawn = torch.where(given[:, at] >= 0, given[:, at], drawn)
            forced = given[:, at] >= 0
        else:
            forced = torch.zeros_like(done)
        drawn = torch.where(done, end, drawn)
        done |= (drawn == end) & ~forced
        said[:, at] = drawn
        token = drawn[:, None]
        if at % 32 == 0 and bool(done.all()):
            break
    texts = said.cpu().numpy().astype(np.int16)
    found: list[np.ndarray] = []
    for row, prompt in zip(texts, prompts, strict=True):
        answer = row[len(prompt) : min(len(prompt) + most, total)]
        ends = np.flatnonzero(answer == end)
        found.append(answer[: ends[0] + 1] if len(ends) else answer)
    return found


def answered(
    run: Run, net: Net, batches: list[list[np.ndarray]], seconds: float, end: int, temperature: float
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Prompts and what the net says to each, batch by batch until the time is over."""
    began = time.monotonic()
    found: list[tuple[np.ndarray, np.ndarray]] = []
    for i, batch in enumerate(batches):
        found += zip(batch, answers(run, net, batch, run.settings.answer_tokens, end, temperature, i), strict=True)
        if time.monotonic() - began > seconds and i + 1 < len(batches):
            run.say(f"answers to {i + 1} of {len(batches)} batches, then out of time")
            break
    return found


def to_learn(prompt: np.ndarray, answer: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return np.concatenate([prompt, answer]), answer_marks(len(prompt), len(prompt) + len(answer))


def good(answer: np.ndarray, end: int) -> bool:
    """Did it end by itself, at a length that answers have, and without going round in circles?"""
    return len(answer) >= 40 and int(answer[-1]) == end and not goes_round(answer)


def goes_round(answer: np.ndarray) -> bool:
    grams = Counter(tuple(answer[i : i + 8]) for i in range(len(answer) - 8))
    return bool(grams) and len(grams) < 0.85 * sum(grams.values())


def repeats(answer: np.ndarray) -> np.ndarray:
    """Which tokens end eight that were said before in this answer."""
    seen: set[tuple[int, ...]] = set()
    found = np.zeros(len(answer), np.bool_)
    words = answer.tolist()
    for i in range(8, len(words) + 1):
        gram = tuple(words[i - 8 : i])
        found[i - 1] = gram in seen
        seen.add(gram)
    return found


def to_unlearn(prompt: np.ndarray, answer: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """An answer that goes round, up to where it has done so for a while; its repeated tokens are to be unlearnt."""
    again = repeats(answer)
    enough = np.flatnonzero(again.cumsum() >= 64)
    end = int(enough[0]) + 1 if len(enough) else len(answer)
    marks = np.where(again[:end], UNLEARN, 0).astype(np.int8)
    return np.concatenate([prompt, answer[:end]]), np.concatenate([np.zeros(len(prompt), np.int8), marks])


def prompt_batches(prompts: list[np.ndarray], size: int, count: int, seed: int) -> list[list[np.ndarray]]:
    """So many batches of prompts of neighbouring lengths, drawn at random."""
    rng = random.Random(seed)
    chosen = rng.sample(prompts, min(len(prompts), size * count))
    chosen.sort(key=len)
    batches = [chosen[i : i + size] for i in range(0, len(chosen), size)]
    rng.shuffle(batches)
    return batches


# --- what came of it --------------------------------------------------------------------------------------------------


@torch.no_grad()
def agreement(run: Run, draft: Net, prompts: list[np.ndarray], said: list[np.ndarray]) -> dict[str, float]:
    """How often the draft names the target's next token, and how far it would get: each step of the engine drafts up
    to 8 tokens from the target's text so far, of which those before the first wrong one are accepted."""
    same = total = 0
    steps = {0.0: [0, 0, 0], 0.6: [0, 0, 0]}  # p_min: steps, drafted, accepted
    for prompt, answer in zip(prompts, said, strict=True):
        text = torch.from_numpy(np.concatenate([prompt, answer]).astype(np.int64))[None].to(run.device)
        with run.autocast():
            logits = draft.logits(draft(text[:, :-1])[0, len(prompt) - 1 :]).float()
        chance, guess = logits.softmax(-1).max(-1)
        right = (guess.cpu().numpy() == answer).tolist()
        sure = chance.cpu().numpy()
        same += sum(right)
        total += len(right)
        for p_min, counts in steps.items():
            at = 0
            while at < len(right):
                drafted = accepted = 0
                for i in range(at, min(at + 8, len(right))):
                    if sure[i] < p_min:
                        break
                    drafted += 1
                    if not right[i]:
                        break
                    accepted += 1
                counts[0] += 1
                counts[1] += drafted
                counts[2] += accepted
                at += accepted + 1
    found: dict[str, float] = {"positions": total, "greedy_agreement": round(same / max(1, total), 4)}
    for p_min, (count, drafted, accepted) in steps.items():
        found[f"mean_accepted_n_max_8_p_min_{p_min:g}"] = round(accepted / max(1, count), 3)
        found[f"acceptance_n_max_8_p_min_{p_min:g}"] = round(accepted / max(1, drafted), 4)
    return found


@torch.no_grad()
def typical_final_rms(run: Run, net: Net, rows: Rows) -> float:
    """The median root mean square before the last norm: growth needs it to keep unused words from winning."""
    with run.autocast():
        x = net(rows.tokens[:8, :-1], normed=False).float()
    return float(x.pow(2).mean(-1).sqrt().median())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", required=True, help="folder for what is made")
    parser.add_argument("--minutes", type=float, default=5.0, help="training time; reading the source comes on top")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--processes", type=int, default=min(16, os.cpu_count() or 1))
    parser.add_argument("--compile", action="store_true", help="torch.compile the networks' training")
    parser.add_argument(
        "--finished", help="folder with target.npz and tokenizer.json of an earlier run: train the draft alone"
    )
    parser.add_argument("--smoke", action="store_true", help="tiny networks, little source, seconds of training")
    parser.add_argument("--override", default="{}", help='JSON of settings, such as {"batch_rows": 16}')
    args = parser.parse_args()
    settings = SMOKE if args.smoke else FULL
    changes = json.loads(args.override)
    for role in ("target", "draft"):
        if role in changes:
            changes[role] = Shape(**changes[role])
    settings = dataclasses.replace(settings, **changes)
    if args.smoke and args.minutes == 5.0:
        args.minutes = 0.25
    Path(args.out).mkdir(parents=True, exist_ok=True)
    torch.manual_seed(args.seed)
    torch.set_float32_matmul_precision("high")
    make(Run(settings, args), args)


def collected(run: Run, args: argparse.Namespace, pool) -> tuple[list[str], list[tuple[str, str]]]:
    """Texts of files and chats, each once, and the packages that they are from."""
    settings = run.settings
    listed = list(packages())
    owner = {path: i for i, (_, _, _, files) in enumerate(listed) for path in files}
    paths = sorted(owner)
    random.Random(args.seed).shuffle(paths)
    budget = (settings.raw_mb + settings.chat_mb) * 1e6 * 1.6
    sizes = [path.stat().st_size for path in paths]
    total = 0
    for i, size in enumerate(sizes):
        total += size
        if total > budget:
            paths = paths[: i + 1]
            break
    run.say(f"{len(listed)} packages under free licences; reading {len(paths)} of {len(owner)} files")
    texts: list[str] = []
    chats: dict[bytes, tuple[str, str]] = {}
    used: Counter[int] = Counter()
    raw_bytes = chat_bytes = 0
    for path, (text, made) in zip(paths, pool.imap(read_file, paths, chunksize=16), strict=True):
        if not text:
            continue
        used[owner[path]] += 1
        if raw_bytes < settings.raw_mb * 1e6:
            texts.append(text)
            raw_bytes += len(text)
        for prompt, answer in made:
            key = hashlib.blake2b((prompt[:40] + answer).encode(), digest_size=12).digest()
            if chat_bytes < settings.chat_mb * 1e6 and key not in chats:
                chats[key] = (prompt, answer)
                chat_bytes += len(prompt) + len(answer)
    run.sources = [
        {"package": name, "version": version, "licence": licence, "files": used[i]}
        for i, (name, version, licence, _) in enumerate(listed)
        if used[i]
    ]
    run.say(f"{raw_bytes / 1e6:.0f} MB of files, {len(chats)} chats of {chat_bytes / 1e6:.0f} MB")
    run.facts["data"] = {
        "files": sum(used.values()),
        "file_bytes": raw_bytes,
        "chats": len(chats),
        "chat_bytes": chat_bytes,
    }
    return texts, list(chats.values())


def encoded(pool, tokenizer_json: str, texts: list[str]) -> list[np.ndarray]:
    jobs = [(tokenizer_json, texts[i : i + 500]) for i in range(0, len(texts), 500)]
    return [tokens for part in pool.imap(encode_texts, jobs) for tokens in part]


def make(run: Run, args: argparse.Namespace) -> None:
    settings, device = run.settings, run.device
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    with multiprocessing.get_context("fork").Pool(args.processes) as pool:
        texts, chats = collected(run, args, pool)
        rng = random.Random(args.seed)
        rng.shuffle(chats)
        builtin = [turn["value"] for entry in json.loads(BUILTIN.read_text("utf-8")) for turn in entry["conversations"]]
        if args.finished is None:
            sample = rng.sample(texts, min(len(texts), int(settings.bpe_mb * 1e6 / 2 / 8000)))
            sample += [text for chat in chats[: int(settings.bpe_mb * 1e6 / 2 / 1100)] for text in chat] + builtin
            os.environ["TOKENIZERS_PARALLELISM"] = "true"
            tokenizer = trained_tokenizer(sample, settings.target.vocab)
            os.environ["TOKENIZERS_PARALLELISM"] = "false"
        else:
            from tokenizers import Tokenizer

            tokenizer = Tokenizer.from_file(str(Path(args.finished) / "tokenizer.json"))
        tokenizer.save(str(run.out / "tokenizer.json"))
        run.say(f"tokenizer of {tokenizer.get_vocab_size()}")
        words = tokenizer.to_str()
        end, pad = tokenizer.token_to_id(IM_END), tokenizer.token_to_id(END_OF_TEXT)
        raw = encoded(pool, words, [text + END_OF_TEXT for text in texts])
        prompts = encoded(pool, words, [PROMPT.format(prompt) for prompt, _ in chats])
        replies = encoded(pool, words, [answer + IM_END for _, answer in chats])
        asked = [
            turns[0]["value"] for turns in (entry["conversations"] for entry in json.loads(BUILTIN.read_text("utf-8")))
        ]
        tests = encoded(pool, words, [PROMPT.format(prompt) for prompt in asked])
    row = settings.row_tokens
    held_out = max(16, len(chats) // 200)
    documents = [
        (np.concatenate([prompt, reply]), answer_marks(len(prompt), len(prompt) + len(reply)))
        for prompt, reply in zip(prompts, replies, strict=True)
        if len(prompt) + len(reply) <= row
    ]
    chat_rows = packed(documents[held_out:], row, device, pad)
    test_rows = packed(documents[:held_out], row, device, pad)
    pieces = [text[i : i + row + 1] for text in raw for i in range(0, len(text), row + 1)]
    pieces = [(piece, answer_marks(0, len(piece))) for piece in pieces]
    raw_rows = packed(rng.sample(pieces, len(pieces)), row, device, pad)
    usable = [p for p in prompts[held_out:] if 12 <= len(p) <= row // 2]
    run.say(
        f"rows of {row} tokens: {len(chat_rows.tokens)} of chats, {len(raw_rows.tokens)} of files; "
        f"{len(usable)} prompts"
    )
    run.facts["rows"] = {"tokens": row, "chats": len(chat_rows.tokens), "files": len(raw_rows.tokens)}

    if device == "cuda":  # not before: the processes above were forked
        run.say(f"{torch.cuda.get_device_name()}, torch {torch.__version__}")
    context = row + settings.answer_tokens + 2048
    target = Net(settings.target, settings.rope_base, settings.rms_eps, context).to(device)
    draft = Net(settings.draft, settings.rope_base, settings.rms_eps, context).to(device)
    parameters = {
        name: sum(p.numel() for p in net.parameters()) for name, net in (("target", target), ("draft", draft))
    }
    run.say(f"parameters: {parameters}")
    run.facts["parameters"] = parameters
    budget_s = args.minutes * 60

    def ready(net: Net):
        return torch.compile(net) if run.compiled else net

    def save_target() -> None:
        write_weights(run.out / "target.npz", target, typical_final_rms(run, target, test_rows))
        run.write_recipe(args)

    def save_draft() -> None:
        write_weights(run.out / "draft.npz", draft, typical_final_rms(run, draft, test_rows))
        run.write_recipe(args)

    net = ready(target)

    def next_token_loss(tokens: Tensor, wanted: Tensor, marks: Tensor) -> Tensor:
        learn = marks == LEARN
        return F.cross_entropy(target.logits(net(tokens)[learn]).float(), wanted[learn])

    def unlearning_loss(tokens: Tensor, wanted: Tensor, marks: Tensor) -> Tensor:
        """As before, and for tokens to be unlearnt the more, the likelier they are (Welleck et al. 2020)."""
        which = marks > 0
        losses = F.cross_entropy(target.logits(net(tokens)[which]).float(), wanted[which], reduction="none")
        unlearn = marks[which] == UNLEARN
        bad = -torch.log1p(-(-losses[unlearn]).exp().clamp(max=1 - 1e-4))
        return losses[~unlearn].sum() / (~unlearn).sum().clamp(min=1) + bad.sum() / unlearn.sum().clamp(min=1)

    def target_trained() -> None:
        mixed = batches_of([(chat_rows, 0.65), (raw_rows, 0.35)], settings.batch_rows, args.seed, device)
        seconds = settings.target_share * budget_s
        train(run, "target", target, seconds, settings.target_lr, mixed, next_token_loss, save_target)
        run.say("the target answers prompts of its training, and learns from those of its answers that are good")
        batches = prompt_batches(usable, settings.answers, max(1, settings.answer_batches // 3), args.seed + 1)
        tried = answered(run, target, batches, settings.answers_share * budget_s / 2, end, 0.6)
        own = [to_learn(prompt, answer) for prompt, answer in tried if good(answer, end)]
        run.say(f"{len(own)} of {len(tried)} answers are good")
        run.facts["own_answers"] = {"tried": len(tried), "good": len(own), "temperature": 0.6}
        if len(own) > settings.batch_rows:
            own_rows = packed(own, row, device, pad)
            mixed = batches_of([(own_rows, 0.5), (chat_rows, 0.5)], settings.batch_rows, args.seed + 2, device)
            seconds = settings.own_share * budget_s
            train(run, "target, own answers", target, seconds, settings.own_lr, mixed, next_token_loss, save_target)

    def going_round_unlearnt(seconds: float) -> None:
        """Greedy answers of small networks end in circles. Some rounds: answer, unlearn the circles, keep the good."""
        kept: list[tuple[np.ndarray, np.ndarray]] = []
        rounds: list[dict] = []
        for turn in range(settings.unlearn_rounds):
            batches = prompt_batches(usable, settings.answers, 2, args.seed + 10 + turn)
            tried = answered(run, target, batches, seconds / settings.unlearn_rounds / 2, end, 0.0)
            round_about = [to_unlearn(prompt, answer) for prompt, answer in tried if goes_round(answer)]
            fine = [to_learn(prompt, answer) for prompt, answer in tried if good(answer, end)]
            kept += fine
            rounds.append({"tried": len(tried), "went_round": len(round_about), "good": len(fine)})
            run.say(f"greedy answers, round {turn + 1}: {rounds[-1]}")
            if not round_about:
                break
            sources = [(packed(round_about, row, device, pad), 0.35), (chat_rows, 0.4)]
            if kept:
                sources.append((packed(kept, row, device, pad), 0.25))
            mixed = batches_of(sources, settings.batch_rows, args.seed + 20 + turn, device)
            name = f"target, unlearning {turn + 1}"
            spent = seconds / settings.unlearn_rounds / 2
            train(run, name, target, spent, settings.unlearn_lr, mixed, unlearning_loss, save_target)
        run.facts["greedy_answers"] = rounds

    alone = args.finished is not None
    if alone:
        read_weights(Path(args.finished) / "target.npz", target)
    else:
        target_trained()
    going_round_unlearnt((0.33 if alone else settings.unlearn_share) * budget_s)
    round_to_q8_0(target)

    batches = prompt_batches(usable, settings.answers, settings.answer_batches, args.seed + 3)
    said = answered(run, target, batches, (0.15 if alone else settings.answers_share) * budget_s, end, 0.0)
    facts = {"count": len(said), "ended": sum(int(answer[-1]) == end for _, answer in said)}
    facts |= {"went_round": sum(goes_round(answer) for _, answer in said), "tokens": sum(len(a) for _, a in said)}
    run.say(f"the target's answers for the draft: {facts}")
    run.facts["answers_for_the_draft"] = facts
    said_rows = packed([to_learn(prompt, answer) for prompt, answer in said], row, device, pad)

    student = ready(draft)

    def imitation_loss(tokens: Tensor, wanted: Tensor, marks: Tensor) -> Tensor:
        """Half: the target's whole distribution (Kullback-Leibler); half: its likeliest token."""
        learn = marks == LEARN
        with torch.no_grad():
            teacher = target.logits(target(tokens)[learn]).float()
        mine = draft.logits(student(tokens)[learn]).float().log_softmax(-1)
        theirs = teacher.log_softmax(-1)
        whole = (theirs.exp() * (theirs - mine)).sum(-1).mean()
        return 0.5 * whole + 0.5 * F.nll_loss(mine, teacher.argmax(-1))

    mixed = batches_of(
        [(said_rows, 0.6), (chat_rows, 0.3), (raw_rows, 0.1)], settings.batch_rows, args.seed + 4, device
    )
    seconds = budget_s * (0.5 if alone else settings.draft_share)
    train(run, "draft", draft, seconds, settings.draft_lr, mixed, imitation_loss, save_draft)
    round_to_q8_0(draft)
    report(run, args, target, draft, tests, asked, tokenizer, end)


def report(run, args, target, draft, tests, asked, tokenizer, end) -> None:
    """The built-in set's prompts, which neither net has seen: how the pair answers them."""
    short = [(t, a) for t, a in zip(tests, asked, strict=True) if len(t) <= run.settings.row_tokens]
    tests, asked = [t for t, _ in short], [a for _, a in short]
    said = answers(run, target, tests, 512 if run.device == "cuda" else 48, end, 0.0, 0)
    found = agreement(run, draft, tests, said)
    lengths = sorted(len(answer) for answer in said)
    found |= {
        "prompts": len(tests),
        "ended_by_themselves": sum(int(answer[-1]) == end for answer in said),
        "went_round_in_circles": sum(goes_round(answer) for answer in said),
        "answer_tokens_p10_p50_p90": [lengths[int(len(lengths) * q)] for q in (0.1, 0.5, 0.9)],
    }
    run.facts["held_out_prompts"] = found
    run.say(json.dumps(found))
    with (run.out / "samples.md").open("w") as file:
        for prompt, answer in list(zip(asked, said, strict=True))[:24]:
            text = tokenizer.decode(answer.tolist(), skip_special_tokens=False)
            file.write(f"### {prompt.splitlines()[0][:200]}\n\n{text}\n\n")
    run.write_recipe(args)
    run.say("done")


if __name__ == "__main__":
    main()
