"""SGLang's Rust client, which `python -m sglang.benchmark.rust_client` hands over to."""

from pathlib import Path

from place import PROMPT_TOKENS, Load, Place, Reported, read_json, vllm_result

PACKAGE = "sglang"
VERSION = "0.5.23"
NOTE = "the Rust client, `_bench` in SGLang's wheel"

# SGLang's own starter imports the whole package, torch and CUDA libraries with it, then does this.
_START = """
import importlib.util, sys
spec = importlib.util.spec_from_file_location("_bench", sys.argv[1])
bench = importlib.util.module_from_spec(spec)
spec.loader.exec_module(bench)
bench.run_argv(["sglang-bench", *sys.argv[2:]])
"""


def install(place: Place) -> None:
    place.install_version(PACKAGE, VERSION, "--no-deps")


def command(place: Place, load: Load, url: str) -> list[str]:
    extension = next(place.packages.glob("sglang/srt/rust_extensions/_bench*.so"))
    return [
        *(place.bin("python"), "-c", _START, str(extension), "--backend", "vllm-chat", "--base-url", url),
        *("--model", "mock", "--tokenizer", str(place.tokenizer), "--dataset-name", "random-ids"),
        *("--random-input-len", str(PROMPT_TOKENS), "--random-output-len", str(load.tokens)),
        *("--random-range-ratio", "1", "--num-prompts", str(load.requests), "--max-concurrency", str(load.streams)),
        *("--disable-tqdm", "--output-file", "result.jsonl"),
    ]


def parse(results: Path) -> Reported:
    return vllm_result(read_json(results / "result.jsonl"))
