"""The engine `external`: a server that runs already. Requests one token and the facts that the server reports."""

import http.client
import re
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from http import HTTPStatus
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import urlsplit

from inferometer.base.errors import RequestWrong, ServerUnusable
from inferometer.base.text import sanitize
from inferometer.core import quantities
from inferometer.core.endpoint import Endpoint
from inferometer.core.record import Fact
from inferometer.core.redaction import redacted_text
from inferometer.core.spec import Arm, Sampling
from inferometer.engines import readiness
from inferometer.engines.base import DEFAULT_SAMPLING, EngineDescription, OnSpawn, unwatched
from inferometer.engines.command_words import take
from inferometer.engines.process_group import is_alive
from inferometer.engines.readiness import FirstToken
from inferometer.engines.server_facts import server_facts
from inferometer.load.sse import looks_like_events
from inferometer.net.http_client import Server, Unreachable, ask, ask_json, server_at
from inferometer.net.target import Unix, is_local, target_of

PATIENCE_S = 30.0
LOADING_PAUSE_S = 0.5
CONTAINER_TOOLS = ("docker", "podman")
INSPECT_TIMEOUT_S = 20.0


def _arm_of_command(words: Sequence[str]) -> dict[str, Any] | None:
    """`URL [--model NAME] [--insecure]`."""
    if not words or urlsplit(words[0]).scheme not in ("http", "https", "unix"):
        return None
    model, others = take(words[1:], "-m", "--model")
    unknown = [word for word in others if word != "--insecure"]
    if unknown:
        raise RequestWrong(
            f"{words[0]}: {' '.join(unknown)} cannot be given to a server that is already running. Known: "
            "--model NAME, --insecure."
        )
    return {"url": words[0], "model": model, "insecure": bool(others)}


class External:
    """A server at `arm.url`. `headers`, such as a key, go with every request, and never into a fact, message or log."""

    description: ClassVar = EngineDescription(
        name="external",
        summary="a server that runs already, at `url`",
        is_started=False,
        needs_model=False,
        takes_command=False,
        arm_of_command=_arm_of_command,
    )

    def __init__(self, headers: Mapping[str, str] | None = None, patience_s: float = PATIENCE_S) -> None:
        self._headers = dict(headers or {})
        self._patience_s = patience_s

    def check(self, arm: Arm) -> None:
        self._server(arm)
        process_ids(arm)
        path = arm.api_path
        if not (path.startswith("/") and path.isascii() and path.isprintable()) or " " in path:
            raise RequestWrong(
                f"the path {redacted_text(path)!r} must begin with / and be ASCII without blanks, as /v1/completions"
            )

    def start(
        self, arm: Arm, log_path: Path, on_spawn: OnSpawn = unwatched, sampling: Sampling = DEFAULT_SAMPLING
    ) -> AbstractContextManager[Endpoint]:
        """Starts nothing and writes no log."""
        return self._answering(arm, sampling)

    def facts_at_end(self, endpoint: Endpoint) -> tuple[Fact, ...]:
        return ()

    def _server(self, arm: Arm) -> Server:
        return server_at(base_url_of(arm), self._headers, not arm.insecure, ca_file_of(arm))

    @contextmanager
    def _answering(self, arm: Arm, sampling: Sampling) -> Iterator[Endpoint]:
        base_url = base_url_of(arm)
        server = self._server(arm)
        props = ask_json(server, "/props")
        model = arm.model or readiness.only_model(server)
        first = self._first_token(arm, base_url, server, model, sampling, llama_cpp=isinstance(props, dict))
        answer = first.answer
        proxy = server.target.shown_proxy
        facts = (
            Fact(quantities.ENGINE, self.description.name, "the arm"),
            Fact(quantities.ENGINE_URL, base_url + redacted_text(arm.api_path), "the arm"),
            *([Fact(quantities.ENGINE_PROXY, proxy, "the environment")] if proxy else []),
            *([Fact(quantities.ENGINE_SERVER_HEADER, answer.server, "the Server header")] if answer.server else []),
            *readiness.refused_facts(first.refused),
            *server_facts(server),
        )
        yield Endpoint(
            base_url,
            arm.api_path,
            arm.api,
            model,
            process_ids(arm),
            facts=facts,
            headers=self._headers,
            verify=not arm.insecure,
            ca_file=ca_file_of(arm),
            refused=first.refused,
        )

    def _first_token(
        self, arm: Arm, base_url: str, server: Server, model: str, sampling: Sampling, *, llama_cpp: bool
    ) -> FirstToken:
        """The answer with the token. Waits only while the server says that it is loading."""
        patience_s = min(self._patience_s, arm.ready_timeout_s)
        until_s = time.monotonic() + patience_s
        while True:
            left_s = max(until_s - time.monotonic(), 0.1)
            try:
                first = readiness.ask_for_token(server, arm, model, sampling, timeout_s=left_s, llama_cpp=llama_cpp)
            except (ConnectionRefusedError, FileNotFoundError) as error:  # the latter: there is no such Unix socket
                raise ServerUnusable(_nothing_there(base_url, server)) from error
            except TimeoutError as error:
                raise ServerUnusable(
                    f"{base_url}{redacted_text(arm.api_path)}{_through(server)} gave no token in {patience_s:g} s; "
                    "is it busy, or still loading?"
                ) from error
            except Unreachable as error:
                raise ServerUnusable(str(error)) from error
            except (OSError, http.client.HTTPException) as error:
                said = sanitize(server.hide(str(error))) or type(error).__name__
                raise ServerUnusable(f"{base_url}{_through(server)} cannot be asked: {said}") from error
            if first.came:
                return first
            if first.answer.status != readiness.LOADING or time.monotonic() + LOADING_PAUSE_S > until_s:
                raise ServerUnusable(_complaint(arm, base_url, server, model, first))
            time.sleep(LOADING_PAUSE_S)


def process_ids(arm: Arm) -> tuple[int, ...]:
    """The server's root process, from the arm's `pid` or `container`; empty if the arm names neither.

    Raises RequestWrong if this machine has no such process.
    """
    if arm.pid is None and not arm.container:
        return ()
    if not is_local(base_url_of(arm)):
        raise RequestWrong(
            f"pid: and container: name a process of this machine, and {arm.url} is another's. Leave them out, or give "
            "an address of this machine (http://localhost:…)."
        )
    pid = _container_pid(arm.container) if arm.pid is None else arm.pid
    if not is_alive(pid):
        said = f"pid: {pid}" if arm.pid is not None else f"container: {arm.container} is process {pid}, and that"
        hint = "A program that runs in another container cannot see it." if arm.container else "Look it up with ps."
        raise RequestWrong(f"{said} is not a process that can be seen here. {hint}")
    return (pid,)


def _container_pid(name: str) -> int:
    """The container's first process, from docker or else podman. Raises RequestWrong if neither knows the container."""
    said: list[str] = []
    for tool in CONTAINER_TOOLS:
        if shutil.which(tool) is None:
            continue
        asked = [tool, "inspect", "--format", "{{.State.Pid}}", name]
        try:
            done = subprocess.run(
                asked, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=INSPECT_TIMEOUT_S, check=False
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            said.append(f"{tool}: {error}")
            continue
        pid = done.stdout.strip()
        if done.returncode == 0 and pid.isdecimal() and int(pid) > 0:
            return int(pid)
        said.append(f"{tool}: it does not run" if pid == "0" else f"{tool}: {done.stderr.strip()[-200:] or 'nothing'}")
    tools = " nor ".join(CONTAINER_TOOLS)
    why = "; ".join(said) or f"neither {tools} is on PATH"
    raise RequestWrong(f"container: {name} has no process that is known: {why}\nGive its pid: instead.")


def base_url_of(arm: Arm) -> str:
    """The arm's url without a trailing slash, and without the /v1 or the endpoint that its path is. Raises
    RequestWrong, also for the endpoint of another API."""
    target_of(arm.url, {}, verify=not arm.insecure, ca_file=arm.ca_file)
    url = urlsplit(arm.url)
    if url.scheme == "unix":
        return arm.url  # the whole URL is the socket's path
    path = url.path.rstrip("/")
    path = path.removesuffix(arm.api_path)
    if arm.api_path.startswith("/v1/"):
        path = path.removesuffix("/v1")
    if other := re.search(r"(?:/v1)?(?:/chat)?/completions$", path):
        raise RequestWrong(
            f"{arm.url} ends with {other[0]}, and the arm's requests go to {redacted_text(arm.api_path)}. Write the "
            f"address without it: {url.scheme}://{url.netloc}{path.removesuffix(other[0])}; the API is chosen by "
            "--backend (`api:` in the study) or --endpoint (`path:`)."
        )
    return f"{url.scheme}://{url.netloc}{path}"


def ca_file_of(arm: Arm) -> str | None:
    """The arm's `ca_file` with `~` resolved."""
    return None if arm.ca_file is None else str(Path(arm.ca_file).expanduser())


def _through(server: Server) -> str:
    """` (through the proxy …)` if the connection uses a proxy, else ""."""
    return f" (through the proxy {server.target.shown_proxy})" if server.target.shown_proxy else ""


def _nothing_there(base_url: str, server: Server) -> str:
    target = server.target
    if target.shown_proxy:
        return (
            f"nothing answers at the proxy {target.shown_proxy}, which the environment names for {base_url}; "
            "start it, or name the server in NO_PROXY"
        )
    what = "the socket's path" if isinstance(target.connect_to, Unix) else "its address (--host and --port, or url:)"
    return f"nothing answers at {base_url}; start the server or check {what}"


def _complaint(arm: Arm, base_url: str, server: Server, model: str, first: FirstToken) -> str:
    """Why this answer is not one token, and what to try."""
    answer = first.answer
    url = base_url + redacted_text(arm.api_path) + _through(server)
    if answer.status == HTTPStatus.PROXY_AUTHENTICATION_REQUIRED and server.target.shown_proxy:
        return (
            f"the proxy {server.target.shown_proxy} wants a name and a password (status 407): write them into its "
            "variable, http://user:password@host:port, or name the server in NO_PROXY"
        )
    if answer.status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
        return f"{url} wants a key (status {answer.status}): set OPENAI_API_KEY, or send a header with one"
    if answer.status == HTTPStatus.NOT_FOUND:
        return (
            f"{url} answers 404: {answer.shown}\n{_what_is_there(server)}\n"
            "Check the path (--endpoint, `path:` in the study) and the model's name."
        )
    if answer.location:
        return f"{url} sends elsewhere, to {answer.location}: give that address as the url"
    if answer.status == HTTPStatus.OK and answer.json is None and not looks_like_events(answer.body):
        kind = answer.content_type.partition(";")[0] or "no content type"
        return f"{url} answers with {kind}, not with JSON or events: {answer.shown}\nIs this the API's address?"
    named = f" for model {model!r}" if model else ""
    return f"{url} gave no token{named} (status {answer.status}): {first.said}{readiness.leave_out_advice(answer)}"


def _what_is_there(server: Server) -> str:
    names = readiness.model_names(server)
    if names:
        return f"/v1/models is there, with: {', '.join(names[:5])}"
    try:
        answer = ask(server, "/", timeout_s=5.0)
    except (OSError, http.client.HTTPException):
        return "/v1/models is not there, and / gives no answer."
    return f"/v1/models names no model; / answers {answer.status}: {answer.shown}"
