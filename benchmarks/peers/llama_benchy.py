"""llama-benchy, which sends its requests in batches: the next batch waits for the slowest answer of the last one."""

import hashlib
import statistics
from pathlib import Path

from place import PROMPT_TOKENS, Load, Place, Reported, prompts, read_json

PACKAGE = "llama-benchy"
VERSION = "0.4.0"
NOTE = "batches; ITL is each request's mean, rate from first to last token of a batch, without TTFT (101% is ideal)"

_BOOK = "offline://words"  # not a URL that can be fetched: the text is read from the tool's own cache


def install(place: Place) -> None:
    place.install_version(PACKAGE, VERSION)


def command(place: Place, load: Load, url: str) -> list[str]:
    """Prompts are random cuts of a book, which lies where the tool would keep it after the download."""
    book = place.results / ".cache" / "llama-benchy" / f"{hashlib.md5(_BOOK.encode()).hexdigest()}.txt"
    book.parent.mkdir(parents=True)
    book.write_text(" ".join(prompts(500)))
    return [
        *("env", f"HOME={place.results}", place.bin("llama-benchy"), "--base-url", f"{url}/v1", "--model", "mock"),
        *("--tokenizer", str(place.tokenizer), "--book-url", _BOOK, "--pp", str(PROMPT_TOKENS)),
        *("--tg", str(load.tokens), "--exact-tg", "--concurrency", str(load.streams)),
        *("--runs", str(load.requests // load.streams), "--no-warmup", "--no-adapt-prompt", "--skip-coherence"),
        *("--latency-mode", "none", "--save-result", "result.json", "--format", "json"),
    ]


def parse(results: Path) -> Reported:
    """Percentiles of the values that the tool keeps for each request; its own table has means only."""
    run = read_json(results / "result.json")["benchmarks"][0]
    ttft_ms = run["e2e_ttft"]["values"]
    itl_ms = [1e3 / per_s for per_s in run["tg_req_throughput"]["values"]]
    latencies = [percentile for values in (ttft_ms, itl_ms) for percentile in _p50_p99(values)]
    return Reported(*latencies, run["tg_throughput"]["mean"], len(ttft_ms))


def _p50_p99(values: list[float]) -> tuple[float, float]:
    percentiles = statistics.quantiles(values, n=100, method="inclusive")
    return percentiles[49], percentiles[98]
