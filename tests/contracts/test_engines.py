"""Every engine of ours under the contract that packages of others are held to.

INFEROMETER_LLAMA_SERVERS=/path/to/llama-server:/path/to/a/fork/llama-server adds builds of llama.cpp.
"""

import functools
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import NamedTuple

import msgspec
import pytest

from inferometer.core.spec import Arm
from inferometer.engines.catalog import engine_class
from inferometer.engines.llama_server import LlamaServer
from inferometer.engines.process_group import is_alive
from inferometer.standin.pairs import standin_pair
from inferometer.testing import openai_server_shim
from inferometer.testing.contracts import EngineCase, EngineContract
from inferometer.testing.llama_server_shim import write_binary

DAMAGED = "model is corrupted or incomplete"


class Files(NamedTuple):
    """A GGUF file, the same cut off in the middle, which only llama.cpp can know, and programs in `folder`."""

    target: str
    damaged: str
    llama_server: str
    folder: Path


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    folder = tmp_path_factory.mktemp("files")
    target, _ = standin_pair(folder, "tiny")
    damaged = folder / "damaged.gguf"
    damaged.write_bytes(Path(target).read_bytes()[:-1000])
    return Files(str(target), str(damaged), str(write_binary(folder / "llama-server")), folder)


def with_damaged_model(arm: Arm, files: Files, token_line: str = "print_timing") -> EngineCase:
    broken = msgspec.structs.replace(arm, model=files.damaged)
    return EngineCase(engine_class(arm.engine)(), arm, broken, DAMAGED, token_line)


@contextmanager
def embedded(files: Files) -> Iterator[EngineCase]:
    yield with_damaged_model(Arm("embedded", model=files.target, threads=1, context=512), files)


@contextmanager
def llama_server(files: Files, binary: str = "") -> Iterator[EngineCase]:
    arm = Arm("llama-server", model=files.target, binary=binary or files.llama_server, args=("-t", "1", "-c", "512"))
    yield with_damaged_model(arm, files)


@contextmanager
def command(files: Files) -> Iterator[EngineCase]:
    words = (files.llama_server, "-m", "{model}", "--port", "{port}", "-t", "1", "-c", "512")
    yield with_damaged_model(Arm("command", model=files.target, command=words), files)


@contextmanager
def external(files: Files) -> Iterator[EngineCase]:
    arm = Arm("llama-server", model=files.target, binary=files.llama_server, args=("-t", "1", "-c", "512"))
    with LlamaServer().start(arm, files.folder / "server.log") as endpoint:
        arm = Arm("external", url=endpoint.base_url)
        yield EngineCase(engine_class("external")(), arm, Arm("external", url="http://127.0.0.1:9"), "127.0.0.1:9")
        assert all(map(is_alive, endpoint.pids))  # a server that we did not start goes on


def imitated(name: str) -> Callable[[Files], AbstractContextManager[EngineCase]]:
    """vLLM and SGLang take gigabytes: a server that answers as they do stands in (test_real_engines.py has vLLM)."""

    @contextmanager
    def case(files: Files) -> Iterator[EngineCase]:
        arm = Arm(name, model="owner/name", binary=str(openai_server_shim.write_binary(files.folder / name, name)))
        broken = msgspec.structs.replace(arm, args=("--no-such-flag",))
        says = f"{name}: error: unrecognized arguments: --no-such-flag"
        yield EngineCase(engine_class(name)(), arm, broken, says, "/v1/chat/completions")

    return case


CASES = {
    "embedded": embedded,
    "llama-server": llama_server,
    "command": command,
    "external": external,
    "vllm": imitated("vllm"),
    "sglang": imitated("sglang"),
}
BUILDS = filter(None, os.environ.get("INFEROMETER_LLAMA_SERVERS", "").split(os.pathsep))
CASES |= {path: functools.partial(llama_server, binary=str(Path(path).resolve())) for path in BUILDS}


class TestEngines(EngineContract):
    @pytest.fixture(params=CASES)
    def case(self, request: pytest.FixtureRequest, files: Files) -> Iterator[EngineCase]:
        with CASES[request.param](files) as case:
            yield case
