"""How does an engine's process start, become ready and end? Whatever happens, no process of its group is left."""

import contextlib
import http.client
import logging
import os
import re
import shlex
import signal
import socket
import subprocess
import threading
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
from inferometer.base.text import sanitize, sanitize_lines
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
from inferometer.core.spec import Arm
from inferometer.engines import effective_settings, readiness
from inferometer.engines.base import OnSpawn, unwatched
from inferometer.engines.log_redaction import blot_out
from inferometer.engines.server_facts import server_facts
from inferometer.engines.watchdog import Watchdog, watching
from inferometer.net.http_client import Server, ask, server_at

LOG = logging.getLogger(__name__)

LOCALHOST = "127.0.0.1"
STOP_PATIENCE_S = 5.0
KILL_PATIENCE_S = 5.0
LOG_LINES = 20
POLL_FIRST_S = 0.02
POLL_LAST_S = 0.5

ADVICE = (
    (r"unknown argument|invalid argument|unrecognized|unknown option|argument has been removed",
     "This build does not know one of the flags: they change from build to build; see its --help."),
    (r"error while handling argument",
     "One of the flags has a value that this build does not take; its usage is above."),
    (r"error while loading shared libraries|cannot open shared object file|library not loaded",
     "A library of this build is not found: the GPU's driver is absent (libcuda, libamdhip64), or the build's folder "
     "must be named by LD_LIBRARY_PATH (env: in the arm). inferometer doctor says which drivers there are."),
    (r"no CUDA-capable device|CUDA driver version is insufficient|no ROCm-capable device|Failed to infer device type",
     "The engine finds no GPU that it can use: inferometer doctor says which drivers there are."),
    (r"gpu.memory.utilization|No available memory for the cache blocks|mem.fraction.static",
     "It did not fit into the GPU's memory: free it, or try a shorter context (--max-model-len, --context-length) or "
     "another share of it (--gpu-memory-utilization, --mem-fraction-static)."),
    (r"unknown model architecture", "This build is older than the model: take a newer llama.cpp."),
    (r"out of memory|cudaMalloc failed|failed to allocate|unable to allocate|bad_alloc|OutOfDeviceMemory",
     "It did not fit into memory: try fewer GPU layers (-ngl), a smaller context (-c) or a smaller quantization."),
    (r"couldn't bind|address already in use",
     "Another program uses the port: stop it, or leave --port out and a free one is chosen."),
    (r"vocab\w* (?:type )?.*(?:compatible|match)",
     "Target and draft must share a vocabulary: take a draft of the same family."),
    (r"corrupted or incomplete|not within the file bounds", "The model file is cut off or damaged: fetch it again."),
    (r"failed to open GGUF|no such file|failed to load model",
     "Check the model's path, and that this build reads the file."),
)  # fmt: skip
"""What to try, by the first pattern that the end of the log shows."""


class Launch(msgspec.Struct, frozen=True):
    """What to start. `first_line` goes to the process's standard input, which stays open until the process ends.
    `shown` is the command line without secrets; only it gets into facts and messages. `llama_cpp`: its server is
    llama.cpp's, which is told to take nothing from its prefix cache for the first token. `cwd`: "" is this process's.
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


@contextlib.contextmanager
def started(launch: Launch, arm: Arm, log_path: Path, on_spawn: OnSpawn = unwatched) -> Iterator[Endpoint]:
    """The engine from its start to its end. Raises as `engines.base.Engine` says."""
    with watching() as watchdog:
        yield from _started(launch, arm, log_path, on_spawn, watchdog)


def late_facts(endpoint: Endpoint) -> tuple[Fact, ...]:
    """What the whole log of a server that has ended adds to the endpoint's facts: llama.cpp's counts of its draft."""
    return effective_settings.facts_at_end(_Log(Path(endpoint.log_path), endpoint.log_begins_at).text(), endpoint.facts)


class _Log(NamedTuple):
    """A log and where in it the lines of this start begin: it is appended to."""

    path: Path
    begins_at: int
    redactor: Redactor = Redactor()

    def text(self) -> str:
        """All of this start's lines so far."""
        with self.path.open("rb") as file:
            file.seek(self.begins_at)
            return file.read().decode(errors="replace")


def environment(own: Mapping[str, str]) -> dict[str, str]:
    """What a process of an arm sees: ours, and over it the arm's own."""
    return {**os.environ, **own}


def free_port() -> int:
    """A port of this host that nothing listens on now."""
    with socket.socket() as listener:
        listener.bind((LOCALHOST, 0))
        return int(listener.getsockname()[1])


def refuse_used_port(host: str, port: int) -> None:
    """Raises RequestWrong where something answers there: it would be taken for the engine."""
    with contextlib.suppress(OSError), socket.create_connection((host, port), timeout=1.0):
        raise RequestWrong(
            f"something already listens on {host}:{port}; stop it, or leave --port out and a free one is chosen"
        )


def stop_group(process: subprocess.Popen[bytes], patience_s: float = STOP_PATIENCE_S) -> None:
    """Ends the process, its group and its descendants: SIGTERM, then after `patience_s` SIGKILL.

    A Ctrl-C on the way ends the patience, never the stopping; it is raised when no process is left.
    """
    with _interrupts_later() as noted:
        strays = _descendants(process.pid)
        _signal_all(process, strays, signal.SIGTERM)
        _wait_gone(process, strays, patience_s, noted)
        if _left(process, strays):
            _signal_all(process, strays, signal.SIGKILL)
            _wait_gone(process, strays, KILL_PATIENCE_S, ())
        if process.stdin is not None:
            process.stdin.close()
        left = _left(process, strays)
        if left:
            LOG.error("processes %s could not be killed; the kernel holds them (a driver?)", sorted(left))
        if process.pid not in left:
            process.wait()  # it is a zombie at most: reaped here


@contextlib.contextmanager
def _interrupts_later() -> Iterator[Sequence[int]]:
    """While it lasts a Ctrl-C is noted in the list, and raised at its end: one that falls between a process's birth and
    our knowing of it, or into its stopping, would leave it behind."""
    noted: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield noted  # signals go to the main thread alone
        return
    before = signal.signal(signal.SIGINT, lambda number, frame: noted.append(number))
    try:
        yield noted
    finally:
        signal.signal(signal.SIGINT, before)
    if noted:
        signal.raise_signal(signal.SIGINT)


def ending(code: int) -> str:
    """How a process ended: an exit code, or the signal's name with what it usually means."""
    if 128 < code < 160:  # a shell's, or a container's, word for a signal
        return f"exit code {code}, {ending(128 - code)}"
    if code >= 0:
        return f"exit code {code}"
    meanings = {
        signal.SIGKILL: "out of memory?",
        signal.SIGILL: "a build for another CPU?",
        signal.SIGSEGV: "the engine crashed",
        signal.SIGABRT: "the engine gave up",
    }
    try:
        name = signal.Signals(-code)
    except ValueError:
        return f"killed by signal {-code}"
    return f"killed by {name.name}" + (f": {meanings[name]}" if name in meanings else "")


def is_alive(pid: int) -> bool:
    """True for a process that is no zombie. A zombie is dead: in a container nobody may ever come to reap it."""
    import psutil

    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def tail(log_path: Path, lines: int = LOG_LINES, *, from_byte: int = 0) -> str:
    """The last lines of a log after `from_byte`, of its last 64 KiB, made harmless; "(the log is empty)" where there
    are none."""
    try:
        with log_path.open("rb") as file:
            file.seek(max(from_byte, log_path.stat().st_size - 65536))
            text = file.read().decode(errors="replace")
    except OSError:
        return "(there is no log)"
    return "\n".join(sanitize_lines(text).split("\n")[-lines:]).strip("\n") or "(the log is empty)"


def advice(log: str, otherwise: str) -> str:
    """What to try next, by what the log says."""
    for pattern, text in ADVICE:
        if re.search(pattern, log, re.IGNORECASE):
            return text
    return otherwise


def shown_command(command: Sequence[str], env: Mapping[str, str]) -> str:
    """The command line as one would type it, with the arm's own environment; secrets are `***`."""
    of_shell = len(command) == 3 and command[1] == "-c"
    names = [f"{name}={_quoted(value)}" for name, value in redacted_env(env).items()]
    words = [*command[:2], redacted_line(command[2])] if of_shell else redacted_words(command)
    return " ".join([*names, *map(_quoted, words)])


def _quoted(word: str) -> str:
    """As one would type it; what stands for a secret is no glob."""
    plain = word.replace(MARK, "x")
    return word if shlex.quote(plain) == plain else shlex.quote(word)


def _started(launch: Launch, arm: Arm, log_path: Path, on_spawn: OnSpawn, watchdog: Watchdog) -> Iterator[Endpoint]:
    redactor = redactor_for([arm], launch.headers, os.environ)
    log = _Log(log_path, log_path.stat().st_size if log_path.exists() else 0, redactor)
    process: subprocess.Popen[bytes] | None = None
    patience_s = STOP_PATIENCE_S
    try:
        with _interrupts_later():
            process = _spawn(launch, log_path, watchdog)
        on_spawn(process.pid)
        server = server_at(launch.base_url, launch.headers)
        ready_after_s = _wait_for_token(process, launch, server, arm, log)
        model = readiness.first_model(server) or launch.model
        facts = (
            *launch.facts,
            Fact(quantities.ENGINE_COMMAND, launch.shown, "our command line"),
            *([Fact(quantities.ENGINE_CWD, launch.cwd, "the arm")] if launch.cwd else []),
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
        )
        try:
            yield endpoint
        except TrialFailed as failure:
            if process.poll() is not None:
                raise _died(process, launch, log) from failure
            raise type(failure)(f"{failure}\n{_evidence(launch, log)}") from failure
        if process.poll() is not None:
            raise _died(process, launch, log)
    except SecondInterrupt:
        patience_s = 0.0
        raise
    finally:
        if process is not None:
            stop_group(process, patience_s)
            watchdog.over()
        blot_out(log_path, log.begins_at, redactor.secrets)


def _spawn(launch: Launch, log_path: Path, watchdog: Watchdog) -> subprocess.Popen[bytes]:
    """The process in a session of its own (a Ctrl-C does not reach it: we end it), its output in the log."""
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
            LOG.info("%s ended before it read its settings", launch.name)  # said by _wait_for_token, with its log
    return process


def _wait_for_token(process: subprocess.Popen[bytes], launch: Launch, server: Server, arm: Arm, log: _Log) -> float:
    """Seconds from now to the first token. Raises EngineNotReady or ServerUnusable."""
    began_s = time.monotonic()
    pause_s = POLL_FIRST_S
    said = "nothing"
    while (left_s := arm.ready_timeout_s - (time.monotonic() - began_s)) > 0:
        if process.poll() is not None:
            raise EngineNotReady(
                f"{launch.name} ended before its first token: {ending(process.returncode)}.\n"
                + _evidence(launch, log, "Run the command by itself to see more.")
            )
        model = "" if launch.llama_cpp else readiness.first_model(server) or launch.model
        body = readiness.one_token(arm, model, llama_cpp=launch.llama_cpp)
        try:
            answer = ask(server, arm.api_path, body=body, timeout_s=left_s)
        except (OSError, http.client.HTTPException) as error:
            said = sanitize(server.hide(str(error))) or type(error).__name__
        else:
            if readiness.token_came(answer):
                return time.monotonic() - began_s
            if answer.status != readiness.LOADING:
                raise ServerUnusable(
                    f"{launch.name} answers {redacted_text(arm.api_path)} with status {answer.status} and no token: "
                    f"{answer.shown}\n"
                    + _evidence(launch, log, "Check the arm's api and path, and that the model can chat.")
                )
            said = answer.shown
        time.sleep(min(pause_s, left_s))
        pause_s = min(pause_s * 1.5, POLL_LAST_S)
    raise EngineNotReady(
        f"{launch.name} gave no token in {arm.ready_timeout_s:g} s; at last it said: {said}\n"
        + _evidence(launch, log, "Try a longer ready_timeout_s, or a smaller model or context.")
    )


def _died(process: subprocess.Popen[bytes], launch: Launch, log: _Log) -> EngineDied:
    return EngineDied(f"{launch.name} ended during the trial: {ending(process.returncode)}.\n{_evidence(launch, log)}")


def _evidence(launch: Launch, log: _Log, otherwise: str = "See the whole log for more.") -> str:
    """The command, the end of the log and what to try."""
    end = log.redactor.redact(tail(log.path, from_byte=log.begins_at))
    indented = "\n".join(f"  {line}" for line in end.splitlines())
    return f"Started as: {launch.shown}\nThe end of its log, {log.path}:\n{indented}\nTry: {advice(end, otherwise)}"


def _descendants(pid: int) -> set[int]:
    """Processes below `pid`: also those that left its group."""
    import psutil

    try:
        return {child.pid for child in psutil.Process(pid).children(recursive=True)}
    except psutil.NoSuchProcess:
        return set()


def _left(process: subprocess.Popen[bytes], strays: set[int]) -> set[int]:
    """Living pids of the group, and of `strays`."""
    found: set[int] = set()
    for pid in _pids():
        try:
            if (pid in strays or os.getpgid(pid) == process.pid) and is_alive(pid):
                found.add(pid)
        except ProcessLookupError:
            continue
    return found


def _pids() -> list[int]:
    import psutil

    return psutil.pids()


def _signal_all(process: subprocess.Popen[bytes], strays: set[int], which: signal.Signals) -> None:
    for pid in _left(process, strays):
        try:
            os.kill(pid, which)
        except ProcessLookupError:
            continue


def _wait_gone(process: subprocess.Popen[bytes], strays: set[int], patience_s: float, noted: Sequence[int]) -> None:
    """Until none is left, the patience is over, or an interrupt is noted."""
    until_s = time.monotonic() + patience_s
    while _left(process, strays) and time.monotonic() < until_s and not noted:
        time.sleep(0.01)
