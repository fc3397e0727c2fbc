"""EvalScope's `evalscope perf`, of ModelScope."""

import json
from pathlib import Path

from place import PROMPT_TOKENS, Load, Place, Reported, read_json

PACKAGE = "evalscope"
VERSION = "1.14.1"
NOTE = "`evalscope perf`"


def install(place: Place) -> None:
    place.install_version("evalscope[perf]", VERSION)


def command(place: Place, load: Load, url: str) -> list[str]:
    return [
        *(place.bin("evalscope"), "perf", "--model", "mock", "--url", f"{url}/v1/chat/completions", "--api", "openai"),
        *("--tokenizer-path", str(place.tokenizer), "--dataset", "random", "--prefix-length", "0"),
        *("--min-prompt-length", str(PROMPT_TOKENS), "--max-prompt-length", str(PROMPT_TOKENS)),
        *("--max-tokens", str(load.tokens), "--min-tokens", str(load.tokens), "--stream", "--no-test-connection"),
        *("--parallel", str(load.streams), "-n", str(load.requests), "--outputs-dir", "outputs", "--no-timestamp"),
    ]


def parse(results: Path) -> Reported:
    folder = next(results.glob("outputs/mock/parallel_*"))
    summary = read_json(folder / "benchmark_summary.json")
    rows = json.loads((folder / "benchmark_percentile.json").read_text())
    at = {row["Percentiles"]: row for row in rows}
    latencies = [at[part][name] for name in ("TTFT (ms)", "ITL (ms)") for part in ("50%", "99%")]
    return Reported(*latencies, summary["Output Throughput (tok/s)"], summary["Success Requests"])
