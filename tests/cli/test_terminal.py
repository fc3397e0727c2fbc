"""The program at a terminal: what is drawn, what Ctrl-C does, and that no engine outlives it."""

import fcntl
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
import threading
import uuid
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import MappingProxyType

import psutil
import pytest

from inferometer.results.read import read_study
from inferometer.testing.scripted_server import (
    Received,
    ScriptedAnswer,
    ScriptedServer,
    Step,
    Wait,
    inference_server,
    is_probe,
)

STUDY = """
name: two arms
workload: {{kind: builtin, num_prompts: {prompts}, max_tokens: 3}}
schedule: {{kind: closed, concurrency: 1}}
tokenizer: none
trials: {trials}
order: trials
arms:
  first: {{engine: external, url: "{url}"}}
  second: {{base: first}}
"""
ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


class AtTerminal:
    """The program with a terminal of its own, which alone it is the foreground of. `wait_for` reads what it shows."""

    def __init__(
        self, *words: str, cwd: Path, columns: int = 99, env: Mapping[str, str] = MappingProxyType({})
    ) -> None:
        self.mark = uuid.uuid4().hex
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
        terminal = os.ttyname(slave)
        known = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "CI", "COLUMNS")}
        # A session's first open of a terminal makes it the session's own, so that Ctrl-C comes from it.
        script = f'exec "$@" <{terminal} >{terminal} 2>&1'
        self.process = subprocess.Popen(
            ["sh", "-c", script, "sh", sys.executable, "-m", "inferometer", *words],
            cwd=cwd,
            stdin=slave,
            env=known | {"TERM": "xterm", "A_TEST": self.mark, **env},
            start_new_session=True,
        )
        os.close(slave)
        self.shown = ""
        self._ended = False

    def wait_for(self, pattern: str) -> None:
        """Reads until it is shown. Raises AssertionError where the program ends before."""
        while not re.search(pattern, self.shown):
            assert self._read(), f"{pattern!r} is not in {self.shown}"

    def type(self, text: str) -> None:
        os.write(self._master, text.encode())

    def end(self) -> int:
        """The exit code, with all that was shown read."""
        while self._read():
            pass
        os.close(self._master)
        return self.process.wait()

    def left(self) -> list[str]:
        """The processes that it started and that still live."""
        return living(self.mark)

    def _read(self) -> bool:
        try:
            data = os.read(self._master, 65536)
        except OSError:  # Linux says so when the last one has closed it
            return False
        self.shown += data.decode(errors="replace")
        return bool(data)


def living(mark: str) -> list[str]:
    found: list[str] = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("A_TEST") == mark and process.status() != psutil.STATUS_ZOMBIE:
                found.append(" ".join(process.cmdline()))
        except psutil.Error:
            continue
    return found


def study_at(folder: Path, server: ScriptedServer, prompts: int = 4, trials: int = 1) -> None:
    (folder / "study.yaml").write_text(STUDY.format(url=server.url, prompts=prompts, trials=trials))


def silent_after(requests: int) -> tuple[ScriptedAnswer, Callable[[], None]]:
    """A server that from some measured request on says nothing until it is let go."""
    quick, gate = inference_server(tokens=3), threading.Event()
    seen: list[int] = []

    def answer(request: Received) -> Iterable[Step]:
        if request.body.get("stream") and not is_probe(request):
            seen.append(1)
            if len(seen) > requests:
                gate.wait(30)
                return [Wait(0.0)]
        return quick(request)

    return answer, gate.set


# --- what is drawn --------------------------------------------------------------------------------


def test_each_arm_of_a_round_is_drawn_in_a_line_and_gone_at_the_end(tmp_path: Path):
    answer = inference_server(tokens=3, gap_s=0.1)
    with ScriptedServer(answer) as server, ScriptedServer(answer) as other:
        study_at(tmp_path, server, prompts=6)
        study = tmp_path / "study.yaml"
        text = study.read_text().replace("order: trials", "order: requests")
        study.write_text(text.replace("{base: first}", f'{{base: first, url: "{other.url}"}}'))
        program = AtTerminal("run", "study.yaml", "--out", "s", cwd=tmp_path, columns=80)
        assert program.end() == 0
    shown = ESCAPE.sub("", program.shown)
    assert re.search(r"round 1 of 1, about \d+ s left", shown)
    both = r"  first   \[#+-*\]  \d/6  [\d.]+ tok/s  TTFT [\d.]+ ms[^\n]*\n"
    both += r"  second  \[#+-*\]  \d/6  [\d.]+ tok/s  TTFT [\d.]+ ms  [+−][\d.]+% \([+−][\d.]+\.\.[+−][\d.]+\)"
    assert re.search(both, shown.replace("\r", ""))
    assert re.search(r"first #1: 6 requests in \S+ \w+, [\d.]+ tok/s, TTFT", shown)
    assert "\x1b[1m" in program.shown[program.shown.rindex("first #1:") :]  # the table has its colours


def test_no_color_is_obeyed(tmp_path: Path):
    with ScriptedServer(inference_server(tokens=3)) as server:
        study_at(tmp_path, server)
        program = AtTerminal("run", "study.yaml", "--out", "s", cwd=tmp_path, env={"NO_COLOR": "1"})
        assert program.end() == 0
    assert not re.search(r"\x1b\[[0-9;]*m", program.shown)


@pytest.mark.parametrize("env", [{"TERM": "dumb"}, {"CI": "true", "NO_COLOR": "1"}])
def test_a_terminal_that_cannot_be_drawn_on_has_plain_lines(tmp_path: Path, env: dict[str, str]):
    with ScriptedServer(inference_server(tokens=3)) as server:
        study_at(tmp_path, server)
        program = AtTerminal("run", "study.yaml", "--out", "s", cwd=tmp_path, env=env)
        assert program.end() == 0
    assert "\x1b" not in program.shown
    assert "  first #1: done\r\n" in program.shown


@pytest.mark.parametrize(
    ("flags", "first", "columns"), [(["--all"], ("%", "Metric"), 80), ([], ("Two",), 80), ([], ("Two",), 60)]
)
def test_the_result_fits_the_terminal(flags: list[str], first: tuple[str, ...], columns: int, tmp_path: Path):
    with ScriptedServer(inference_server(tokens=3)) as server:
        study_at(tmp_path, server, trials=2)
        program = AtTerminal("run", "study.yaml", "--out", "s", "--quiet", *flags, cwd=tmp_path, columns=columns)
        assert program.end() == 0, program.shown
    lines = ESCAPE.sub("", program.shown).splitlines()
    assert lines[0].split()[0] in first  # nothing comes before the result
    assert [line for line in lines if len(line) > columns] == [], "\n".join(lines)
    assert not [line for line in lines if line.startswith(("Note:", "study:"))]


def test_what_a_server_says_is_harmless_at_the_terminal(tmp_path: Path):
    def rude(request: Received) -> Iterable[Step]:
        from inferometer.testing.scripted_server import whole

        return [whole(500, "\x1b]0;owned\x07\x1b[2J\u202ebad")]

    with ScriptedServer(rude) as server:
        study_at(tmp_path, server)
        program = AtTerminal("run", "study.yaml", "--out", "s", cwd=tmp_path, env={"TERM": "dumb"})
        assert program.end() == 1
    assert "bad" in program.shown
    assert not set(program.shown) & {"\x1b", "\x07", "\u202e"}


# --- Ctrl-C ---------------------------------------------------------------------------------------


def test_ctrl_c_ends_the_trial_and_the_table_of_what_was_measured_is_printed(tmp_path: Path):
    answer, let_go = silent_after(7)  # four and a warm-up, then a warm-up and one more
    with ScriptedServer(answer) as server:
        study_at(tmp_path, server)
        program = AtTerminal("run", "study.yaml", "--out", "s", "--why", cwd=tmp_path)
        program.wait_for(r"  second (?s:.*) 1/4 ")
        program.type("\x03")
        code = program.end()
        let_go()
    shown = ESCAPE.sub("", program.shown)
    assert code == 130
    assert "Output token throughput (tok/s)" in shown
    assert "Trials: first 1, second 0" in shown
    assert "interrupted in second, trial 1, which is in no table (1 of 4 requests, Output token throughput" in shown
    states = [(trial.arm, trial.state, trial.error) for trial in read_study(tmp_path / "s").trials]
    assert states == [("first", "done", ""), ("second", "failed", "interrupted")]
    assert (tmp_path / "s" / "summary.md").exists()
    assert program.left() == []


def test_bench_prints_the_block_of_what_had_ended(tmp_path: Path):
    answer, let_go = silent_after(4)
    with ScriptedServer(answer) as server:
        words = ["--backend", "openai-chat", "--base-url", server.url, "--num-prompts", "9", "--max-concurrency", "1"]
        program = AtTerminal("bench", *words, cwd=tmp_path, env={"TERM": "dumb"})
        program.wait_for(r"plan: 9 requests")
        while len(server.load_requests) < 5:
            assert program.process.poll() is None
        program.type("\x03")
        code = program.end()
        let_go()
    assert code == 130
    assert re.search(r"Successful requests: +3 ", program.shown)
    assert "6 request(s) were cut off by the interrupt" in program.shown


EMBEDDED = """
workload: {kind: builtin, num_prompts: 40, max_tokens: 60}
schedule: {kind: closed, concurrency: 1}
arms: {tiny: {engine: embedded, model: "standin:tiny", context: 4096, threads: 1}}
"""


@pytest.mark.parametrize(("when", "presses"), [("starting the engine", 1), ("tok/s", 1), ("tok/s", 2)])
def test_no_engine_outlives_ctrl_c(tmp_path: Path, when: str, presses: int):
    (tmp_path / "study.yaml").write_text(EMBEDDED)
    program = AtTerminal("run", "study.yaml", "--out", "s", cwd=tmp_path)
    program.wait_for(when)
    program.type("\x03")
    program.wait_for("Ctrl-C again stops at once")
    program.type("\x03" * (presses - 1))
    assert program.end() == 130
    assert "Traceback" not in program.shown
    assert "interrupted" in program.shown
    assert program.left() == []


def test_a_hung_up_terminal_ends_the_engine_too(tmp_path: Path):
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)  # the tests may have been started by nohup, which is obeyed
    (tmp_path / "study.yaml").write_text(EMBEDDED)
    program = AtTerminal("run", "study.yaml", "--out", "s", cwd=tmp_path)
    signal.signal(signal.SIGHUP, before)
    program.wait_for("tok/s")
    program.process.send_signal(signal.SIGHUP)
    assert program.end() == 130
    assert program.left() == []


STUBBORN = """
workload: {{kind: builtin, num_prompts: 40, max_tokens: 3}}
arms:
  stubborn:
    engine: command
    shell: true
    command: "trap '' TERM; {server}; true"
    url: http://127.0.0.1:{port}
    ready_timeout_s: 600
"""


def test_a_second_ctrl_c_kills_an_engine_that_does_not_end(tmp_path: Path):
    """While it starts: the first one asks it to end, the second one waits no more."""
    server = f"{sys.executable} -c 'import time; time.sleep(600)'"
    (tmp_path / "study.yaml").write_text(STUBBORN.format(server=server, port=1))
    program = AtTerminal("run", "study.yaml", "--out", "s", cwd=tmp_path, env={"TERM": "dumb"})
    program.wait_for("waiting for its engine")
    while not any("time.sleep(600)" in line for line in program.left() if "sh -c" not in line):
        assert program.process.poll() is None
    program.type("\x03")
    program.wait_for("Ctrl-C again stops at once")
    program.type("\x03")
    assert program.end() == 130
    assert program.left() == []


# --- completion -----------------------------------------------------------------------------------


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_is_there_for_the_usual_shells(shell: str):
    done = subprocess.run(
        [sys.executable, "-c", "from inferometer.cli import main; main()", "--show-completion", shell],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"},
    )
    assert done.returncode == 0, done.stderr
    assert "_COMPLETE" in done.stdout
