"""Inferometer itself, from this working tree."""

from pathlib import Path

from place import Load, Place, Reported, read_json, vllm_result

PACKAGE = "inferometer"
VERSION = "this tree"
NOTE = "`inferometer bench`"

_ROOT = Path(__file__).resolve().parents[2]


def install(place: Place) -> None:
    place.install("-r", str(_ROOT / "requirements" / "base.txt"))
    place.install("--no-deps", "--no-build-isolation", "-e", str(_ROOT))


def command(place: Place, load: Load, url: str) -> list[str]:
    return [
        *(place.bin("inferometer"), "bench", "--backend", "openai-chat", "--base-url", url, "--model", "mock"),
        *("--tokenizer", str(place.tokenizer), "--dataset-name", "builtin", "--sharegpt-output-len", str(load.tokens)),
        *("--num-prompts", str(load.requests), "--max-concurrency", str(load.streams), "--ignore-eos"),
        *("--save-result", "--result-filename", "result.json", "--disable-tqdm", "--out", "study"),
    ]


def parse(results: Path) -> Reported:
    return vllm_result(read_json(results / "result.json"))
