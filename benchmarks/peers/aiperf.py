"""NVIDIA's AIPerf: several processes, which share the one core here."""

from pathlib import Path

from place import PROMPT_TOKENS, TOKENIZER_NAME, Load, Place, Reported, read_json

PACKAGE = "aiperf"
VERSION = "0.13.0"
NOTE = "ITL is its `inter_chunk_latency`"


def install(place: Place) -> None:
    place.install_version(PACKAGE, VERSION)


def command(place: Place, load: Load, url: str) -> list[str]:
    return [
        *(place.bin("aiperf"), "profile", "-m", "mock", "--url", url, "--endpoint-type", "chat", "--streaming"),
        *("--tokenizer", TOKENIZER_NAME, "--concurrency", str(load.streams), "--request-count", str(load.requests)),
        *("--isl", str(PROMPT_TOKENS), "--isl-stddev", "0", "--osl", str(load.tokens), "--osl-stddev", "0"),
        *("--extra-inputs", "ignore_eos:true", "--ui-type", "none", "--artifact-dir", "artifacts"),
    ]


def parse(results: Path) -> Reported:
    result = read_json(results / "artifacts" / "profile_export_aiperf.json")
    ttft, itl = result["time_to_first_token"], result["inter_chunk_latency"]
    rate, count = result["output_token_throughput"]["avg"], int(result["request_count"]["avg"])
    return Reported(ttft["p50"], ttft["p99"], itl["p50"], itl["p99"], rate, count)
