"""How is a server that we did not start put under test? It is asked for one token, and for what it says of itself."""

import http.client
import time
import urllib.parse
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from http import HTTPStatus
from pathlib import Path
from typing import Any, cast

from inferometer.endpoint import Endpoint
from inferometer.engines import ready
from inferometer.errors import RequestWrong, ServerUnusable
from inferometer.record import Fact
from inferometer.spec import Arm

PATIENCE_S = 30.0
LOADING_PAUSE_S = 0.5


class External:
    """A server at `arm.url`. `headers` (a key, say) go with every request and into no fact, message or log."""

    def __init__(self, headers: Mapping[str, str] | None = None, patience_s: float = PATIENCE_S) -> None:
        self._headers = dict(headers or {})
        self._patience_s = patience_s

    def check(self, arm: Arm) -> None:
        base_url_of(arm)

    def start(self, arm: Arm, log_path: Path) -> AbstractContextManager[Endpoint]:
        """Starts nothing and writes no log."""
        return self._answering(arm)

    @contextmanager
    def _answering(self, arm: Arm) -> Iterator[Endpoint]:
        base_url = base_url_of(arm)
        props = ready.props_facts(base_url, self._headers)
        model = arm.model or ready.first_model(base_url, self._headers)
        answer = self._first_token(arm, base_url, model, llama_cpp=bool(props))
        facts = (
            Fact("engine", "external", "the arm"),
            Fact("engine_url", base_url + arm.api_path, "the arm"),
            *([Fact("engine_server_header", answer.server, "the Server header")] if answer.server else []),
            *_version_facts(base_url, self._headers),
            *props,
        )
        yield Endpoint(base_url, arm.api_path, arm.api, model, (), facts, self._headers)

    def _first_token(self, arm: Arm, base_url: str, model: str, *, llama_cpp: bool) -> ready.Answer:
        """The answer with the token. Waits only while the server says that it is loading."""
        body = ready.one_token(arm, model, llama_cpp=llama_cpp)
        patience_s = min(self._patience_s, arm.ready_timeout_s)
        until_s = time.monotonic() + patience_s
        while True:
            left_s = max(until_s - time.monotonic(), 0.1)
            try:
                answer = ready.ask(base_url, arm.api_path, body=body, headers=self._headers, timeout_s=left_s)
            except ConnectionRefusedError as error:
                raise ServerUnusable(
                    f"nothing answers at {base_url}; start the server or check --host/--port"
                ) from error
            except TimeoutError as error:
                raise ServerUnusable(
                    f"{base_url}{arm.api_path} gave no token in {patience_s:g} s; is it busy, or still loading?"
                ) from error
            except (OSError, http.client.HTTPException) as error:
                raise ServerUnusable(f"{base_url} cannot be asked: {str(error) or type(error).__name__}") from error
            if ready.token_came(answer):
                return answer
            if answer.status != ready.LOADING or time.monotonic() + LOADING_PAUSE_S > until_s:
                raise ServerUnusable(self._complaint(arm, base_url, model, answer))
            time.sleep(LOADING_PAUSE_S)

    def _complaint(self, arm: Arm, base_url: str, model: str, answer: ready.Answer) -> str:
        """Why this answer is not one token, and what to try."""
        url = base_url + arm.api_path
        if answer.status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
            return f"{url} wants a key (status {answer.status}): set OPENAI_API_KEY, or send a header with one"
        if answer.status == HTTPStatus.NOT_FOUND:
            return (
                f"{url} answers 404: {answer.shown}\n{self._what_is_there(base_url)}\n"
                "Check the path (--endpoint, `path:` in the study) and the model's name."
            )
        if answer.location:
            return f"{url} sends elsewhere, to {answer.location}: give that address as the url"
        if answer.status == HTTPStatus.OK and answer.json is None:
            kind = answer.content_type.partition(";")[0] or "no content type"
            return f"{url} answers with {kind} instead of JSON: {answer.shown}\nIs this the API's address?"
        named = f" for model {model!r}" if model else ""
        return f"{url} gave no token{named} (status {answer.status}): {answer.shown}"

    def _what_is_there(self, base_url: str) -> str:
        names = ready.model_names(base_url, self._headers)
        if names:
            return f"/v1/models is there, with: {', '.join(names[:5])}"
        try:
            answer = ready.ask(base_url, "/", headers=self._headers, timeout_s=5.0)
        except (OSError, http.client.HTTPException):
            return "/v1/models is not there, and / gives no answer."
        return f"/v1/models names no model; / answers {answer.status}: {answer.shown}"


def base_url_of(arm: Arm) -> str:
    """The arm's url without a trailing slash, and without the /v1 that its path begins with. Raises RequestWrong."""
    url = urllib.parse.urlsplit(arm.url)
    if url.scheme not in ("http", "https") or not url.hostname:
        raise RequestWrong(f"url: {arm.url!r} is no address of a server; write it as http://127.0.0.1:8080")
    if url.username is not None:
        raise RequestWrong("url: leave the name and password out of it; send them as a header")
    path = url.path.rstrip("/")
    if arm.api_path.startswith("/v1/"):
        path = path.removesuffix("/v1")
    return f"{url.scheme}://{url.netloc}{path}"


def _version_facts(base_url: str, headers: Mapping[str, str]) -> tuple[Fact, ...]:
    """vLLM's /version, where it is there."""
    answer = ready.ask_json(base_url, "/version", headers)
    version = cast("dict[str, Any]", answer).get("version") if isinstance(answer, dict) else None
    return () if version is None else (Fact("engine_version", str(version), "/version"),)
