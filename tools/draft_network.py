"""The network that is trained: Qwen2 without biases, and its cache for answering."""

import dataclasses
import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn


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
        """The vectors that give logits when multiplied with the embedding; `normed=False`: before the last norm."""
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
    """Keys and values of `rows` texts, each `used` tokens long."""

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
