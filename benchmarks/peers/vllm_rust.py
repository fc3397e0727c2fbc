"""vLLM's Rust client, which `VLLM_USE_RUST_BENCH=1 vllm bench serve` hands over to."""

import json

import vllm
from place import Load, Place, prompts

PACKAGE, VERSION, ENV = vllm.PACKAGE, vllm.VERSION, "vllm"
NOTE = "`vllm-rs bench serve`, in vLLM's wheel"
install, parse = vllm.install, vllm.parse


def command(place: Place, load: Load, url: str) -> list[str]:
    """Prompts from a file: with random ones this client insists on the server's own /tokenize."""
    lines = [json.dumps({"prompt": prompt}) for prompt in prompts(load.requests)]
    (place.results / "prompts.jsonl").write_text("\n".join(lines))
    data = ["--dataset-name", "custom", "--dataset-path", "prompts.jsonl", "--custom-output-len", str(load.tokens)]
    binary = str(place.packages / "vllm" / "vllm-rs")
    tokenizer = ["--tokenizer", str(place.tokenizer), "--skip-chat-template"]
    return [binary, "bench", "serve", *vllm.flags(load, url), *tokenizer, *data]
