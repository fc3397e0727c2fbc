"""Answers of a network, greedy or sampled, and their quality: whether they end, repeat, or match another network."""

import random
from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import torch
from draft_network import Cache, Net
from torch import Tensor

if TYPE_CHECKING:
    from train_draft import Run


@torch.no_grad()
def answers(
    run: "Run",
    net: Net,
    prompts: list[np.ndarray],
    most: int,
    end: int,
    temperature: float,
    seed: int,
    watch: Callable[[int, Tensor], None] | None = None,
) -> list[np.ndarray]:
    """The answer to each prompt, with its end token if it came. Prompts of similar length are fastest.

    `watch` gets each position and the logits for it, one row per prompt.
    """
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
        if watch is not None:
            watch(at, logits)
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
    texts = said.cpu().numpy().astype(np.int32)
    found: list[np.ndarray] = []
    for row, prompt in zip(texts, prompts, strict=True):
        answer = row[len(prompt) : min(len(prompt) + most, total)]
        ends = np.flatnonzero(answer == end)
        found.append(answer[: ends[0] + 1] if len(ends) else answer)
    return found


def goes_round(answer: np.ndarray) -> bool:
    grams = Counter(tuple(answer[i : i + 8]) for i in range(len(answer) - 8))
    return bool(grams) and len(grams) < 0.85 * sum(grams.values())


def repeats(answer: np.ndarray) -> np.ndarray:
    """Marks each token that ends a run of eight tokens which occurred before in this answer."""
    seen: set[tuple[int, ...]] = set()
    found = np.zeros(len(answer), np.bool_)
    words = answer.tolist()
    for i in range(8, len(words) + 1):
        gram = tuple(words[i - 8 : i])
        found[i - 1] = gram in seen
        seen.add(gram)
    return found


def prompt_batches(prompts: list[np.ndarray], size: int, count: int, seed: int) -> list[list[np.ndarray]]:
    """`count` batches of prompts of similar lengths, drawn at random."""
    rng = random.Random(seed)
    chosen = rng.sample(prompts, min(len(prompts), size * count))
    chosen.sort(key=len)
    batches = [chosen[i : i + size] for i in range(0, len(chosen), size)]
    rng.shuffle(batches)
    return batches


@torch.no_grad()
def agreement(run: "Run", draft: Net, prompts: list[np.ndarray], said: list[np.ndarray]) -> dict[str, float]:
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
