"""The engine `vllm`: `vllm serve`, or its module by a Python, with a draft in the form of the installed version."""

import json
import re
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

from inferometer.base.errors import RequestWrong
from inferometer.core import quantities
from inferometer.core.record import Fact
from inferometer.core.spec import Arm, Draft
from inferometer.engines import visible_devices
from inferometer.engines.base import EngineDescription, program_on_path
from inferometer.engines.command import Command
from inferometer.engines.command_line import address_of, given, in_place, listening_flags, program
from inferometer.engines.hugging_face import (
    OWN_ENVIRONMENT,
    arm_of_serve_command,
    require_plain,
    require_quotes,
    source_facts,
)
from inferometer.engines.process import Launch, environment, shown_command
from inferometer.engines.requested_settings import requested_settings

VERSION_TIMEOUT_S = 180.0
"""vLLM imports torch before it prints its version."""
MODULE = "vllm.entrypoints.openai.api_server"
JSON_SINCE = (0, 8)
DRAFTS_GONE = ((0, 10), (0, 14))
"""From the first version until before the second, a draft model raises NotImplementedError (vllm-project/vllm issues
21797 and 31883; drafts came back with pull request 24322)."""
ADVICE = "Install it (pip install vllm) or give its path (binary: /path/to/venv/bin/vllm, or that venv's python)."
OTHER_DRAFTS = (
    "For EAGLE, MTP, n-grams and the rest leave `draft:` out, and write --speculative-config into args as vLLM has it."
)

DRAFT_FLAGS = ("--speculative-config", "--speculative_config", "--speculative-model")
METRIC_NAMES = {
    quantities.SPEC_DRAFT_TOKENS_TOTAL: ("vllm:spec_decode_num_draft_tokens_total",),
    quantities.SPEC_ACCEPTED_TOKENS_TOTAL: ("vllm:spec_decode_num_accepted_tokens_total",),
    quantities.SPEC_STEPS_TOTAL: ("vllm:spec_decode_num_drafts_total",),
    quantities.KV_CACHE_USAGE_PERCENT: ("vllm:kv_cache_usage_perc", "vllm:gpu_cache_usage_perc"),
    quantities.REQUESTS_RUNNING: ("vllm:num_requests_running",),
    quantities.REQUESTS_WAITING: ("vllm:num_requests_waiting",),
}
"""As of vLLM 0.32; earlier versions use the second name of the KV cache gauge."""


def _arm_of_command(words: Sequence[str]) -> dict[str, Any] | None:
    return arm_of_serve_command(words, "vllm", (MODULE, "vllm.entrypoints.cli.main"), "--model")


class Vllm(Command):
    """vLLM's OpenAI server. A key given to it (--api-key, VLLM_API_KEY) is sent."""

    description: ClassVar = EngineDescription(
        name="vllm",
        summary="vLLM's OpenAI server (`vllm serve`)",
        draft_flags=DRAFT_FLAGS,
        metric_names=METRIC_NAMES,
        inspect=program_on_path("vllm", f"pip install vllm {OWN_ENVIRONMENT}"),
        arm_of_command=_arm_of_command,
    )

    def launch(self, arm: Arm) -> Launch:
        if arm.command:
            return super().launch(arm)
        visible_devices.require_visible(arm.env)
        arm = in_place(arm)
        require_quotes(arm.args)
        facts = source_facts(arm, "vllm")
        binary = program(arm, "vllm", ADVICE)
        draft: list[str] = []
        if arm.draft is not None:
            require_plain(arm.draft, "vllm", OTHER_DRAFTS)
            draft = draft_flags(arm.draft, _version(binary, arm))
        address = address_of(arm)
        begin = (binary, "-m", MODULE, "--model") if is_python(binary) else (binary, "serve")
        command = (*begin, arm.model, *listening_flags(arm, address), *draft, *arm.args)
        key = given(arm.args, "--api-key") or arm.env.get("VLLM_API_KEY", "")
        return Launch(
            name="vllm",
            command=command,
            shown=shown_command(command, arm.env),
            base_url=address.base_url,
            env=arm.env,
            headers={**self.headers, **({"Authorization": f"Bearer {key}"} if key else {})},
            facts=(
                Fact(quantities.ENGINE, self.description.name, "the arm"),
                *facts,
                *requested_settings(arm, DRAFT_FLAGS),
            ),
            model=given(arm.args, "--served-model-name") or arm.model,
            cwd=arm.cwd,
        )


def is_python(binary: str) -> bool:
    """Whether the binary is a Python interpreter, which needs `-m MODULE`, not the engine's own program."""
    return re.fullmatch(r"(python|pypy)[\d.]*", Path(binary).name) is not None


def draft_flags(draft: Draft, version: tuple[int, int]) -> list[str]:
    """Flags for a draft model in this version's form. Raises RequestWrong for a version without draft models."""
    gone, back = DRAFTS_GONE
    if gone <= version < back:
        raise RequestWrong(
            f"vLLM {version[0]}.{version[1]} cannot speculate with a draft model: it was taken out in "
            f"{gone[0]}.{gone[1]} and came back after {back[0]}.{back[1] - 1}. Take another version. {OTHER_DRAFTS}"
        )
    if version < JSON_SINCE:
        return ["--speculative-model", draft.model, "--num-speculative-tokens", str(draft.n_max)]
    config = {"method": "draft_model", "model": draft.model, "num_speculative_tokens": draft.n_max}
    return ["--speculative-config", json.dumps(config)]


def version_of(text: str) -> tuple[int, int] | None:
    """Major and minor version from the output of `vllm --version`, which may begin with warnings."""
    found = re.findall(r"^(?:vllm )?(\d+)\.(\d+)[\w.+-]*$", text, re.MULTILINE)
    return (int(found[-1][0]), int(found[-1][1])) if found else None


def _version(binary: str, arm: Arm) -> tuple[int, int]:
    """The installed version, read only for the draft's form, because it takes seconds. Raises RequestWrong."""
    asked = [binary, "-c", "import vllm; print(vllm.__version__)"] if is_python(binary) else [binary, "--version"]
    try:
        done = subprocess.run(
            asked,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            env=environment(arm.env),
            timeout=VERSION_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise RequestWrong(f"binary: {binary} does not say its version: {error}. {ADVICE}") from error
    version = version_of(done.stdout)
    if version is None:
        said = " ".join(f"{done.stdout} {done.stderr}".split())[-300:] or "nothing"
        raise RequestWrong(f"binary: {binary} is not vLLM: it answers --version with: {said}. {ADVICE}")
    return version
