"""Training data from text: rows of tokens, with a mark for each token (learn, unlearn, ignore)."""

import dataclasses
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

END_OF_TEXT, IM_START, IM_END = SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
PROMPT = IM_START + "user\n{}" + IM_END + "\n" + IM_START + "assistant\n"
BUILTIN = Path(__file__).parent.parent / "src/inferometer/workloads/data/coding.json"
# How Qwen2 cuts text before it merges bytes (its tokenizer.json). The engine does the same for files that say "qwen2".
CUTS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"


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
    return [np.array(one.ids, np.int32) for one in tokenizer.encode_batch_fast(job[1], add_special_tokens=False)]


@dataclasses.dataclass
class Rows:
    """Rows of one length. `marks`: for each token 0 (ignore), LEARN or UNLEARN."""

    tokens: Tensor
    marks: Tensor


LEARN, UNLEARN = 1, 2


def answer_marks(prompt: int, tokens: int) -> np.ndarray:
    """Marks: a prompt's tokens are ignored, those after it are learnt."""
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
    filled = np.full((len(rows), row_tokens + 1), pad, np.int32)
    marks = np.zeros((len(rows), row_tokens + 1), np.int8)
    for row, members in enumerate(rows):
        at = 0
        for tokens, marked in members:
            filled[row, at : at + len(tokens)] = tokens
            marks[row, at : at + len(tokens)] = marked
            at += len(tokens)
    return Rows(torch.from_numpy(filled).to(device), torch.from_numpy(marks).to(device))


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
