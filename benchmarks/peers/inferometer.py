"""Inferometer itself, from this working tree."""

import json
from pathlib import Path

from place import Load, Place, Reported, prompts, read_json, vllm_result

PACKAGE = "inferometer"
VERSION = "this tree"
NOTE = "`inferometer bench`"

_ROOT = Path(__file__).resolve().parents[2]


def install(place: Place) -> None:
    place.install("-r", str(_ROOT / "requirements" / "base.txt"))
    place.install("--no-deps", "--no-build-isolation", "-e", str(_ROOT))


def command(place: Place, load: Load, url: str) -> list[str]:
    """Prompts from a file: the built-in set has too few."""
    answer = {"from": "gpt", "value": " ".join(["tok1"] * load.tokens)}
    asked = [[{"from": "human", "value": prompt}, answer] for prompt in prompts(load.requests)]
    entries = [{"id": str(i), "conversations": turns} for i, turns in enumerate(asked)]
    (place.results / "sharegpt.json").write_text(json.dumps(entries))
    return [
        *(place.bin("inferometer"), "bench", "--backend", "openai-chat", "--base-url", url, "--model", "mock"),
        *("--tokenizer", str(place.tokenizer), "--dataset-name", "sharegpt", "--dataset-path", "sharegpt.json"),
        *("--sharegpt-output-len", str(load.tokens), "--ignore-eos", "--num-prompts", str(load.requests)),
        *("--max-concurrency", str(load.streams)),
        *("--save-result", "--result-filename", "result.json", "--disable-tqdm", "--out", "study"),
    ]


def parse(results: Path) -> Reported:
    return vllm_result(read_json(results / "result.json"))
