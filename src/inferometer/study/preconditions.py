"""Conditions that a study needs before it starts: servers that load workers can reach, and the machine it began on."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from inferometer.base.errors import RequestWrong, ServerUnusable
from inferometer.core import quantities
from inferometer.core.plan import Plan
from inferometer.core.record import Fact
from inferometer.core.request import Request
from inferometer.core.spec import Arm
from inferometer.net.target import is_local


def require_reachable(arms: Mapping[str, Arm]) -> None:
    """Raises RequestWrong for an arm that only this host can reach."""
    for name, arm in arms.items():
        if not arm.runs_already:
            raise RequestWrong(
                f"--ray sends the requests from other machines, and arm {name} is an engine that Inferometer starts on "
                "127.0.0.1, where other machines cannot reach it. Start the server yourself on an address that they "
                "can reach, and give it with `engine: external` and `url:`."
            )
        if is_local(arm.url):
            raise RequestWrong(
                f"--ray sends the requests from other machines, and arm {name}'s {arm.url} means a different server on "
                "each of them. Give an address at which all of them reach this server."
            )


def require_tokenizer(name: str) -> None:
    """Raises RequestWrong where the name of a tokenizer is a path, and nothing is there."""
    if name.startswith(("/", ".", "~")) and not Path(name).expanduser().exists():
        raise RequestWrong(
            f"tokenizer: there is no file or folder {name}. Give a folder that holds tokenizer.json, a Hugging Face "
            "name, `server` or `none`."
        )


def require_same_machine(before: Sequence[Fact], now: Sequence[Fact]) -> None:
    """Raises RequestWrong where a study would continue on another CPU or GPU. `before` is empty for a new study."""
    known = {fact.name: fact.value for fact in now}
    for fact in before:
        if fact.name == quantities.CPU or fact.name.startswith("gpu_"):
            here = known.get(fact.name, "none")
            if here != fact.value:
                raise RequestWrong(
                    f"this study began on another machine: its {fact.name} is {fact.value}, and here it is {here}. "
                    "Trials from two machines cannot be compared. Run the whole study here with another --out."
                )


def require_context(plan: Plan, facts: Sequence[Fact]) -> None:
    """Raises ServerUnusable where the engine reports a context that cannot hold the longest request of the plan. The
    chat template comes on top of a prompt's tokens: a plan that passes may still be too long by a few tokens."""
    known = {fact.name: fact.value for fact in facts}
    context = known.get(quantities.SLOT_CONTEXT_TOKENS, known.get(quantities.EFFECTIVE_CONTEXT, ""))
    if not context.isdecimal() or int(context) == 0:
        return
    longest = max(plan.measured, key=lambda item: _tokens(item.request), default=None)
    if longest is None or _tokens(longest.request) <= int(context):
        return
    request = longest.request
    prompt = "unknown" if request.prompt_tokens is None else request.prompt_tokens
    raise ServerUnusable(
        f"the context of {context} tokens per request is smaller than the longest request: {request.id} has {prompt} "
        f"prompt tokens and asks for {request.max_tokens or 0} output tokens. Give a larger context, fewer output "
        "tokens or shorter prompts."
    )


def _tokens(request: Request) -> int:
    """The least number of tokens that the request needs; without a tokenizer, those of its answer."""
    return (request.prompt_tokens or 1) + (request.max_tokens or 0)
