"""What should a Qwen2 or Llama network say, and what does the engine say? For the tests of stand-ins."""

import json
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gguf import GGUFReader
from gguf.quants import dequantize

from inferometer.standin.pairs import write_trained
from inferometer.standin.shapes import StandinShape
from inferometer.standin.trained_weights import Small, SmallShape
from inferometer.standin.vocabulary import learnt_vocabulary

SMALL = SmallShape(layers=2, hidden=64, ffn=96, heads=4, kv_heads=1, vocab=512, head_dim=16)


class Network:
    """A forward pass in numpy over a GGUF file, from the papers' formulas: whole texts, no cache, all in F32."""

    def __init__(self, path) -> None:
        reader = GGUFReader(path)
        fields = {name: field.contents() for name, field in reader.fields.items()}
        self.architecture = fields["general.architecture"]
        own = {name.split(".", 1)[1]: value for name, value in fields.items() if name.startswith(self.architecture)}
        self.layers, self.heads = own["block_count"], own["attention.head_count"]
        self.kv_heads, self.eps = own["attention.head_count_kv"], own["attention.layer_norm_rms_epsilon"]
        self.rope_base = own["rope.freq_base"]
        self.tokens = fields["tokenizer.ggml.tokens"]
        self.fields = fields
        self.tensors = {
            tensor.name: dequantize(tensor.data, tensor.tensor_type).astype(np.float32) for tensor in reader.tensors
        }

    def logits(self, ids: list[int]) -> np.ndarray:
        """One row for each token of the text: what may come after it."""
        x = self._normed(self.before_the_last_norm(ids), "output_norm.weight")
        return x @ self.tensors.get("output.weight", self.tensors["token_embd.weight"]).T

    def before_the_last_norm(self, ids: list[int]) -> np.ndarray:
        own = self.tensors
        x = own["token_embd.weight"][ids]
        for i in range(self.layers):
            x = x + self._attention(i, self._normed(x, f"blk.{i}.attn_norm.weight"))
            inner = self._normed(x, f"blk.{i}.ffn_norm.weight")
            gate = inner @ own[f"blk.{i}.ffn_gate.weight"].T
            up = inner @ own[f"blk.{i}.ffn_up.weight"].T
            x = x + (gate / (1 + np.exp(-gate)) * up) @ own[f"blk.{i}.ffn_down.weight"].T
        return x

    def greedy(self, ids: list[int], count: int) -> list[int]:
        said = list(ids)
        for _ in range(count):
            said.append(int(self.logits(said)[-1].argmax()))
        return said[len(ids) :]

    def _normed(self, x, name):
        return x / np.sqrt((x * x).mean(-1, keepdims=True) + self.eps) * self.tensors[name]

    def _attention(self, i, x):
        def projected(part, heads):
            y = x @ self.tensors[f"blk.{i}.attn_{part}.weight"].T + self.tensors.get(f"blk.{i}.attn_{part}.bias", 0)
            return y.reshape(len(x), heads, -1).swapaxes(0, 1)

        q, k, v = projected("q", self.heads), projected("k", self.kv_heads), projected("v", self.kv_heads)
        q, k = self._turned(q), self._turned(k)
        k, v = (np.repeat(each, self.heads // self.kv_heads, axis=0) for each in (k, v))
        scores = q @ k.swapaxes(1, 2) / np.sqrt(q.shape[-1])
        scores = np.where(np.tri(len(x), dtype=bool), scores, -np.inf)
        weights = np.exp(scores - scores.max(-1, keepdims=True))
        seen = (weights / weights.sum(-1, keepdims=True)) @ v
        return seen.swapaxes(0, 1).reshape(len(x), -1) @ self.tensors[f"blk.{i}.attn_output.weight"].T

    def _turned(self, x):
        """RoPE: Qwen2 turns (i, i + half) together, files of Llama (2i, 2i + 1)."""
        size = x.shape[-1]
        angles = np.outer(np.arange(x.shape[1]), self.rope_base ** (-2 * np.arange(size // 2) / size))
        cos, sin = np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32)
        if self.architecture == "llama":
            left, right = x[..., 0::2], x[..., 1::2]
            return np.stack([left * cos - right * sin, right * cos + left * sin], -1).reshape(x.shape)
        left, right = np.split(x, 2, -1)
        return np.concatenate([left * cos - right * sin, right * cos + left * sin], -1)


@pytest.fixture(scope="session")
def network() -> type[Network]:
    return Network


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> Small:
    """A network of random weights, loud enough for its text to hang on what was said and to be varied."""
    rng = np.random.default_rng(7)
    shape = SMALL
    widths = {"attn_q": shape.heads * 16, "attn_k": 16, "attn_v": 16, "ffn_gate": shape.ffn, "ffn_up": shape.ffn}

    def drawn(rows: int, columns: int, gain: float) -> np.ndarray:
        return (rng.normal(0, gain / np.sqrt(columns), (rows, columns))).astype(np.float32)

    tensors = {"token_embd.weight": drawn(shape.vocab, 64, 8), "output_norm.weight": rng.uniform(0.5, 1.5, 64)}
    for i in range(shape.layers):
        tensors |= {f"blk.{i}.{name}.weight": drawn(rows, 64, 2) for name, rows in widths.items()}
        tensors |= {f"blk.{i}.{name}.weight": rng.uniform(0.5, 1.5, 64) for name in ("attn_norm", "ffn_norm")}
        tensors[f"blk.{i}.attn_output.weight"] = drawn(64, 64, 8)
        tensors[f"blk.{i}.ffn_down.weight"] = drawn(64, 96, 8)
    tensors = {name: np.asarray(values, np.float32) for name, values in tensors.items()}
    made = Small(shape, 1e4, 1e-5, 1.0, tensors, learnt_vocabulary(shape.vocab))
    path = tmp_path_factory.mktemp("small") / "small.gguf"
    write_trained(path, as_it_is(made), "F32", made, like="a test")
    rms = np.sqrt(np.square(Network(path).before_the_last_norm(list(range(100)))).mean(-1))
    return Small(shape, 1e4, 1e-5, float(np.median(rms)), tensors, made.words)


def as_it_is(small: Small) -> StandinShape:
    """The shape that the small network has itself."""
    inner = small.shape
    return StandinShape(
        layers=inner.layers,
        hidden=inner.hidden,
        ffn=inner.ffn,
        heads=inner.heads,
        kv_heads=inner.kv_heads,
        vocab=inner.vocab,
        tied=True,
    )


@pytest.fixture(scope="session")
def original(small: Small, tmp_path_factory: pytest.TempPathFactory) -> Network:
    """The small network itself, not grown."""
    path = tmp_path_factory.mktemp("original") / "original.gguf"
    write_trained(path, as_it_is(small), "F32", small, like="a test")
    return Network(path)


ASK = """
    import json, os, sys, urllib.request
    import xllamacpp
    target, draft, path, body = sys.argv[1], sys.argv[2], sys.argv[3], sys.argv[4]
    params = xllamacpp.CommonParams()
    params.model.path, params.n_ctx, params.n_parallel, params.port = target, 1024, 1, 0
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
    if draft:
        params.speculative.types = [xllamacpp.common_speculative_type.COMMON_SPECULATIVE_TYPE_DRAFT_SIMPLE]
        params.speculative.draft.mparams.path, params.speculative.draft.n_max = draft, 4
    server = xllamacpp.Server(params)
    url = server.listening_address + path
    request = urllib.request.Request(url, body.encode(), {"Content-Type": "application/json"})
    answer = urllib.request.urlopen(request, timeout=60).read().decode()
    print()
    print(json.dumps(answer))
    sys.stdout.flush()
    os._exit(0)
"""


def _ask(target: Path, draft: Path | None, path: str, body: dict[str, Any]) -> str:
    command = [sys.executable, "-c", textwrap.dedent(ASK), str(target), str(draft or ""), path, json.dumps(body)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=90)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])


def chat(target: Path, draft: Path | None = None, max_tokens: int = 64) -> dict[str, Any]:
    """What the engine streams to a chat: the texts of its chunks, why it ended, its timings."""
    message = {"role": "user", "content": "Write a function that reverses a linked list in place."}
    body = {"messages": [message], "max_tokens": max_tokens, "temperature": 0, "stream": True}
    said: dict[str, Any] = {"texts": [], "finish": None, "timings": None}
    for line in _ask(target, draft, "/v1/chat/completions", body).splitlines():
        if line.startswith("data: {"):
            event = json.loads(line[6:])
            for choice in event["choices"]:
                if text := choice["delta"].get("content"):
                    said["texts"].append(text)
                said["finish"] = choice["finish_reason"]
            said["timings"] = event.get("timings")
    return said


def completion(target: Path, ids: list[int], count: int, draft: Path | None = None) -> list[int]:
    """The tokens that the engine says after these, at temperature 0."""
    body = {"prompt": ids, "n_predict": count, "temperature": 0, "return_tokens": True, "cache_prompt": False}
    return json.loads(_ask(target, draft, "/completion", body))["tokens"]


@pytest.fixture(scope="session")
def engine_chat():
    return chat


@pytest.fixture(scope="session")
def engine_tokens():
    return completion
