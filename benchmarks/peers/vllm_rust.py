"""vLLM's Rust client, which `VLLM_USE_RUST_BENCH=1 vllm bench serve` hands over to."""

import json

import vllm
from place import PROMPT_TOKENS, Load, Place

PACKAGE, VERSION, ENV = vllm.PACKAGE, vllm.VERSION, "vllm"
NOTE = "`vllm-rs bench serve`, in vLLM's wheel"
install, parse = vllm.install, vllm.parse


def command(place: Place, load: Load, url: str) -> list[str]:
    """Prompts from a file: with random ones this client insists on the server's own /tokenize."""
    words = [f"w{i % 500}" for i in range(load.requests + PROMPT_TOKENS)]
    prompts = [{"prompt": " ".join(words[i : i + PROMPT_TOKENS])} for i in range(load.requests)]
    (place.results / "prompts.jsonl").write_text("".join(json.dumps(prompt) + "\n" for prompt in prompts))
    data = ["--dataset-name", "custom", "--dataset-path", "prompts.jsonl", "--custom-output-len", str(load.tokens)]
    binary = str(place.packages / "vllm" / "vllm-rs")
    tokenizer = ["--tokenizer", str(place.tokenizer), "--skip-chat-template"]
    return [binary, "bench", "serve", *vllm.flags(load, url), *tokenizer, *data]
