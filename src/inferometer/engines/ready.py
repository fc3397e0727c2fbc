"""Does a server give a real token, and what does it say of itself? Small HTTP questions; none in the timed path."""

import http.client
import json
import urllib.parse
from collections.abc import Mapping
from typing import Any, cast

import msgspec

from inferometer.record import Fact
from inferometer.spec import Arm

LOADING = 503
"""llama-server's answer while it loads the model."""

SHOWN_CHARACTERS = 200


class Answer(msgspec.Struct, frozen=True):
    """What came back. `server` is the Server header, "" where there was none."""

    status: int
    body: bytes
    content_type: str = ""
    server: str = ""
    location: str = ""

    @property
    def text(self) -> str:
        return self.body.decode(errors="replace")

    @property
    def json(self) -> Any:
        """The body as JSON; None where it is none. It is the server's own: any JSON."""
        try:
            return msgspec.json.decode(self.body)
        except msgspec.DecodeError:
            return None

    @property
    def shown(self) -> str:
        """An excerpt for an error message: an error object's own message, else the first characters."""
        answer = self.json
        if isinstance(answer, dict):
            error = cast("dict[str, Any]", answer).get("error", cast("dict[str, Any]", answer))
            message = cast("dict[str, Any]", error).get("message") if isinstance(error, dict) else error
            if isinstance(message, str) and message:
                return message[:SHOWN_CHARACTERS]
        return " ".join(self.text.split())[:SHOWN_CHARACTERS] or "an empty body"


def ask(
    base_url: str, path: str, *, body: dict[str, Any] | None = None, headers: Mapping[str, str], timeout_s: float
) -> Answer:
    """GET, or POST where there is a `body`. Raises OSError (refused, timeout) or http.client.HTTPException."""
    url = urllib.parse.urlsplit(base_url)
    secure = url.scheme == "https"
    connect = http.client.HTTPSConnection if secure else http.client.HTTPConnection
    connection = connect(url.hostname or "", url.port, timeout=timeout_s)
    try:
        content = None if body is None else json.dumps(body)
        sent = {
            "Accept": "application/json",
            **({} if body is None else {"Content-Type": "application/json"}),
            **headers,
        }
        connection.request("GET" if body is None else "POST", url.path + path, content, sent)
        response = connection.getresponse()
        header = response.headers.get
        return Answer(
            response.status,
            response.read(),
            content_type=header("Content-Type", ""),
            server=header("Server", ""),
            location=header("Location", ""),
        )
    finally:
        connection.close()


def ask_json(base_url: str, path: str, headers: Mapping[str, str], timeout_s: float = 5.0) -> Any:
    """The JSON at `path`; None where there is none. Any JSON: it is the server's own."""
    try:
        answer = ask(base_url, path, headers=headers, timeout_s=timeout_s)
    except (OSError, http.client.HTTPException):
        return None
    return answer.json if answer.status == http.HTTPStatus.OK else None


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


def token_came(answer: Answer) -> bool:
    """True where the answer holds output, or the server counts a token (half a character is a token without text)."""
    body = answer.json
    if answer.status != http.HTTPStatus.OK or not isinstance(body, dict):
        return False
    fields = cast("dict[str, Any]", body)
    usage = fields.get("usage")
    if isinstance(usage, dict) and (cast("dict[str, Any]", usage).get("completion_tokens") or 0) >= 1:
        return True
    choices = fields.get("choices")
    if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
        return False
    choice = cast("dict[str, Any]", choices[0])
    said = cast("dict[str, Any]", choice.get("message") or {})
    return any([choice.get("text"), said.get("content"), said.get("reasoning_content"), said.get("tool_calls")])


def first_model(base_url: str, headers: Mapping[str, str]) -> str:
    """The first name of /v1/models; "" where the server names none."""
    return next(iter(model_names(base_url, headers)), "")


def model_names(base_url: str, headers: Mapping[str, str]) -> list[str]:
    """The names of /v1/models in the server's order."""
    listing = ask_json(base_url, "/v1/models", headers)
    entries = cast("dict[str, Any]", listing).get("data") if isinstance(listing, dict) else None
    if not isinstance(entries, list):
        return []
    models = cast("list[Any]", entries)  # the server's own JSON
    return [str(cast("dict[str, Any]", entry)["id"]) for entry in models if isinstance(entry, dict) and "id" in entry]


def props_facts(base_url: str, headers: Mapping[str, str]) -> tuple[Fact, ...]:
    """What llama.cpp's /props says of the build, the model and the slots; empty where the server is another."""
    answer = ask_json(base_url, "/props", headers)
    if not isinstance(answer, dict):
        return ()
    props = cast("dict[str, Any]", answer)
    defaults = props.get("default_generation_settings")
    told = {
        "engine_build": props.get("build_info"),
        "engine_model_path": props.get("model_path"),
        "slots": props.get("total_slots"),
        "slot_context_tokens": cast("dict[str, Any]", defaults).get("n_ctx") if isinstance(defaults, dict) else None,
    }
    return tuple(Fact(name, str(value), "/props") for name, value in told.items() if value not in (None, ""))
