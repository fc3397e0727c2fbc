import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from inferometer.base.errors import RequestWrong
from inferometer.core.spec import Arm, Draft
from inferometer.engines.embedded import Embedded, settings_of
from inferometer.engines.process_group import is_alive
from inferometer.net.http_client import ask, server_at


def test_settings_come_from_the_arm_and_its_flags():
    arm = Arm(
        engine="embedded",
        model="m.gguf",
        threads=2,
        draft=Draft(model="d.gguf", n_max=4, p_min=0.5),
        args=("-np", "3", "--flash-attn", "off", "-b=256", "-ub", "128", "-ngl", "all"),
    )
    settings = settings_of(arm, 8081)
    assert (settings.model, settings.port, settings.threads) == ("m.gguf", 8081, 2)
    assert (settings.parallel, settings.flash_attn) == (3, "off")
    assert settings.parameters == [("n_batch", 256, ""), ("n_ubatch", 128, "")]
    assert settings.gpu_layers == -2
    assert (settings.draft_model, settings.draft_n_max, settings.draft_n_min) == ("d.gguf", 4, None)


def test_a_core_is_left_to_the_client_unless_the_arm_says_otherwise(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("psutil.cpu_count", lambda logical: 8)
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: set(range(6)), raising=False)
    assert settings_of(Arm(engine="embedded", model="m"), 1).threads == 5
    assert settings_of(Arm(engine="embedded", model="m", threads=8), 1).threads == 8
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: {0}, raising=False)
    assert settings_of(Arm(engine="embedded", model="m"), 1).threads == 1


@pytest.mark.parametrize(
    ("context", "args", "tokens"),
    [
        (None, (), 4096),
        (None, ("-np", "4"), 16384),
        (1000, (), 1000),
        (1000, ("-c", "512"), 512),
    ],
)
def test_every_slot_has_room_unless_the_arm_says_otherwise(context: int | None, args: tuple[str, ...], tokens: int):
    assert settings_of(Arm(engine="embedded", model="m", context=context, args=args), 1).context == tokens


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("--paralel", "4"), "no flag '--paralel'; did you mean --parallel?"),
        (("--rpc", "host:1"), "use engine: llama-server"),
        (("-np",), "-np needs a value"),
        (("-np", "0"), "at least 1, not '0'"),
        (("-np", "257"), "at most 256 slots"),
        (("-t", "two"), "whole number"),
        (("-fa", "1"), "one of on, off, auto"),
    ],
)
def test_a_flag_that_it_does_not_take_is_refused(args: tuple[str, ...], message: str):
    with pytest.raises(RequestWrong) as caught:
        settings_of(Arm(engine="embedded", model="m", args=args), 1)
    assert message in str(caught.value)


def test_a_draft_is_in_force_and_does_not_change_greedy_text(tiny_pair: tuple[Path, Path], tmp_path: Path):
    target, draft = map(str, tiny_pair)
    question = {"messages": [{"role": "user", "content": "Count."}], "max_tokens": 24, "temperature": 0}
    answers = []
    for setting in (None, Draft(model=draft, n_max=4)):
        arm = Arm(engine="embedded", model=target, draft=setting, threads=1)
        with Embedded().start(arm, tmp_path / "log") as endpoint:
            answers.append(ask(server_at(endpoint.base_url, {}), endpoint.path, body=question, timeout_s=60).json)
    plain, drafted = answers
    assert "draft_n" not in plain["timings"]
    assert drafted["timings"]["draft_n"] > 0
    assert drafted["choices"][0]["message"]["content"] == plain["choices"][0]["message"]["content"]


def test_the_engine_ends_when_whoever_started_it_is_gone(tiny_pair: tuple[Path, Path], tmp_path: Path):
    script = f"""
from pathlib import Path
from inferometer.engines.embedded import Embedded
from inferometer.core.spec import Arm
arm = Arm(engine="embedded", model={str(tiny_pair[0])!r}, threads=1)
with Embedded().start(arm, Path({str(tmp_path / "log")!r})) as endpoint:
    print(endpoint.pids[0], flush=True)
    input()
"""
    source = str(Path(__file__).parents[2] / "src")
    env = {**os.environ, "PYTHONPATH": source}
    with subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=env
    ) as owner:
        assert owner.stdout is not None
        pid = int(owner.stdout.readline())
        assert is_alive(pid)
        owner.send_signal(signal.SIGKILL)
    until = time.monotonic() + 20
    while is_alive(pid) and time.monotonic() < until:
        time.sleep(0.02)
    assert not is_alive(pid)
