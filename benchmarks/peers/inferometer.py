"""Inferometer itself, from this working tree."""

import json
import re
from pathlib import Path

from place import Load, Place, Reported, prompts, vllm_result

PACKAGE = "inferometer"
VERSION = "this tree"
NOTE = "`inferometer bench`"

_ROOT = Path(__file__).resolve().parents[2]
_LINES = {  # of the printed block, by their keys in vLLM's result file
    "median_ttft_ms": "Median TTFT",
    "p99_ttft_ms": "P99 TTFT",
    "median_itl_ms": "Median ITL",
    "p99_itl_ms": "P99 ITL",
    "output_throughput": "Output token throughput",
    "completed": "Successful requests",
}


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
        *("--disable-tqdm", "--out", "study"),
    ]


def parse(results: Path) -> Reported:
    """From the printed block. With `--save-result` our file would hold each token's gap, as vLLM 0.6.5's does; the
    other clients write a summary. Ours keeps each request in the study."""
    block = re.findall(
        r"^(.+?) *(?:\((?:ms|tok/s)\))?: +([\d.]+) *$", (results / "output.log").read_text(), re.MULTILINE
    )
    figures = {name: float(value) for name, value in block}
    return vllm_result({key: figures[name] for key, name in _LINES.items()})
