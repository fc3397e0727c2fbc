#!/usr/bin/env python3
"""A draft for SmolLM2-135M-Instruct: a small llama with its tokenizer, distilled from its greedy answers.

    python3 tools/train_draft.py --model SmolLM2.gguf --seconds 560 --out OUT PROMPTS...   # one H100 or H200
    python3 tools/train_draft.py --model SmolLM2.gguf --smoke --device cpu --out OUT       # does it run at all

Needs torch, tokenizers, gguf and numpy; nothing is downloaded. --model may name several pieces of the file, in order.
PROMPTS are files of HumanEval's, MBPP's or Spec-Bench's form, or folders of them; more prompts are made of the Python
source on this machine. In order: SmolLM2 answers as many prompts as fit into the time, greedily, and its likeliest
tokens at each place are kept; the draft learns them, with its matrices rounded as in its file; both answer the built-in
prompts, which are not trained on. OUT gets draft.gguf, recipe.json, loss.csv and samples.md; draft.gguf is written
every 45 seconds, so that a run which is cut off leaves one.
"""

import argparse
import csv
import dataclasses
import gzip
import hashlib
import json
import multiprocessing
import os
import random
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from draft_answers import agreement, answers, goes_round, prompt_batches, repeats
from draft_network import Net, Shape, tensors_of
from draft_source import packages, read_file
from draft_texts import BUILTIN, encoded
from gguf import GGMLQuantizationType as Kind
from gguf import GGUFReader, GGUFValueType, GGUFWriter, LlamaFileType, dequantize, quantize
from torch import Tensor
from torch.func import functional_call

END_OF_TEXT, IM_END = 0, 2
PROMPT = (
    "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n"
    "<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n"
)
LONGEST_PROMPT = 400
EMBEDDING_KIND, MATRIX_KIND = Kind.Q4_0, Kind.Q5_0
"""Kinds of the file. The embedding is most of it; training in these kinds costs less than a narrower network would."""
LEVELS = {Kind.Q4_0: 8, Kind.Q5_0: 16}


@dataclasses.dataclass(frozen=True)
class Settings:
    """All that decides a run."""

    draft: Shape
    batch_tokens: int = 24_576
    learning_rate: float = 2e-3
    answers: int = 2048  # at once
    answer_tokens: int = 384
    likeliest: int = 16  # tokens of the teacher that are learnt at each place
    answer_share: float = 0.5  # of the time for answers and training
    report_seconds: float = 40
    source_files: int = 6_000
    test_prompts: int = 72


FULL = Settings(draft=Shape(layers=7, hidden=320, ffn=768, heads=5, kv_heads=1, vocab=49152))
"""One key-value head: the draft grows into shapes with two."""
SMOKE = Settings(
    draft=Shape(layers=2, hidden=128, ffn=256, heads=2, kv_heads=1, vocab=49152),
    batch_tokens=256,
    answers=4,
    answer_tokens=8,
    report_seconds=10,
    source_files=10,
    test_prompts=2,
)


class Run:
    """The clock, the log and the settings of this run."""

    def __init__(self, settings: Settings, args: argparse.Namespace) -> None:
        self.settings, self.device, self.out, self.length = settings, args.device, args.out, args.seconds
        self.began = time.monotonic() - float(Path("/proc/uptime").read_text().split()[0]) + started_s()
        self.dtype = torch.bfloat16 if args.device == "cuda" else torch.float32
        self.log = (args.out / "loss.csv").open("w", newline="")
        self.csv = csv.writer(self.log)
        self.csv.writerow(["step", "seconds", "tokens", "loss", "learning_rate"])
        self.facts: dict[str, object] = {}

    def seconds(self) -> float:
        return time.monotonic() - self.began

    def left(self) -> float:
        """Seconds until the report must begin."""
        return self.length - self.settings.report_seconds - self.seconds()

    def say(self, text: str) -> None:
        print(f"[{self.seconds():6.1f} s] {text}", flush=True)

    def autocast(self) -> torch.autocast:
        return torch.autocast(self.device, torch.bfloat16, enabled=self.device == "cuda")


def started_s() -> float:
    """When this process started, in seconds since the machine did: importing torch takes part of the time."""
    ticks = Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19]
    return int(ticks) / os.sysconf("SC_CLK_TCK")


# --- the teacher ------------------------------------------------------------------------------------------------------


def whole_file(pieces: list[Path], out: Path) -> Path:
    if len(pieces) == 1:
        return pieces[0]
    joined = out / "teacher.gguf"
    with joined.open("wb") as file:
        for piece in pieces:
            file.write(piece.read_bytes())
    return joined


def teacher_of(reader: GGUFReader, context: int) -> Net:
    """SmolLM2 as a Net. llama.cpp stores q and k for RoPE on neighbours; Net turns halves."""
    held = {tensor.name: dequantize(tensor.data, tensor.tensor_type) for tensor in reader.tensors}

    def number(name: str) -> float:
        return reader.fields[f"llama.{name}"].contents()

    shape = Shape(
        layers=number("block_count"),
        hidden=number("embedding_length"),
        ffn=number("feed_forward_length"),
        heads=number("attention.head_count"),
        kv_heads=number("attention.head_count_kv"),
        vocab=number("vocab_size"),
    )
    net = Net(shape, number("rope.freq_base"), number("attention.layer_norm_rms_epsilon"), context)
    state = {"embed": held["token_embd.weight"], "output_norm": held["output_norm.weight"]}
    for i in range(shape.layers):
        own = {name: held[f"blk.{i}.{name}.weight"] for name in (
            "attn_norm", "ffn_norm", "attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down"
        )}  # fmt: skip
        q, k = as_halves(own["attn_q"], shape.heads), as_halves(own["attn_k"], shape.kv_heads)
        state |= {
            f"layers.{i}.attn_norm": own["attn_norm"],
            f"layers.{i}.ffn_norm": own["ffn_norm"],
            f"layers.{i}.attn_qkv.weight": np.concatenate([q, k, own["attn_v"]]),
            f"layers.{i}.attn_output.weight": own["attn_output"],
            f"layers.{i}.ffn_gate_up.weight": np.concatenate([own["ffn_gate"], own["ffn_up"]]),
            f"layers.{i}.ffn_down.weight": own["ffn_down"],
        }
    net.load_state_dict({name: torch.from_numpy(np.array(value, np.float32)) for name, value in state.items()})
    return net


def as_halves(matrix: np.ndarray, heads: int) -> np.ndarray:
    return matrix.reshape(heads, -1, 2, matrix.shape[1]).swapaxes(1, 2).reshape(matrix.shape)


def as_neighbours(matrix: np.ndarray, heads: int) -> np.ndarray:
    return matrix.reshape(heads, 2, -1, matrix.shape[1]).swapaxes(1, 2).reshape(matrix.shape)


def tokenizer_of(reader: GGUFReader) -> str:
    """The GGUF file's tokenizer as a tokenizer.json: byte-level BPE with single digits ("smollm" in llama.cpp)."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    tokens = reader.fields["tokenizer.ggml.tokens"].contents()
    kinds = reader.fields["tokenizer.ggml.token_type"].contents()
    merges = [tuple(pair.split(" ")) for pair in reader.fields["tokenizer.ggml.merges"].contents()]
    tokenizer = Tokenizer(models.BPE({token: i for i, token in enumerate(tokens)}, merges))
    cuts = [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(cuts)
    tokenizer.decoder = decoders.ByteLevel()
    control = [token for token, kind in zip(tokens, kinds, strict=True) if kind == 3]
    tokenizer.add_special_tokens([AddedToken(token, special=True) for token in control])
    return tokenizer.to_str()


# --- prompts ----------------------------------------------------------------------------------------------------------


LANGUAGES = ("C", "C++", "Rust", "Go", "JavaScript", "TypeScript", "Java", "SQL", "Bash")


def told_prompts(paths: list[Path]) -> Iterator[str]:
    """Prompts of data sets: what is only code is asked for in several ways."""
    ask = (
        "Complete this function:\n\n{}",
        "Finish the following code.\n\n```\n{}\n```",
        "Explain what this function should do:\n\n{}",
        "Write this function, with tests:\n\n{}",
    )
    files = [file for path in paths for file in ([path] if path.is_file() else sorted(path.rglob("*.jsonl*")))]
    for file in files:
        text = (gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes()).decode()
        for line in text.splitlines():
            entry = json.loads(line)
            yield from entry.get("turns", ())[:1]
            if prompt := entry.get("prompt", "").strip():
                yield from (each.format(prompt) for each in ask)
                description = re.search(r'"""\s*(Write a function.+?)\s*(?:>>>|""")', prompt, re.DOTALL)
                if description:
                    task = description[1].splitlines()[0]
                    yield task
                    yield from (task.replace("Write a function", f"Write a {name} function") for name in LANGUAGES)


def source_prompts(pool, files: int, seed: int) -> list[str]:
    paths = sorted(path for _, _, _, found in packages() for path in found)
    random.Random(seed).shuffle(paths)
    made = pool.imap(read_file, paths[:files], chunksize=16)
    return [prompt for _, chats in made for prompt, _ in chats]


def prompts_of(pool, settings: Settings, words: str, args: argparse.Namespace) -> list[np.ndarray]:
    """Every prompt once, without the built-in ones, that is not too long."""
    texts = dict.fromkeys([*told_prompts(args.prompts), *source_prompts(pool, settings.source_files, args.seed)])
    for held_out in builtin_prompts():
        texts.pop(held_out, None)
    tokens = encoded(pool, words, [PROMPT.format(text) for text in texts])
    return [each for each in tokens if len(each) <= LONGEST_PROMPT]


def builtin_prompts() -> list[str]:
    return [entry["conversations"][0]["value"] for entry in json.loads(BUILTIN.read_text("utf-8"))]


# --- training ---------------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Answered:
    """A prompt and the teacher's answer. `ids`, `chances`: the likeliest tokens at each place of the answer."""

    prompt: np.ndarray
    answer: np.ndarray
    ids: np.ndarray
    chances: np.ndarray

    @property
    def length(self) -> int:
        return len(self.prompt) + len(self.answer)


class Likeliest:
    """The teacher's likeliest tokens and their chances at each position from `first`, for all rows."""

    def __init__(self, first: int, positions: int, rows: int, settings: Settings, device: str) -> None:
        size = (positions, rows, settings.likeliest)
        self.first = first
        self.ids = torch.zeros(size, dtype=torch.int32, device=device)
        self.chances = torch.zeros(size, dtype=torch.float16, device=device)

    def see(self, position: int, logits: Tensor) -> None:
        values, ids = logits.topk(self.ids.shape[2])
        self.ids[position - self.first] = ids.int()
        self.chances[position - self.first] = values.softmax(-1).half()


def answered_for(run: Run, teacher: Net, prompts: list[np.ndarray], seed: int) -> list[Answered]:
    """Prompts with the teacher's greedy answers, batch by batch until the time for them is over."""
    settings = run.settings
    found: list[Answered] = []
    end = run.seconds() + settings.answer_share * run.left()
    longest_batch = 0.0
    waiting = prompt_batches(prompts, settings.answers, len(prompts) // settings.answers + 1, seed)[::-1]
    while waiting and (not found or run.seconds() + longest_batch < end):
        batch, began = waiting.pop(), run.seconds()
        try:
            found += answered_at_once(run, teacher, batch)
        except torch.OutOfMemoryError:
            run.say(f"{len(batch)} answers at once are too many for the memory")
            waiting = [half for whole in [*waiting, batch] for half in (whole[::2], whole[1::2]) if half]
            torch.cuda.empty_cache()
            continue
        longest_batch = max(longest_batch, run.seconds() - began)
        run.say(f"{len(found)} answers, {sum(len(one.answer) for one in found)} tokens")
    return found


def answered_at_once(run: Run, teacher: Net, batch: list[np.ndarray]) -> list[Answered]:
    first = min(map(len, batch))
    positions = max(map(len, batch)) - first + run.settings.answer_tokens
    seen = Likeliest(first, positions, len(batch), run.settings, run.device)
    said = answers(run, teacher, batch, run.settings.answer_tokens, IM_END, 0.0, 0, seen.see)
    ids, chances = seen.ids.cpu().numpy(), seen.chances.cpu().numpy()
    found: list[Answered] = []
    for row, (prompt, whole) in enumerate(zip(batch, said, strict=True)):
        answer = cut_where_it_goes_round(whole)
        at = slice(len(prompt) - first, len(prompt) - first + len(answer))
        found.append(Answered(prompt, answer, ids[at, row], chances[at, row]))
    return found


def cut_where_it_goes_round(answer: np.ndarray) -> np.ndarray:
    """Without what follows 64 repeated tokens: a draft learns to repeat soon enough."""
    enough = np.flatnonzero(repeats(answer).cumsum() >= 64)
    return answer[: int(enough[0]) + 1] if len(enough) else answer


@dataclasses.dataclass(frozen=True)
class Batch:
    """Rows of one chat each. `learn`: the places before each token of an answer, to which `ids`, `chances` belong."""

    tokens: Tensor
    learn: Tensor
    ids: Tensor
    chances: Tensor


def batches_by_length(pairs: list[Answered], batch_tokens: int, seed: int, device: str) -> Iterator[Batch]:
    """Endless batches of rows of similar lengths."""
    rng = random.Random(seed)
    while True:
        order = sorted(pairs, key=lambda pair: pair.length + rng.random() * 40)
        batches: list[list[Answered]] = [[]]
        for pair in order:
            if batches[-1] and pair.length * (len(batches[-1]) + 1) > batch_tokens:
                batches.append([])
            batches[-1].append(pair)
        rng.shuffle(batches)
        for batch in batches:
            yield rows_of(batch, device)


def rows_of(pairs: list[Answered], device: str) -> Batch:
    width = -(-max(pair.length for pair in pairs) // 32) * 32
    tokens = np.full((len(pairs), width), END_OF_TEXT, np.int32)
    learn = np.zeros((len(pairs), width), np.bool_)
    for row, pair in enumerate(pairs):
        tokens[row, : pair.length] = np.concatenate([pair.prompt, pair.answer])
        learn[row, len(pair.prompt) - 1 : pair.length - 1] = True
    ids, chances = (np.concatenate([getattr(pair, name) for pair in pairs]) for name in ("ids", "chances"))
    return Batch(*(torch.from_numpy(part).to(device) for part in (tokens, learn, ids, chances)))


def start_from(teacher: Net, draft: Net) -> None:
    """The draft's embedding begins as the teacher's, seen along its main directions."""
    embed = teacher.embed.detach().float()
    _, directions = torch.linalg.eigh(embed.T @ embed)
    main = directions[:, -draft.shape.hidden :].flip(-1)
    with torch.no_grad():
        draft.embed.copy_(embed @ main)
        draft.output_norm.fill_(1 / float(draft.embed.norm(dim=1).mean()))  # logits of about 1


def kind_of(name: str) -> Kind:
    return EMBEDDING_KIND if name in ("embed", "token_embd.weight") else MATRIX_KIND


def rounded(matrix: Tensor, kind: Kind) -> Tensor:
    """The matrix as its file has it (llama.cpp's Q4_0 and Q5_0). Its gradient is that of the exact matrix."""
    levels = LEVELS[kind]
    blocks = matrix.detach().reshape(-1, 32)
    scale = blocks.gather(1, blocks.abs().argmax(1, keepdim=True)) / -levels
    inverse = torch.where(scale == 0, 0, 1 / scale)
    steps = (blocks * inverse + levels + 0.5).trunc().clamp(0, 2 * levels - 1) - levels
    return matrix + ((steps * scale.half().float()).reshape(matrix.shape) - matrix).detach()


def loss_of(draft: Net, batch: Batch, hard: float) -> Tensor:
    """`hard`: the share of the teacher's likeliest token; the rest is its distribution over its likeliest ones.

    Trained on the likeliest token alone, the draft's own chance is how often it is right, which is what p_min cuts.
    """
    names = dict(draft.named_parameters())
    held = {name: rounded(value, kind_of(name)) if value.dim() == 2 else value for name, value in names.items()}
    features = functional_call(draft, held, (batch.tokens,))
    mine = (features[batch.learn] @ held["embed"].T).float().log_softmax(-1).gather(1, batch.ids.long())
    return -hard * mine[:, 0].mean() - (1 - hard) * (batch.chances.float() * mine).sum(-1).mean()


def optimizers_of(draft: Net, learning_rate: float, device: str) -> list[torch.optim.Optimizer]:
    named = list(draft.named_parameters())
    matrices = [value for name, value in named if value.dim() == 2 and name != "embed"]
    rest = [value for name, value in named if value.dim() == 1 or name == "embed"]
    return [
        torch.optim.Muon(matrices, lr=learning_rate, weight_decay=0.05, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(rest, lr=learning_rate, betas=(0.9, 0.95), weight_decay=0.0, fused=device == "cuda"),
    ]


def distilled(run: Run, draft: Net, pairs: list[Answered], save: Callable[[], None]) -> None:
    """Training for the time that is left. With it the learning rate falls, and the likeliest token gains weight."""
    optimizers = optimizers_of(draft, run.settings.learning_rate, run.device)
    batches = batches_by_length(pairs, run.settings.batch_tokens, 1, run.device)
    began, saved, seconds = run.seconds(), run.seconds(), max(1.0, run.left())
    step = tokens = 0
    while (past := (run.seconds() - began) / seconds) < 1:
        for group in (group for optimizer in optimizers for group in optimizer.param_groups):
            group["lr"] = run.settings.learning_rate * min(1, (step + 1) / 100) * (1 - 0.98 * past)
        batch = next(batches)
        with run.autocast():
            loss = loss_of(draft, batch, 0.2 + 0.7 * past)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(draft.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        tokens += len(batch.ids)
        if step % 20 == 0:
            run.csv.writerow([step, round(run.seconds(), 1), tokens, round(loss.item(), 4), f"{1 - past:.3f}"])
            run.log.flush()
        if step % 200 == 0:
            run.say(f"step {step}, {past:.0%}: loss {loss.item():.3f}, {tokens / (run.seconds() - began):.0f} tok/s")
        if run.seconds() - saved > 45:
            save()
            saved = run.seconds()
        step += 1
    run.facts["training"] = {"steps": step, "tokens": tokens, "last_loss": round(loss.item(), 4)}


# --- the file ---------------------------------------------------------------------------------------------------------


def write_gguf(path: Path, draft: Net, source: GGUFReader) -> None:
    """The draft as a llama model with the teacher's vocabulary."""
    shape = draft.shape
    part = path.with_suffix(".part")
    writer = GGUFWriter(part, "llama")
    writer.add_name("SmolLM2-135M-Instruct draft of Inferometer")
    writer.add_license("apache-2.0")
    writer.add_context_length(8192)
    writer.add_embedding_length(shape.hidden)
    writer.add_block_count(shape.layers)
    writer.add_feed_forward_length(shape.ffn)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.kv_heads)
    writer.add_rope_dimension_count(shape.head_dim)
    writer.add_rope_freq_base(draft.rope_base)
    writer.add_layer_norm_rms_eps(draft.eps)
    writer.add_vocab_size(shape.vocab)
    writer.add_file_type(LlamaFileType.MOSTLY_Q5_0)
    writer.add_quantization_version(2)
    for key, field in source.fields.items():
        if key.startswith("tokenizer."):
            kind = field.types[0]
            writer.add_key_value(key, field.contents(), kind, field.types[-1] if kind == GGUFValueType.ARRAY else None)
    for name, matrix in tensors_of(draft).items():
        if name.endswith(("attn_q.weight", "attn_k.weight")):
            matrix = as_neighbours(matrix, shape.heads if "attn_q" in name else shape.kv_heads)
        kind = Kind.F32 if matrix.ndim == 1 else kind_of(name)
        writer.add_tensor(name, quantize(np.ascontiguousarray(matrix, np.float32), kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    part.replace(path)
    print(f"{path.name}: {path.stat().st_size / 1e6:.2f} MB", flush=True)


@torch.no_grad()
def round_to_file(draft: Net) -> None:
    """The draft with the precision of its file, so that what is shipped is what is measured."""
    for name, parameter in draft.named_parameters():
        if parameter.dim() == 2:
            kind = kind_of(name)
            exact = dequantize(quantize(parameter.float().cpu().numpy(), kind), kind)
            parameter.copy_(torch.from_numpy(exact))


# --- the run ----------------------------------------------------------------------------------------------------------


def make(run: Run, args: argparse.Namespace) -> None:
    settings, device = run.settings, run.device
    source = whole_file(args.model, run.out)
    reader = GGUFReader(source)
    words = tokenizer_of(reader)
    with multiprocessing.get_context("fork").Pool(args.processes) as pool:
        prompts = prompts_of(pool, settings, words, args)
        asked = builtin_prompts()[: settings.test_prompts]
        tests = encoded(pool, words, [PROMPT.format(text) for text in asked])
    run.say(f"{len(prompts)} prompts of {sum(map(len, prompts))} tokens")
    context = LONGEST_PROMPT + 4096
    teacher = teacher_of(reader, context).to(device).requires_grad_(False)
    draft = Net(settings.draft, teacher.rope_base, teacher.eps, context).to(device)
    start_from(teacher, draft)
    pairs = answered_for(run, teacher, prompts, args.seed)
    run.facts["answers"] = {
        "count": len(pairs),
        "tokens": sum(len(pair.answer) for pair in pairs),
        "ended": sum(int(pair.answer[-1]) == IM_END for pair in pairs),
    }
    run.facts["parameters"] = sum(parameter.numel() for parameter in draft.parameters())
    run.say(f"{run.facts}")

    def save() -> None:
        write_gguf(run.out / "draft.gguf", draft, reader)

    distilled(run, draft, pairs, save)
    save()
    round_to_file(draft)
    report(run, args, teacher, draft, tests, asked, words)
    if source.name == "teacher.gguf":
        source.unlink()


def report(run: Run, args, teacher: Net, draft: Net, tests, asked, words: str) -> None:
    """The built-in prompts, which the draft has not seen."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_str(words)
    said = answers(run, teacher, tests, 512 if run.device == "cuda" else 24, IM_END, 0.0, 0)
    found = agreement(run, draft, tests, said)
    found |= {
        "prompts": len(tests),
        "ended_by_themselves": sum(int(answer[-1]) == IM_END for answer in said),
        "went_round_in_circles": sum(goes_round(answer) for answer in said),
    }
    run.facts["held_out_prompts"] = found
    run.say(json.dumps(found))
    with (run.out / "samples.md").open("w") as file:
        for prompt, answer in list(zip(asked, said, strict=True))[:24]:
            file.write(f"### {prompt.splitlines()[0][:200]}\n\n{tokenizer.decode(answer.tolist())}\n\n")
    made = run.out / "draft.gguf"
    recipe = {
        "made_by": "tools/train_draft.py",
        "seed": args.seed,
        "seconds": round(run.seconds(), 1),
        "device": torch.cuda.get_device_name() if run.device == "cuda" else "cpu",
        "torch": torch.__version__,
        "settings": dataclasses.asdict(run.settings),
        **run.facts,
        "sha256": {made.name: hashlib.sha256(made.read_bytes()).hexdigest()},
    }
    (run.out / "recipe.json").write_text(json.dumps(recipe, indent=1) + "\n")
    run.say("done")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("prompts", nargs="*", type=Path, help="files or folders of prompts")
    parser.add_argument("--model", required=True, nargs="+", type=Path, help="SmolLM2-135M-Instruct.Q4_1.gguf")
    parser.add_argument("--out", required=True, type=Path, help="folder for what is made")
    parser.add_argument("--seconds", type=float, default=560, help="for the whole run (default: %(default)s)")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--processes", type=int, default=min(16, os.cpu_count() or 1))
    parser.add_argument("--smoke", action="store_true", help="a tiny draft, few prompts, seconds of training")
    parser.add_argument("--override", default="{}", help='JSON of settings, such as {"answers": 512}')
    args = parser.parse_args()
    changes = json.loads(args.override)
    if "draft" in changes:
        changes["draft"] = Shape(**changes["draft"])
    args.out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(args.seed)
    torch.set_float32_matmul_precision("high")
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    make(Run(dataclasses.replace(SMOKE if args.smoke else FULL, **changes), args), args)


if __name__ == "__main__":
    main()
