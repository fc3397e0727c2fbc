"""Readiness of a server: a real token, and the models and facts that it reports. Never in the timed path."""

import http
from typing import Any, cast

from inferometer.base.text import sanitize
from inferometer.core import quantities
from inferometer.core.record import Fact
from inferometer.core.spec import Arm
from inferometer.net.http_client import HttpAnswer, Server, ask_json

_NAME_CHARACTERS = 300
LOADING = 503
"""llama-server's answer while it loads the model."""


def one_token(arm: Arm, model: str, *, llama_cpp: bool) -> dict[str, Any]:
    """A request for one token through the arm's own API. On llama.cpp it takes nothing from the prefix cache.

    Its own prompt stays in the slot that served it: a later request shares with it what the chat template puts first.
    """
    body: dict[str, Any] = {"max_tokens": 1, "temperature": 0, "stream": False}
    if model:
        body["model"] = model
    if arm.api == "openai-chat":
        body["messages"] = [{"role": "user", "content": "Say one word."}]
    else:
        body["prompt"] = "One word:"
    if llama_cpp:
        body["cache_prompt"] = False
    return body


def token_came(answer: HttpAnswer) -> bool:
    """True where the answer holds output, or the server counts a token (half a character is a token without text)."""
    body = answer.json
    if answer.status != http.HTTPStatus.OK or not isinstance(body, dict):
        return False
    fields = cast("dict[str, Any]", body)
    usage = fields.get("usage")
    counted = cast("dict[str, Any]", usage).get("completion_tokens") if isinstance(usage, dict) else None
    if isinstance(counted, int) and counted >= 1:
        return True
    choices = fields.get("choices")
    if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
        return False
    choice = cast("dict[str, Any]", choices[0])
    message = choice.get("message")
    said = cast("dict[str, Any]", message) if isinstance(message, dict) else {}
    return any([choice.get("text"), said.get("content"), said.get("reasoning_content"), said.get("tool_calls")])


def first_model(server: Server) -> str:
    """The first name of /v1/models; "" where the server names none."""
    return next(iter(model_names(server)), "")


def model_names(server: Server) -> list[str]:
    """The names of /v1/models in the server's order."""
    listing = ask_json(server, "/v1/models")
    entries = cast("dict[str, Any]", listing).get("data") if isinstance(listing, dict) else None
    if not isinstance(entries, list):
        return []
    models = cast("list[Any]", entries)  # the server's own JSON
    names = (cast("dict[str, Any]", entry).get("id") for entry in models if isinstance(entry, dict))
    return [server.hide(sanitize(name, _NAME_CHARACTERS)) for name in names if isinstance(name, str)]


def props_facts(answer: Any) -> tuple[Fact, ...]:
    """What the JSON of llama.cpp's /props says of the build, the model and the slots; empty where it is another's."""
    if not isinstance(answer, dict):
        return ()
    props = cast("dict[str, Any]", answer)
    defaults = props.get("default_generation_settings")
    told = {
        quantities.ENGINE_BUILD: props.get("build_info"),
        quantities.ENGINE_MODEL_PATH: props.get("model_path"),
        quantities.SLOTS: props.get("total_slots"),
        quantities.SLOT_CONTEXT_TOKENS: cast("dict[str, Any]", defaults).get("n_ctx")
        if isinstance(defaults, dict)
        else None,
    }
    return tuple(
        Fact(name, sanitize(str(value)), "/props")
        for name, value in told.items()
        if value != "" and isinstance(value, str | int | float)
    )
