#!/usr/bin/env python3
"""Training of the stand-in's weights: a small code model and its draft, from the Python source on this machine.

    python3 tools/train_standin.py --minutes 5 --device cuda --out OUT      # one H100 or H200
    python3 tools/train_standin.py --smoke --out OUT                        # seconds on a CPU: does it run at all

Needs torch, tokenizers and numpy; nothing is downloaded. In order: collect source under free licences, learn a byte
pair encoding, train the target on source and on chats made of it, let the target answer and go on with its own good
answers, then train the draft on what the target says and how sure it is. What comes out (`src/inferometer/standin/data`
has it): target.npz, draft.npz, tokenizer.json, recipe.json, loss.csv, samples.md. Weights are written after each phase,
so that a run which is cut off leaves some.
"""

import argparse
import csv
import dataclasses
import hashlib
import json
import math
import multiprocessing
import os
import random
import time
from collections import Counter
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from standin_answers import agreement, answered, answers, goes_round, good, prompt_batches, to_learn, to_unlearn
from standin_network import Net, Shape, read_weights, round_to_q8_0, write_weights
from standin_rows import (
    BUILTIN,
    END_OF_TEXT,
    IM_END,
    LEARN,
    PROMPT,
    UNLEARN,
    Rows,
    answer_marks,
    batches_of,
    encode_texts,
    packed,
    trained_tokenizer,
)
from standin_source import packages, read_file
from torch import Tensor, nn


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
    row_tokens=256,
    batch_rows=8,
    raw_mb=0.5,
    chat_mb=1.0,
    bpe_mb=0.5,
    answers=8,
    answer_batches=2,
    answer_tokens=48,
)


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
        """The losses of the earlier run, and a description of its phases derived from them."""
        with log.open(newline="") as file:
            rows = list(csv.reader(file))[1:]
        self.csv.writerows(rows)
        for phase, step, seconds, tokens, loss, _ in rows:
            self.facts[phase] = {"steps": int(step) + 1, "tokens": int(tokens), "last_loss": float(loss)} | {
                "ended_after_seconds": float(seconds),
                "note": "an earlier run, of which the target was kept (--finished)",
            }

    def write_recipe(self, args: argparse.Namespace) -> None:
        """The record so far: which files were made, from which data and settings."""
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

    def seconds(self) -> float:
        return time.monotonic() - self.began

    def say(self, text: str) -> None:
        print(f"[{self.seconds():6.1f} s] {text}", flush=True)

    def autocast(self) -> torch.autocast:
        return torch.autocast(self.device, torch.bfloat16, enabled=self.device == "cuda")


def train(run: Run, phase: str, net: Net, seconds: float, peak_lr: float, batches, loss_of, save) -> None:
    """Training steps for this many seconds. The first steps show how many fit, and set the learning-rate schedule."""
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
    run.facts[phase] = {
        "steps": step,
        "tokens": tokens,
        "seconds": round(time.monotonic() - began, 1),
        "last_loss": round(loss.item(), 4),
        "peak_learning_rate": peak_lr,
    }
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
