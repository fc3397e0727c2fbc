"""vLLM's `vllm bench serve`, the Python client."""

from pathlib import Path

from place import PROMPT_TOKENS, Load, Place, Reported, read_json, vllm_result

PACKAGE = "vllm"
VERSION = "0.33.0"
NOTE = "`vllm bench serve`"

# The imports of the command line on a machine without a GPU. The rest of vLLM's requirements only serve.
_IMPORTED = """torch==2.14.0 transformers>=5.16.1,<5.21.0 aiohttp cachetools cbor2 cloudpickle einops fastapi filelock
    llguidance>=1.7.0,<1.8.0 msgspec numpy openai>=2.25.0 orjson oss-harmony>=0.0.11 partial-json-parser pillow
    prometheus_client psutil py-cpuinfo pybase64 pydantic pyyaml pyzmq regex requests tqdm uvicorn uvloop watchfiles
    xgrammar==0.2.8""".split()


def install(place: Place) -> None:
    place.install(*_IMPORTED)
    place.install_version(PACKAGE, VERSION, "--no-deps")


def flags(load: Load, url: str) -> list[str]:
    """The flags that the Python and the Rust client share."""
    return [
        *("--backend", "openai-chat", "--endpoint", "/v1/chat/completions", "--base-url", url, "--model", "mock"),
        *("--num-prompts", str(load.requests), "--max-concurrency", str(load.streams), "--ignore-eos"),
        *("--percentile-metrics", "ttft,tpot,itl", "--metric-percentiles", "99", "--disable-tqdm"),
        *("--save-result", "--result-filename", "result.json"),
    ]


def command(place: Place, load: Load, url: str) -> list[str]:
    lengths = ["--random-input-len", str(PROMPT_TOKENS), "--random-output-len", str(load.tokens)]
    data = ["--tokenizer", str(place.tokenizer), "--dataset-name", "random", *lengths]
    return [place.bin("vllm"), "bench", "serve", *flags(load, url), *data]


def parse(results: Path) -> Reported:
    return vllm_result(read_json(results / "result.json"))
