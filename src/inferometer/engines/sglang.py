"""The engine `sglang`: `sglang serve`, or `python -m sglang.launch_server`, with SGLang's own form of a draft."""

from collections.abc import Sequence
from typing import Any, ClassVar

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
from inferometer.engines.process import Launch, shown_command
from inferometer.engines.requested_settings import requested_settings
from inferometer.engines.vllm import is_python

MODULE = "sglang.launch_server"
ADVICE = (
    "Install it (pip install sglang) or give its path (binary: /path/to/venv/bin/sglang). Versions without `sglang "
    "serve` are started by their Python: binary: /path/to/venv/bin/python."
)
OTHER_DRAFTS = (
    "For EAGLE, MTP and n-grams leave `draft:` out, and write --speculative-algorithm and its like into args as SGLang "
    "has them."
)

DRAFT_FLAGS = ("--speculative-algorithm",)
METRIC_NAMES = {
    quantities.SPEC_STEPS_TOTAL: ("sglang:spec_verify_calls_total",),
    quantities.KV_CACHE_USAGE_PERCENT: ("sglang:token_usage",),
    quantities.REQUESTS_RUNNING: ("sglang:num_running_reqs",),
    quantities.REQUESTS_WAITING: ("sglang:num_queue_reqs",),
}
"""As of SGLang 0.5, which counts speculative steps but not tokens: `spec_accept_length` and `spec_accept_rate` are
gauges of the latest batches."""


def _arm_of_command(words: Sequence[str]) -> dict[str, Any] | None:
    return arm_of_serve_command(words, "sglang", (MODULE,), "--model-path", "--model")


class SgLang(Command):
    """SGLang's OpenAI server. A key given to it (--api-key) is sent."""

    description: ClassVar = EngineDescription(
        name="sglang",
        summary="SGLang's OpenAI server (`sglang serve`)",
        draft_flags=DRAFT_FLAGS,
        metric_names=METRIC_NAMES,
        inspect=program_on_path("sglang", f"pip install sglang {OWN_ENVIRONMENT}"),
        arm_of_command=_arm_of_command,
    )

    def launch(self, arm: Arm) -> Launch:
        if arm.command:
            return super().launch(arm)
        visible_devices.require_visible(arm.env)
        arm = in_place(arm)
        require_quotes(arm.args)
        facts = source_facts(arm, "sglang")
        binary = program(arm, "sglang", ADVICE)
        address = address_of(arm)
        begin = (binary, "-m", MODULE) if is_python(binary) else (binary, "serve")
        metrics = () if "--enable-metrics" in arm.args else ("--enable-metrics",)
        draft = () if arm.draft is None else draft_flags(arm.draft)
        command = (*begin, "--model-path", arm.model, *listening_flags(arm, address), *metrics, *draft, *arm.args)
        key = given(arm.args, "--api-key")
        return Launch(
            name="sglang",
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


def draft_flags(draft: Draft) -> list[str]:
    """Flags for a separate draft model that drafts a chain of `n_max` tokens.

    STANDALONE needs all three numbers. With a top-k of 1, SGLang verifies the drafted tokens and the one before them,
    so the last number is steps + 1. Raises RequestWrong for settings that SGLang does not have.
    """
    require_plain(draft, "sglang", OTHER_DRAFTS)
    steps = draft.n_max or 0  # require_plain refuses a missing n_max
    return [
        *("--speculative-algorithm", "STANDALONE"),
        *("--speculative-draft-model-path", draft.model),
        *("--speculative-num-steps", str(steps)),
        *("--speculative-eagle-topk", "1"),
        *("--speculative-num-draft-tokens", str(steps + 1)),
    ]
