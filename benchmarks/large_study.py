"""Size of a study of 100,000 requests, and the cost of compare and report. The study is generated: two arms, one trial
each, 20 tokens per answer, prompts of different lengths. The store writes it, and the program reads and compares it.

    python benchmarks/large_study.py [--requests 50000] [--tokens 20] [--prompt-chars 200] [--arms 2] [--keep DIR]

`--requests` is the number for each arm.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inferometer.core.plan import Plan, PlanItem
from inferometer.core.record import KINDS, Fact
from inferometer.core.record_columns import UNKNOWN, USAGE, RecordColumns
from inferometer.core.request import user_request
from inferometer.core.spec import Arm, Spec
from inferometer.core.text_columns import Texts, Words
from inferometer.store import Store
from inferometer.store.record_batches import MOST_REQUESTS

WORDS = [" the", " of", " return", " self", "\n    ", " if", " value", "(", ")", " é", " for", " range", " import"]


def trial_columns(indices: NDArray[np.int64], rng: np.random.Generator, tokens: int, slower: float) -> RecordColumns:
    """The records of one arm with these indices: first tokens after 50 to 150 ms, gaps of 8 to 12 ms."""
    count = len(indices)
    sent_ns = indices * 5_000_000
    steps = np.zeros((count, tokens + 4), np.int64)  # role, tokens, finish chunk, usage, [DONE]
    first_ns = sent_ns + np.rint(rng.uniform(50e6, 150e6, count) * slower).astype(np.int64)
    steps[:, 1 : tokens + 1] = np.rint(rng.uniform(8e6, 12e6, (count, tokens)) * slower)
    words = rng.integers(0, len(WORDS), (count, tokens))
    chars = np.zeros((count, tokens + 4), np.uint8)
    chars[:, 1 : tokens + 1] = np.array([len(word) for word in WORDS])[words]
    kinds = [KINDS.index("role"), *[KINDS.index("text")] * tokens, *map(KINDS.index, ("empty", "usage", "done"))]
    sizes = np.array([len(word.encode()) for word in WORDS])[words].sum(axis=1)
    unknown, zeros, prompts = np.full(count, UNKNOWN), np.zeros(count, np.int64), prompt_tokens(indices)
    numbers = {
        "index": indices,
        **dict.fromkeys(("due_ns", "sent_ns"), sent_ns),
        "done_ns": first_ns + steps.sum(axis=1),
        "first_byte_ns": first_ns,
        "connected_ns": sent_ns - 1000,
        "status": zeros + 200,
        **dict.fromkeys(("coalesced", "stamp_errors", "resent"), zeros),
        "prompt_tokens": prompts,
        "our_tokens": unknown,
    }
    usage = {"prompt_tokens": prompts, "completion_tokens": zeros + tokens}
    same = [Words(zeros.astype(np.uint32), (word,)) for word in ("length", "made-up", "")]
    return RecordColumns(
        numbers=numbers,
        measured=np.ones(count, np.bool_),
        outcomes=np.zeros(count, np.uint8),
        request_ids=[f"r{index}" for index in indices.tolist()],
        finish_reasons=same[0],
        models=same[1],
        errors=same[2],
        has_usage=np.ones(count, np.bool_),
        usage={name: usage.get(name, unknown) for name in USAGE},
        has_timings=np.zeros(count, np.bool_),
        timings=None,
        first_ns=first_ns,
        steps=steps.ravel(),
        kinds=np.tile(np.array(kinds, np.uint8), count),
        chars=chars.ravel(),
        tokens=None,
        starts=np.arange(count + 1) * (tokens + 4),
        texts=Texts.joined("".join([WORDS[word] for word in words.ravel().tolist()]).encode(), sizes),
    )


def prompt_tokens(index: Any) -> Any:
    """Lengths vary, as in real data sets: some steps depend on the number of different lengths."""
    return 20 + index * 7919 % 331


def _prompt(index: int, chars: int) -> str:
    return f"prompt {index} ".ljust(chars, "x")


def write(folder: Path, requests: int, tokens: int, prompt_chars: int, arms: dict[str, float]) -> tuple[int, int]:
    """Bytes of text (prompts and answers) and count of events that were given to the store. `arms`: how much slower
    each is."""
    spec = Spec(trials=1, arms={name: Arm(engine="external", url="http://127.0.0.1:1", model="m") for name in arms})
    store = Store.create(folder, spec)
    items = tuple(
        PlanItem(i, user_request(f"r{i}", _prompt(i, prompt_chars), max_tokens=tokens), i * 5_000_000)
        for i in range(requests)
    )
    store.set_meta("plan", Plan(items, None, 1))
    text_bytes = sum(len(_prompt(i, prompt_chars)) for i in range(requests))
    events = 0
    for name, slower in arms.items():
        rng = np.random.default_rng(len(name))
        trial_id = store.begin_trial(name, 1, False, "2026-01-01T00:00:00+00:00")
        store.set_plan_started(trial_id, 0)
        for first in range(0, requests, MOST_REQUESTS):
            indices = np.arange(first, min(requests, first + MOST_REQUESTS))
            made = trial_columns(rng.permutation(indices), rng, tokens, slower)  # answers end in another order
            text_bytes += len(made.texts.data)
            events += len(made.kinds)
            store.add_records(trial_id, made)
        store.end_trial(trial_id, "done", "", (Fact("engine", "external", "the arm"),), ())
    store.close()
    return text_bytes, events


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--requests", type=int, default=50_000)
    parser.add_argument("--tokens", type=int, default=20)
    parser.add_argument("--prompt-chars", type=int, default=200)
    parser.add_argument("--arms", type=int, default=2)
    parser.add_argument("--keep", type=Path)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = (args.keep or Path(temporary)) / "study"
        began_s = time.monotonic()
        arms = {name: 1 + 0.05 * n for n, name in enumerate(("baseline", "other")[: args.arms])}
        text_bytes, events = write(folder, args.requests, args.tokens, args.prompt_chars, arms)
        print(f"written in {time.monotonic() - began_s:.1f} s: {args.arms} x {args.requests} requests, {events} events")
        size = (folder / "study.db").stat().st_size
        least = text_bytes + 16 * events
        within = "within" if size <= 1.3 * least else "BEYOND"
        stamps = 16 * events / 1e6
        print(f"study.db {size / 1e6:.1f} MB; texts {text_bytes / 1e6:.1f} MB, 16 bytes an event {stamps:.1f} MB")
        print(f"that is {size / least:.2f} times their sum, {within} the bound of 1.3")
        for command in ("compare", "report"):
            print(f"inferometer {command}: {used(command, folder)}", flush=True)


def used(command: str, folder: Path) -> str:
    """CPU and memory of one command."""
    began_s = time.monotonic()
    process = subprocess.Popen([sys.executable, "-m", "inferometer", command, str(folder)], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    cpu_s = usage.ru_utime + usage.ru_stime
    code = os.waitstatus_to_exitcode(status)
    return (
        f"{time.monotonic() - began_s:.2f} s, of it {cpu_s:.2f} s of a core; {usage.ru_maxrss / 1e3:.0f} MB at most; "
        f"exit code {code}"
    )


if __name__ == "__main__":
    main()
