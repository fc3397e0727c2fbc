"""GuideLLM, of the vLLM project."""

from pathlib import Path

from place import PROMPT_TOKENS, Load, Place, Reported, read_json

PACKAGE = "guidellm"
VERSION = "0.8.1"
NOTE = "ITL is each request's mean; the gaps are not reported"


def install(place: Place) -> None:
    # The torch of vllm.py, so that uv keeps one copy of its CUDA libraries.
    place.install("torch==2.14.0")
    place.install_version(PACKAGE, VERSION)


def command(place: Place, load: Load, url: str) -> list[str]:
    lengths = f"prompt_tokens={PROMPT_TOKENS},output_tokens={load.tokens}"
    return [
        *(place.bin("guidellm"), "run", "--backend", f"kind=openai_http,target={url},model=mock"),
        *("--profile", f"kind=concurrent,streams={load.streams}"),
        *("--constraint", f"kind=max_requests,count={load.requests}"),
        *("--tokenizer", f"kind=hf_auto,model={place.tokenizer}", "--data", f"kind=synthetic_text,{lengths}"),
        *("--output", "kind=json,path=result.json", "--disable-console-interactive"),
    ]


def parse(results: Path) -> Reported:
    metrics = read_json(results / "result.json")["benchmarks"][0]["metrics"]
    ttft, itl = (metrics[name]["successful"] for name in ("time_to_first_token_ms", "inter_token_latency_ms"))
    latencies = [part["percentiles"][name] for part in (ttft, itl) for name in ("p50", "p99")]
    return Reported(*latencies, metrics["output_tokens_per_second"]["successful"]["mean"], ttft["count"])
