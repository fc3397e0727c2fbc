"""Size of a study of 100,000 requests, and the time to open it. The study is generated: one trial per arm, about 20
events per request, prompts of different lengths. The store writes it, and the program reads and compares it.

    python benchmarks/large_study.py [--requests 100000] [--tokens 20] [--prompt-chars 200]
"""

import argparse
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from inferometer.core.plan import Plan, PlanItem
from inferometer.core.record import Event, Fact, RequestRecord, TokenUsage
from inferometer.core.request import user_request
from inferometer.core.spec import Arm, Spec
from inferometer.store import Store

WORDS = [" the", " of", " return", " self", "\n    ", " if", " value", "(", ")", " é", " for", " range", " import"]


def record(index: int, rng: random.Random, tokens: int, slower: float) -> RequestRecord:
    sent_ns = index * 5_000_000
    at_ns = sent_ns + round(rng.uniform(50, 150) * 1e6 * slower)
    events = [Event(at_ns, "role")]
    for _ in range(tokens):
        at_ns += round(rng.uniform(8, 12) * 1e6 * slower)
        events.append(Event(at_ns, "text", rng.choice(WORDS)))
    events += [Event(at_ns, "empty"), Event(at_ns, "usage"), Event(at_ns, "done")]
    return RequestRecord(
        index=index,
        request_id=f"r{index}",
        measured=True,
        outcome="ok",
        due_ns=sent_ns,
        sent_ns=sent_ns,
        done_ns=at_ns,
        first_byte_ns=events[0].at_ns,
        connected_ns=sent_ns - 1000,
        events=events,
        status=200,
        finish_reason="length",
        usage=TokenUsage(prompt_tokens(index), tokens),
        model="made-up",
        prompt_tokens=prompt_tokens(index),
    )


def prompt_tokens(index: int) -> int:
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
        rng = random.Random(name)
        trial_id = store.begin_trial(name, 1, False, "2026-01-01T00:00:00+00:00")
        store.set_plan_started(trial_id, 0)
        for index in range(requests):
            made = record(index, rng, tokens, slower)
            text_bytes += sum(len(event.text.encode()) for event in made.events)
            events += len(made.events)
            store.add_record(trial_id, made)
        store.end_trial(trial_id, "done", "", (Fact("engine", "external", "the arm"),), ())
    store.close()
    return text_bytes, events


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--requests", type=int, default=100_000)
    parser.add_argument("--tokens", type=int, default=20)
    parser.add_argument("--prompt-chars", type=int, default=200)
    parser.add_argument("--arms", type=int, default=1)
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
        began_s = time.monotonic()
        done = subprocess.run(
            [sys.executable, "-m", "inferometer", "compare", str(folder)], stdout=subprocess.DEVNULL, check=False
        )
        took_s, used = time.monotonic() - began_s, resource.getrusage(resource.RUSAGE_CHILDREN)
        print(
            f"inferometer compare: {took_s:.1f} s, of it {used.ru_utime + used.ru_stime:.1f} s of a "
            f"core; {used.ru_maxrss / 1e6:.1f} GB at most; exit code {done.returncode}"
        )


if __name__ == "__main__":
    main()
