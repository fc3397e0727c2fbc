"""Readiness of a server: a real token, and the models and facts that it reports. Never in the timed path."""

import http
from collections.abc import Sequence
from typing import Any, NamedTuple, cast

from inferometer.base.errors import RequestWrong
from inferometer.base.text import sanitize
from inferometer.core import quantities
from inferometer.core.record import Fact
from inferometer.core.request import user_request
from inferometer.core.spec import Arm, Sampling
from inferometer.engines.refused_fields import is_refusal, refused_field, refuses_the_limit
from inferometer.load.event_decoding import OUTPUT_OF, EventReader
from inferometer.load.request_encoding import LEARNT_FIELDS, request_body
from inferometer.load.sse import events, looks_like_events
from inferometer.load.unstreamed import events_of_json
from inferometer.net.http_client import HttpAnswer, Server, ask, ask_json

_NAME_CHARACTERS = 300
_MOST_NAMES = 20
LOADING = 503
"""llama-server's answer while it loads the model."""
_ENOUGH_TOKENS = 64
"""For a server that refuses a limit of one token: it wants 16, or thinks first."""
_REFUSALS = frozenset({200, 400, 422, 500, 501})
"""Statuses with which servers refuse a field; some send the error in a stream with status 200."""


class FirstToken(NamedTuple):
    """The answer to a request for one token. `said`: the server's own words. `refused`: the fields that the server
    refused before, in that order."""

    answer: HttpAnswer
    came: bool
    said: str = ""
    refused: tuple[str, ...] = ()


def ask_for_token(
    server: Server,
    arm: Arm,
    model: str,
    sampling: Sampling,
    *,
    timeout_s: float,
    llama_cpp: bool = False,
    refused: tuple[str, ...] = (),
) -> FirstToken:
    """The answer to a request for one token. A field that the server refuses is left out of a second request; a server
    to which one token is too few is asked for more.

    Raises OSError or HTTPException, as `ask` does.
    """
    limit = 1
    while True:
        body = one_token(arm, model, sampling, llama_cpp=llama_cpp, refused=refused, limit=limit)
        answer = ask(server, arm.api_path, body=body, timeout_s=timeout_s)
        came = token_came(answer, arm.api)
        ours = [name for name in LEARNT_FIELDS if name in body and name not in sampling.extra_body]
        is_error = not came and answer.status in _REFUSALS
        field = refused_field(answer.body, ours) if is_error else ""
        if is_error and not field and limit == 1 and refuses_the_limit(answer.body):
            limit = _ENOUGH_TOKENS
            continue
        if not field:
            return FirstToken(answer, came, _said(answer, server, arm.api), refused)
        refused = (*refused, field)


def one_token(
    arm: Arm, model: str, sampling: Sampling, *, llama_cpp: bool, refused: tuple[str, ...] = (), limit: int = 1
) -> dict[str, Any]:
    """A request for one token, with the fields of the load's requests. On llama.cpp it takes nothing from the prefix
    cache.

    Its prompt stays in the slot that served it, so a later request shares the beginning of the chat template with it.
    """
    text = "Say one word." if arm.api == "openai-chat" else "One word:"
    body = request_body(user_request("first-token", text, max_tokens=limit), sampling, arm.api, model, refused)
    if llama_cpp:
        body["cache_prompt"] = False
    return body


def token_came(answer: HttpAnswer, api: str) -> bool:
    """True where the answer holds output, or the server counts a token (half a character is a token without text).

    A server may stream whatever it is asked for, or never stream.
    """
    if answer.status != http.HTTPStatus.OK:
        return False
    reader = EventReader()
    whole = [(0, answer.body)]
    reader.read_events(events_of_json(whole) or events(whole), OUTPUT_OF[api], 0)
    counted = reader.usage.completion_tokens if reader.usage else None
    return not reader.server_error and (bool(reader.events().outputs_ns()) or (counted or 0) >= 1)


def _said(answer: HttpAnswer, server: Server, api: str) -> str:
    """The server's own words in an answer without a token."""
    reader = EventReader()
    if answer.json is None and looks_like_events(answer.body):
        reader.read_events(events([(0, answer.body)]), OUTPUT_OF[api], 0)
    return server.hide(reader.server_error) or answer.shown


def refused_facts(refused: Sequence[str]) -> tuple[Fact, ...]:
    """A fact with the fields that the server refused; empty where it refused none."""
    return (Fact(quantities.REFUSED_FIELDS, ", ".join(refused), "the first token"),) if refused else ()


def leave_out_advice(answer: HttpAnswer) -> str:
    """How to leave out a field that the server refuses; "" where the answer says something else."""
    is_client_error = answer.status in (http.HTTPStatus.BAD_REQUEST, http.HTTPStatus.UNPROCESSABLE_ENTITY)
    return f"\n{LEAVE_OUT}" if is_client_error and is_refusal(answer.body) else ""


LEAVE_OUT = (
    "If the server refuses a field of the request, leave it out: --extra-body '{\"FIELD\": null}' (in a study file: "
    "sampling: {extra_body: {FIELD: null}})."
)


def first_model(server: Server) -> str:
    """The first name of /v1/models; "" if the server names none."""
    return next(iter(model_names(server)), "")


def only_model(server: Server) -> str:
    """The server's model; "" where it names none. Names with one `root` are names of one model, and the first is taken.

    Raises RequestWrong where the server has several models: the first may be small, or make embeddings.
    """
    entries = _models(server)
    names = [name for name, _ in entries]
    roots = {root for _, root in entries}
    if len(names) > 1 and (len(roots) > 1 or None in roots):
        raise RequestWrong(
            f"{server.target.shown} has {len(names)} models, and none is named: {', '.join(names[:_MOST_NAMES])}"
            f"{', …' if len(names) > _MOST_NAMES else ''}. Name the one to measure (--model, or model: in the arm)."
        )
    return names[0] if names else ""


def model_names(server: Server) -> list[str]:
    """The names of /v1/models in the server's order."""
    return [name for name, _ in _models(server)]


def _models(server: Server) -> list[tuple[str, str | None]]:
    """Name and `root` of each entry of /v1/models; an adapter has another root than its model."""
    listing = ask_json(server, "/v1/models")
    entries = cast("dict[str, Any]", listing).get("data") if isinstance(listing, dict) else listing
    if not isinstance(entries, list):
        return []
    found: list[tuple[str, str | None]] = []
    for entry in cast("list[Any]", entries):  # the server's own JSON
        fields = cast("dict[str, Any]", entry) if isinstance(entry, dict) else {}
        if isinstance(name := fields.get("id"), str):
            root = fields.get("root")
            is_base = isinstance(root, str) and not fields.get("parent")
            found.append((sanitize(server.hide(name), _NAME_CHARACTERS), root if is_base else None))
    return found


def props_facts(answer: Any) -> tuple[Fact, ...]:
    """Build, model and slots from the JSON of llama.cpp's /props; empty if `answer` is not a JSON object."""
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
