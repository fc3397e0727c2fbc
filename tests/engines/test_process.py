import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from inferometer.base.errors import EngineDied, EngineNotReady, RequestWrong, ServerUnusable
from inferometer.core.spec import Arm
from inferometer.engines.failure_log import advice, tail
from inferometer.engines.process import Launch, free_port, refuse_used_port, shown_command, started
from inferometer.engines.process_group import ending, is_alive, stop_group

TOKEN = (200, '{"choices": [{"message": {"content": "one"}}], "usage": {"completion_tokens": 1}}')
LOADING = (503, '{"error": {"code": 503, "message": "Loading model"}}')

FakeEngine = Callable[..., Launch]


def children_of(log: Path) -> list[int]:
    return [int(pid) for pid in re.findall(r"^child (\d+)", log.read_text(), re.MULTILINE)]


def test_an_engine_is_ready_when_a_token_came_and_not_while_it_loads(arm: Arm, fake_engine: FakeEngine, tmp_path: Path):
    with started(fake_engine([LOADING, LOADING, TOKEN]), arm, tmp_path / "log") as endpoint:
        facts = {fact.name: fact.value for fact in endpoint.facts}
        assert facts["engine_command"] == "fake-engine --flag"
        assert endpoint.path == "/v1/chat/completions"
        assert is_alive(endpoint.pids[0])


def test_the_log_is_kept_and_appended_to(arm: Arm, fake_engine: FakeEngine, tmp_path: Path):
    log = tmp_path / "logs" / "engine.log"
    for _ in range(2):
        with started(fake_engine([TOKEN]), arm, log):
            pass
    assert log.read_text() == "the fake engine begins\n" * 2


@pytest.mark.parametrize("new_session", [False, True])
def test_no_child_is_left_even_if_it_ignores_sigterm_or_left_the_group(
    arm: Arm, fake_engine: FakeEngine, tmp_path: Path, new_session: bool, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("inferometer.engines.process.stop_group", lambda process, _: stop_group(process, 0.1))
    log = tmp_path / "log"
    with started(fake_engine([TOKEN], children=[new_session]), arm, log) as endpoint:
        pids = [*endpoint.pids, *children_of(log)]
        assert len(pids) == 2
        assert all(map(is_alive, pids))
    assert not any(map(is_alive, pids))


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_no_process_is_left_when_the_trial_breaks_off(
    arm: Arm, fake_engine: FakeEngine, tmp_path: Path, error: type[BaseException]
):
    pids: list[int] = []

    def trial() -> None:
        with started(fake_engine([TOKEN]), arm, tmp_path / "log") as endpoint:
            pids.extend(endpoint.pids)
            raise error

    with pytest.raises(error):
        trial()
    assert pids
    assert not any(map(is_alive, pids))


def test_a_second_interrupt_while_stopping_still_leaves_no_process(tmp_path: Path):
    stubborn = subprocess.Popen(
        ["sh", "-c", "trap '' TERM; echo ready; while :; do sleep 1; done"],
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    assert stubborn.stdout is not None
    stubborn.stdout.readline()
    interrupt = threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT))
    interrupt.start()
    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        stop_group(stubborn, timeout_s=60.0)
    stubborn.stdout.close()
    assert not is_alive(stubborn.pid)
    assert time.monotonic() - began < 30.0


def test_an_engine_that_ends_at_once_is_told_with_its_log_and_what_to_try(arm: Arm, tmp_path: Path):
    script = "import sys; print('line 1', flush=True); sys.exit('error: invalid argument: --draft-max')"
    launch = Launch("llama-server", (sys.executable, "-c", script), "llama-server --draft-max 4", "http://127.0.0.1:1")
    with pytest.raises(EngineNotReady) as caught, started(launch, arm, tmp_path / "log"):
        pass
    assert str(caught.value) == (
        "llama-server ended before its first token: exit code 1; the first error in its log: "
        "error: invalid argument: --draft-max.\n"
        "Started as: llama-server --draft-max 4\n"
        f"The end of its log, {tmp_path / 'log'}:\n"
        "  line 1\n"
        "  error: invalid argument: --draft-max\n"
        "Try: This build does not know one of the flags: they change from build to build; see its --help."
    )


def test_what_an_earlier_start_wrote_to_the_log_is_no_evidence(arm: Arm, tmp_path: Path):
    log = tmp_path / "log"
    log.write_text("error: invalid argument: --draft-max\n")
    launch = Launch(
        "x", (sys.executable, "-c", "print('the model is corrupted or incomplete')"), "x", "http://127.0.0.1:1"
    )
    with pytest.raises(EngineNotReady) as caught, started(launch, arm, log):
        pass
    assert "--draft-max" not in str(caught.value)
    assert "fetch it again" in str(caught.value)


def test_an_engine_that_is_killed_while_it_loads_is_told_by_the_signals_name(arm: Arm, tmp_path: Path):
    script = "import os; os.kill(os.getpid(), 9)"
    launch = Launch("llama-server", (sys.executable, "-c", script), "llama-server", "http://127.0.0.1:1")
    with (
        pytest.raises(EngineNotReady, match="killed by SIGKILL: out of memory"),
        started(launch, arm, tmp_path / "log"),
    ):
        pass


def test_an_engine_that_never_finishes_loading_is_given_up_in_time(arm: Arm, fake_engine: FakeEngine, tmp_path: Path):
    arm = msgspec.structs.replace(arm, ready_timeout_s=3.0)
    with pytest.raises(EngineNotReady) as caught, started(fake_engine([LOADING]), arm, tmp_path / "log"):
        pass
    assert "gave no token in 3 s" in str(caught.value)
    assert "Loading model" in str(caught.value)
    assert "ready_timeout_s" in str(caught.value)


def test_an_engine_that_answers_something_else_is_told_with_its_answer(
    arm: Arm, fake_engine: FakeEngine, tmp_path: Path
):
    launch = fake_engine([(500, '{"error": {"message": "no chat template"}}')])
    with (
        pytest.raises(ServerUnusable, match="status 500 and no token: no chat template"),
        started(launch, arm, tmp_path / "log"),
    ):
        pass


def test_an_engine_that_dies_during_the_trial_is_told_at_its_end(arm: Arm, fake_engine: FakeEngine, tmp_path: Path):
    def kill(pid: int) -> None:
        os.kill(pid, signal.SIGSEGV)
        while is_alive(pid):
            time.sleep(0.01)

    with pytest.raises(EngineDied, match="SIGSEGV"), started(fake_engine([TOKEN]), arm, tmp_path / "log") as endpoint:
        kill(endpoint.pids[0])


def test_a_program_that_is_not_there_is_the_requests_fault(arm: Arm, tmp_path: Path):
    launch = Launch("x", (str(tmp_path / "none"),), "x", "http://127.0.0.1:1")
    with pytest.raises(RequestWrong, match="No such file"), started(launch, arm, tmp_path / "log"):
        pass


def test_a_port_that_somebody_listens_on_is_refused():
    import socket

    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with pytest.raises(RequestWrong, match=f"already listens on 127.0.0.1:{port}"):
            refuse_used_port("127.0.0.1", port)
    refuse_used_port("127.0.0.1", free_port())


@pytest.mark.parametrize(
    ("command", "shown"),
    [
        (["llama-server", "--api-key", "s3cret", "-c", "10"], "llama-server --api-key *** -c 10"),
        (["llama-server", "--api-key=s3cret"], "llama-server --api-key=***"),
        (["llama-server", "-hft", "s3cret"], "llama-server -hft ***"),
        (["llama-server", "--image-max-tokens", "70"], "llama-server --image-max-tokens 70"),
        (["llama-server", "-m", "a model.gguf"], "llama-server -m 'a model.gguf'"),
    ],
)
def test_a_command_line_is_shown_as_typed_without_its_secrets(command: list[str], shown: str):
    assert shown_command(command, {}) == shown


def test_the_environment_is_shown_without_its_secrets():
    env = {"CUDA_VISIBLE_DEVICES": "0", "HF_TOKEN": "s3cret", "my_password": "s3cret", "OPENAI_API_KEY": "s3cret"}
    assert shown_command(["x"], env) == "CUDA_VISIBLE_DEVICES=0 HF_TOKEN=*** my_password=*** OPENAI_API_KEY=*** x"


@pytest.mark.parametrize(
    ("log", "try_this"),
    [
        ("error: invalid argument: --draft-mx", "--help"),
        ("llama_model_load: error loading model: unknown model architecture: 'qwen9'", "newer llama.cpp"),
        ("ggml_backend_cuda_buffer_type_alloc_buffer: cudaMalloc failed: out of memory", "fewer GPU layers"),
        ("srv start: couldn't bind HTTP server socket, hostname: 127.0.0.1, port: 18999", "--port"),
        ("tensor 'token_embd.weight' data is not within the file bounds, model is corrupted or incomplete", "fetch"),
        ("gguf_init_from_file: failed to open GGUF file 'x' (No such file or directory)", "path"),
        ("common_speculative_are_compatible: draft model vocab type must match target model", "same family"),
        ("all is well", "otherwise"),
    ],
)
def test_what_to_try_follows_from_the_log(log: str, try_this: str):
    assert try_this in advice(log, "otherwise")


@pytest.mark.parametrize(
    ("code", "text"),
    [
        (0, "exit code 0"),
        (-9, "killed by SIGKILL: out of memory?"),
        (-15, "killed by SIGTERM"),
        (-99, "killed by signal 99"),
    ],
)
def test_an_ending_is_told_by_its_code_or_signal(code: int, text: str):
    assert ending(code) == text


def test_the_tail_of_a_log_is_its_last_lines(tmp_path: Path):
    log = tmp_path / "log"
    assert tail(log) == "(there is no log)"
    log.write_bytes(b"")
    assert tail(log) == "(the log is empty)"
    log.write_bytes(b"x" * 100_000 + b"\n" + b"\n".join(b"%d" % i for i in range(30)) + b"\xff\n")
    assert tail(log, 3) == "27\n28\n29\ufffd"
