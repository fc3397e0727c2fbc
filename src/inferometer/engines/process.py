"""Start, first token and end of an engine's process. No process of its group is left, however the trial ends."""

import contextlib
import http.client
import logging
import os
import shlex
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

from inferometer.base.errors import (
    EngineDied,
    EngineNotReady,
    RequestWrong,
    SecondInterrupt,
    ServerUnusable,
    TrialFailed,
)
from inferometer.base.redactor import Redactor
from inferometer.base.text import sanitize
from inferometer.core import quantities
from inferometer.core.endpoint import Endpoint
from inferometer.core.record import Fact
from inferometer.core.redaction import (
    MARK,
    redacted_env,
    redacted_line,
    redacted_text,
    redacted_words,
    redactor_for,
)
from inferometer.core.spec import Arm, Sampling
from inferometer.engines import effective_settings, readiness
from inferometer.engines.base import DEFAULT_SAMPLING, OnSpawn, unwatched
from inferometer.engines.failure_log import advice, first_error, tail
from inferometer.engines.log_redaction import blot_out
from inferometer.engines.process_group import STOP_TIMEOUT_S, ending, interrupts_later, stop_group
from inferometer.engines.server_facts import server_facts
from inferometer.engines.watchdog import Watchdog, watching
from inferometer.net.http_client import Server, server_at

LOG = logging.getLogger(__name__)

LOCALHOST = "127.0.0.1"
POLL_FIRST_S = 0.02
POLL_LAST_S = 0.5
_END_AFTER_FAILURE_S = 0.5  # a killed engine closes its connections before its process has ended


class Launch(msgspec.Struct, frozen=True):
    """What to start.

    `first_line` goes to the standard input of the process, which stays open until the process ends. `shown` is the
    command line without secrets; facts and messages contain only that. `llama_cpp`: the server is llama.cpp's, and the
    request for the first token tells it to use nothing from its prefix cache. `cwd`: "" is this process's directory.
    `lists_other_models`: /v1/models names models that the server does not serve, so requests name `model`.
    """

    name: str
    command: tuple[str, ...]
    shown: str
    base_url: str
    env: dict[str, str] = {}
    first_line: str | None = None
    headers: dict[str, str] = {}
    facts: tuple[Fact, ...] = ()
    model: str = ""
    llama_cpp: bool = False
    cwd: str = ""
    lists_other_models: bool = False


@contextlib.contextmanager
def started(
    launch: Launch,
    arm: Arm,
    log_path: Path,
    on_spawn: OnSpawn = unwatched,
    sampling: Sampling = DEFAULT_SAMPLING,
) -> Iterator[Endpoint]:
    """Run the engine while the block lasts. Raises the errors that `engines.base.Engine` lists."""
    with watching() as watchdog:
        yield from _started(launch, arm, log_path, on_spawn, sampling, watchdog)


def late_facts(endpoint: Endpoint) -> tuple[Fact, ...]:
    """Facts that the complete log of an ended server adds to the endpoint's: llama.cpp's counts of its draft."""
    return effective_settings.facts_at_end(_Log(Path(endpoint.log_path), endpoint.log_begins_at).text(), endpoint.facts)


class _Log(NamedTuple):
    """A log file, and the byte where this start's lines begin (each start appends)."""

    path: Path
    begins_at: int
    redactor: Redactor = Redactor()

    def text(self) -> str:
        """All of this start's lines so far."""
        with self.path.open("rb") as file:
            file.seek(self.begins_at)
            return file.read().decode(errors="replace")


def environment(own: Mapping[str, str]) -> dict[str, str]:
    """The environment of an arm's process: ours, overridden by the arm's `env`."""
    return {**os.environ, **own}


def free_port() -> int:
    """A port of this host that nothing listens on now."""
    with socket.socket() as listener:
        listener.bind((LOCALHOST, 0))
        return int(listener.getsockname()[1])


def refuse_used_port(host: str, port: int) -> None:
    """Raises RequestWrong if another program already listens there: it would be mistaken for the engine."""
    with contextlib.suppress(OSError), socket.create_connection((host, port), timeout=1.0):
        raise RequestWrong(
            f"something already listens on {host}:{port}; stop it, or leave --port out and a free one is chosen"
        )


def shown_command(command: Sequence[str], env: Mapping[str, str]) -> str:
    """The command line as typed in a shell, with the arm's environment in front; secrets are `***`."""
    of_shell = len(command) == 3 and command[1] == "-c"
    names = [f"{name}={_quoted(value)}" for name, value in redacted_env(env).items()]
    words = [*command[:2], redacted_line(command[2])] if of_shell else redacted_words(command)
    return " ".join([*names, *map(_quoted, words)])


def _quoted(word: str) -> str:
    """Quoted for a shell; the mark of a redacted secret is not quoted, although it looks like a glob."""
    plain = word.replace(MARK, "x")
    return word if shlex.quote(plain) == plain else shlex.quote(word)


def _started(
    launch: Launch, arm: Arm, log_path: Path, on_spawn: OnSpawn, sampling: Sampling, watchdog: Watchdog
) -> Iterator[Endpoint]:
    redactor = redactor_for([arm], launch.headers, os.environ, sampling)
    log = _Log(log_path, log_path.stat().st_size if log_path.exists() else 0, redactor)
    process: subprocess.Popen[bytes] | None = None
    timeout_s = STOP_TIMEOUT_S
    try:
        with interrupts_later():
            process = _spawn(launch, log_path, watchdog)
        on_spawn(process.pid)
        server = server_at(launch.base_url, launch.headers)
        ready_after_s, refused = _wait_for_token(process, launch, server, arm, sampling, log)
        model = _model_to_ask(launch, server)
        facts = (
            *launch.facts,
            Fact(quantities.ENGINE_COMMAND, launch.shown, "our command line"),
            *([Fact(quantities.ENGINE_CWD, launch.cwd, "the arm")] if launch.cwd else []),
            *readiness.refused_facts(refused),
            *server_facts(server, log.text()),
            Fact(quantities.ENGINE_READY_S, f"{ready_after_s:.2f}", "our clock: start to first token"),
        )
        LOG.info("%s ready after %.1f s, pid %d", launch.name, ready_after_s, process.pid)
        endpoint = Endpoint(
            launch.base_url,
            arm.api_path,
            arm.api,
            model,
            (process.pid,),
            facts,
            launch.headers,
            log_path=str(log_path),
            log_begins_at=log.begins_at,
            refused=refused,
        )
        try:
            yield endpoint
        except TrialFailed as failure:
            if _ends_within(process, _END_AFTER_FAILURE_S):
                raise _died(process, launch, log) from failure
            raise type(failure)(f"{failure}\n{_evidence(launch, log)}") from failure
        if process.poll() is not None:
            raise _died(process, launch, log)
    except SecondInterrupt:
        timeout_s = 0.0
        raise
    finally:
        if process is not None:
            stop_group(process, timeout_s)
            watchdog.over()
        blot_out(log_path, log.begins_at, redactor)


def _ends_within(process: subprocess.Popen[bytes], timeout_s: float) -> bool:
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(timeout_s)
    return process.poll() is not None


def _spawn(launch: Launch, log_path: Path, watchdog: Watchdog) -> subprocess.Popen[bytes]:
    """Start the process in a separate session, its output in the log. Ctrl-C does not reach it: we end it."""
    log_path.parent.mkdir(parents=True, exist_ok=True)
    with log_path.open("ab") as log:
        try:
            process = subprocess.Popen(
                launch.command,
                stdin=subprocess.DEVNULL if launch.first_line is None else subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**environment(launch.env), **watchdog.env},
                cwd=Path(launch.cwd).expanduser() if launch.cwd else None,
                start_new_session=True,
            )
        except OSError as error:
            raise RequestWrong(f"{launch.command[0]} cannot be started: {error.strerror}") from error
    watchdog.watch(process.pid)
    if process.stdin is not None and launch.first_line is not None:
        try:
            process.stdin.write(launch.first_line.encode() + b"\n")
            process.stdin.flush()
        except BrokenPipeError:
            LOG.info("%s ended before it read its settings", launch.name)  # _wait_for_token reports it, with the log
    return process


def _model_to_ask(launch: Launch, server: Server) -> str:
    """The model's name in requests: as the server lists it, or the arm's if the list is not of served models."""
    listed = "" if launch.lists_other_models else readiness.first_model(server)
    return listed or launch.model


def _wait_for_token(
    process: subprocess.Popen[bytes], launch: Launch, server: Server, arm: Arm, sampling: Sampling, log: _Log
) -> tuple[float, tuple[str, ...]]:
    """Seconds from now to the first token, and the fields that the server refused. Raises EngineNotReady or
    ServerUnusable."""
    began_s = time.monotonic()
    pause_s = POLL_FIRST_S
    said = "nothing"
    while (left_s := arm.ready_timeout_s - (time.monotonic() - began_s)) > 0:
        if process.poll() is not None:
            raise EngineNotReady(
                f"{launch.name} ended before its first token: {ending(process.returncode)}{_cause(log)}.\n"
                + _evidence(launch, log, "Run the command by itself to see more.")
            )
        model = "" if launch.llama_cpp else _model_to_ask(launch, server)
        try:
            first = readiness.ask_for_token(server, arm, model, sampling, timeout_s=left_s, llama_cpp=launch.llama_cpp)
        except (OSError, http.client.HTTPException) as error:
            said = sanitize(server.hide(str(error))) or type(error).__name__
        else:
            if first.came:
                return time.monotonic() - began_s, first.refused
            if first.answer.status != readiness.LOADING:
                raise ServerUnusable(
                    f"{launch.name} answers {redacted_text(arm.api_path)} with status {first.answer.status} and no "
                    f"token: {first.said}{readiness.leave_out_advice(first.answer)}\n"
                    + _evidence(launch, log, "Check the arm's api and path, and that the model can chat.")
                )
            said = first.said
        time.sleep(min(pause_s, left_s))
        pause_s = min(pause_s * 1.5, POLL_LAST_S)
    raise EngineNotReady(
        f"{launch.name} gave no token in {arm.ready_timeout_s:g} s; at last it said: {said}\n"
        + _evidence(launch, log, "Try a longer ready_timeout_s, or a smaller model or context.")
    )


def _died(process: subprocess.Popen[bytes], launch: Launch, log: _Log) -> EngineDied:
    ended = f"{launch.name} ended during the trial: {ending(process.returncode)}{_cause(log)}"
    return EngineDied(f"{ended}.\n{_evidence(launch, log)}")


def _cause(log: _Log) -> str:
    """The first line of the log that names an error, to follow a sentence; "" where there is none."""
    first = log.redactor.redact(first_error(log.path, from_byte=log.begins_at)).rstrip(".")
    return f"; the first error in its log: {first}" if first else ""


def _evidence(launch: Launch, log: _Log, otherwise: str = "See the whole log for more.") -> str:
    """The command, the end of the log and what to try."""
    end = log.redactor.redact(tail(log.path, from_byte=log.begins_at))
    indented = "\n".join(f"  {line}" for line in end.splitlines())
    first = log.redactor.redact(first_error(log.path, from_byte=log.begins_at))
    tried = advice(first, "") or advice(end, otherwise)
    return f"Started as: {launch.shown}\nThe end of its log, {log.path}:\n{indented}\nTry: {tried}"
