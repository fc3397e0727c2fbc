"""The engine `transformers`: Hugging Face's `transformers serve` (run with 5.24)."""

import functools
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

from inferometer.base.errors import RequestWrong
from inferometer.base.text import sanitize
from inferometer.core import quantities
from inferometer.core.record import Fact
from inferometer.core.spec import Arm
from inferometer.engines import visible_devices
from inferometer.engines.base import EngineDescription, program_on_path
from inferometer.engines.command import Command
from inferometer.engines.command_line import address_of, in_place, listening_flags, program
from inferometer.engines.hugging_face import OWN_ENVIRONMENT, arm_of_serve_command, source_facts
from inferometer.engines.process import Launch, environment, shown_command
from inferometer.engines.requested_settings import requested_settings
from inferometer.engines.vllm import is_python

ADVICE = (
    "Install it (pip install 'transformers[serving]') or give its path (binary: /path/to/venv/bin/transformers, or "
    "that venv's python)."
)
MODULE = "transformers.cli.transformers"
OUTPUT_TIMEOUT_S = 180.0
"""For `version` and `serve --help`, which import torch first."""


def _arm_of_command(words: Sequence[str]) -> dict[str, Any] | None:
    return arm_of_serve_command(words, "transformers", (MODULE,), "--force-model")


class Transformers(Command):
    """The server takes no key. Its /v1/models lists the models of the local cache, not the one that it serves."""

    description: ClassVar = EngineDescription(
        name="transformers",
        summary="Hugging Face's OpenAI server (`transformers serve`)",
        inspect=program_on_path("transformers", f"pip install 'transformers[serving]' {OWN_ENVIRONMENT}"),
        arm_of_command=_arm_of_command,
    )

    def launch(self, arm: Arm) -> Launch:
        if arm.command:
            return super().launch(arm)
        if arm.draft is not None:
            raise RequestWrong(
                "draft: transformers serve cannot load a draft model; its assisted generation takes a draft model only "
                "from Python. For a draft model use engine: llama-server, vllm or sglang. For drafts from the prompt "
                "leave `draft:` out, and give sampling: {extra_body: {generation_config: "
                "'{\"prompt_lookup_num_tokens\": 5}'}} in a study without it and in one with it."
            )
        visible_devices.require_visible(arm.env)
        arm = in_place(arm)
        facts = source_facts(arm, self.description.name)
        binary = program(arm, "transformers", ADVICE)
        version = _output(binary, "version", arm).strip().splitlines()[-1:]
        takes_flag = "--force-model" in _output(binary, "serve --help", arm)
        model = ("--force-model", arm.model) if takes_flag else (arm.model,)
        address = address_of(arm)
        command = (*_program(binary), "serve", *model, *listening_flags(arm, address), *arm.args)
        return Launch(
            name=self.description.name,
            command=command,
            shown=shown_command(command, arm.env),
            base_url=address.base_url,
            env=arm.env,
            headers=self.headers,
            facts=(
                Fact(quantities.ENGINE, self.description.name, "the arm"),
                *(Fact(quantities.ENGINE_VERSION, sanitize(line, 100), "transformers version") for line in version),
                *facts,
                *requested_settings(arm, self.description.draft_flags),
            ),
            model=arm.model,
            cwd=arm.cwd,
            lists_other_models=True,
        )


def _program(binary: str) -> tuple[str, ...]:
    return (binary, "-m", MODULE) if is_python(binary) else (binary,)


def _output(binary: str, words: str, arm: Arm) -> str:
    """What the program prints. Raises RequestWrong if it fails: an old version, or the serving extras are missing."""
    changed_ns = Path(binary).stat().st_mtime_ns if Path(binary).exists() else 0
    return _cached_output(binary, changed_ns, words, tuple(sorted(arm.env.items())))


@functools.cache
def _cached_output(binary: str, changed_ns: int, words: str, env: tuple[tuple[str, str], ...]) -> str:
    """`changed_ns` distinguishes a program from an earlier one at the same path."""
    try:
        done = subprocess.run(
            [*_program(binary), *words.split()],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            env=environment(dict(env)),
            timeout=OUTPUT_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise RequestWrong(f"binary: {binary} {words} failed: {error}. {ADVICE}") from error
    if done.returncode != 0:
        said = sanitize(" ".join(f"{done.stdout} {done.stderr}".split())[-300:]) or "nothing"
        raise RequestWrong(
            f"binary: {binary} {words} ended with exit code {done.returncode} and printed: {said}. {ADVICE}"
        )
    return done.stdout
