"""A peer's environment, its load, and the figures that it reported."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

TOKENIZER_NAME = "inferometer/words"  # for tools that want a hub name when offline
PROMPT_TOKENS = 50
_WORDS = ["<unk>", "<s>", "</s>", *(f"tok{i}" for i in range(10)), *(f"w{i}" for i in range(500))]


@dataclass(frozen=True)
class Load:
    """A closed loop: `streams` concurrent requests until `requests` have been answered."""

    streams: int
    requests: int
    tokens: int  # of each answer


@dataclass(frozen=True)
class Reported:
    """The figures that the tool reports, ms and tokens per second; None if it reports none."""

    ttft_p50: float
    ttft_p99: float
    itl_p50: float | None
    itl_p99: float | None
    tokens_per_s: float
    requests: int | None = None  # answered without error


class InstallError(Exception):
    """The package client refused; the message is its last line."""


@dataclass(frozen=True)
class Place:
    """One peer's environment, the tokenizer all share, and an empty folder for one run's results."""

    env: Path
    hub: Path  # a Hugging Face cache that holds one small tokenizer
    results: Path = Path()

    @property
    def tokenizer(self) -> Path:
        return self.hub / f"models--{TOKENIZER_NAME.replace('/', '--')}" / "snapshots" / ("0" * 40)

    @property
    def packages(self) -> Path:
        """Raises StopIteration before `install`."""
        return next(self.env.glob("lib/python*/site-packages"))

    def bin(self, name: str) -> str:
        return str(self.env / "bin" / name)

    def install(self, *arguments: str) -> None:
        """With uv where it is on PATH, else with pip; makes the environment first where there is none."""
        uv = shutil.which("uv")
        if not (self.env / "bin" / "python").exists():
            make = [uv, "venv", "--python", sys.executable] if uv else [sys.executable, "-m", "venv"]
            _quietly([*make, str(self.env)])
        python = self.bin("python")
        client = (
            [uv, "pip", "install", "--compile-bytecode", "--python", python] if uv else [python, "-m", "pip", "install"]
        )
        _quietly([*client, *arguments])

    def install_version(self, package: str, version: str, *options: str) -> None:
        """The pinned version, or the newest where the registry does not have it: `version_of` says which it is."""
        try:
            self.install(f"{package}=={version}", *options)
        except InstallError:
            self.install(package, *options)

    def version_of(self, package: str) -> str | None:
        for folder in self.packages.glob(f"{package.replace('-', '_')}-*.dist-info"):
            return folder.name.removesuffix(".dist-info").split("-")[1]
        return None


def prompts(count: int) -> list[str]:
    """For tools whose own random prompts will not do; one in 500 is the same."""
    return [" ".join(f"w{word % 500}" for word in range(start, start + PROMPT_TOKENS)) for start in range(count)]


def read_json(path: Path) -> dict:
    """The first line where the file holds several results; raises FileNotFoundError where the tool wrote none."""
    text = path.read_text()
    return json.loads(text if path.suffix == ".json" else text.splitlines()[0])


def vllm_result(result: dict) -> Reported:
    """vLLM's JSON, whose keys SGLang and Inferometer write too."""
    itl = (result.get("median_itl_ms"), result.get("p99_itl_ms"))
    ttft = (result["median_ttft_ms"], result["p99_ttft_ms"])
    return Reported(*ttft, *itl, result["output_throughput"], result["completed"])


def write_tokenizer(place: Place) -> None:
    """Whole words only, including every word of the truth server's answers, so that all tools count the same tokens."""
    special = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    tokenizer = {
        "version": "1.0",
        "added_tokens": [{"id": i, "content": word, **special} for i, word in enumerate(_WORDS[:3])],
        "pre_tokenizer": {"type": "Whitespace"},
        "model": {"type": "WordLevel", "vocab": {w: i for i, w in enumerate(_WORDS)}, "unk_token": "<unk>"},
        **dict.fromkeys(["truncation", "padding", "normalizer", "post_processor", "decoder"]),
    }
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "unk_token": "<unk>",
        "bos_token": "<s>",
        "eos_token": "</s>",
        "model_max_length": 100_000,
        "chat_template": "{% for message in messages %}{{ message['content'] }}{% endfor %}",
    }
    model = {"model_type": "llama", "architectures": ["LlamaForCausalLM"], "vocab_size": len(_WORDS)}
    place.tokenizer.mkdir(parents=True, exist_ok=True)
    for name, content in [("tokenizer", tokenizer), ("tokenizer_config", config), ("config", model)]:
        (place.tokenizer / f"{name}.json").write_text(json.dumps(content))
    references = place.tokenizer.parent.parent / "refs"
    references.mkdir(exist_ok=True)
    (references / "main").write_text(place.tokenizer.name)


def _quietly(command: list[str]) -> None:
    nice = shutil.which("nice")
    environment = {"UV_SYSTEM_CERTS": "true", **os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    environment.pop("PYTHONPATH", None)
    command = [nice, *command] if nice else command
    done = subprocess.run(command, env=environment, check=False, capture_output=True, text=True)
    if done.returncode:
        raise InstallError((done.stderr.strip() or done.stdout.strip() or "no output").splitlines()[-1])
