"""Texts as tokens, in several processes."""

from pathlib import Path

import numpy as np

BUILTIN = Path(__file__).parent.parent / "src/inferometer/workloads/data/coding.json"


def encoded(pool, tokenizer_json: str, texts: list[str]) -> list[np.ndarray]:
    jobs = [(tokenizer_json, texts[i : i + 500]) for i in range(0, len(texts), 500)]
    return [tokens for part in pool.imap(encode_texts, jobs) for tokens in part]


def encode_texts(job: tuple[str, list[str]]) -> list[np.ndarray]:
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_str(job[0])
    return [np.array(one.ids, np.int32) for one in tokenizer.encode_batch_fast(job[1], add_special_tokens=False)]
