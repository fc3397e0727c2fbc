"""What every engine must do, run over each of them."""

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from inferometer.base.errors import InferometerError
from inferometer.core.spec import Arm
from inferometer.engines import readiness
from inferometer.engines.base import Engine
from inferometer.engines.command import Command
from inferometer.engines.embedded import Embedded
from inferometer.engines.external import External
from inferometer.engines.llama_server import LlamaServer
from inferometer.engines.process import is_alive
from inferometer.engines.sglang import SgLang
from inferometer.engines.vllm import Vllm
from inferometer.net.http_client import ask, server_at
from inferometer.standin.pairs import standin_pair
from inferometer.testing import openai_server_shim
from inferometer.testing.llama_server_shim import write_binary

OTHERS = {"vllm": Vllm, "sglang": SgLang}
"""They need a GPU that is not here: in their place are servers that answer as they do."""


class Member(msgspec.Struct):
    """An engine, an arm that works and one that does not; `broken_says` is evidence that its error must carry, and
    `token_line` what its log has for each answer."""

    engine: Engine
    arm: Arm
    broken: Arm
    broken_says: str
    starts_processes: bool = True
    token_line: str = "print_timing"


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A target; the same cut off in the middle, of which only llama.cpp can know; and a llama-server."""
    folder = tmp_path_factory.mktemp("files")
    target, _ = standin_pair(folder, "tiny")
    cut = folder / "cut.gguf"
    cut.write_bytes(Path(target).read_bytes()[:-1000])
    others = {engine: str(openai_server_shim.write_binary(folder / engine, engine)) for engine in ("vllm", "sglang")}
    return {"target": str(target), "cut": str(cut), "binary": str(write_binary(folder / "llama-server")), **others}


@pytest.fixture(params=["embedded", "llama-server", "vllm", "sglang", "command", "external"])
def member(request: pytest.FixtureRequest, files: dict[str, str], tmp_path: Path) -> Iterator[Member]:
    says = "model is corrupted or incomplete"
    embedded = Arm(engine="embedded", model=files["target"], threads=1, context=512)
    binary = Arm(engine="llama-server", model=files["target"], binary=files["binary"], args=("-t", "1", "-c", "512"))
    if request.param == "embedded":
        yield Member(Embedded(), embedded, msgspec.structs.replace(embedded, model=files["cut"]), says)
    elif request.param == "llama-server":
        yield Member(LlamaServer(), binary, msgspec.structs.replace(binary, model=files["cut"]), says)
    elif request.param in OTHERS:
        arm = Arm(engine=request.param, model="owner/name", binary=files[request.param])
        broken = msgspec.structs.replace(arm, args=("--no-such-flag",))
        says = f"{request.param}: error: unrecognized arguments: --no-such-flag"
        yield Member(OTHERS[request.param](), arm, broken, says, token_line="/v1/chat/completions")
    elif request.param == "command":
        own = (files["binary"], "-m", "{model}", "--port", "{port}", "-t", "1", "-c", "512")
        arm = Arm(engine="command", model=files["target"], command=own)
        yield Member(Command(), arm, msgspec.structs.replace(arm, model=files["cut"]), says)
    else:
        with LlamaServer().start(binary, tmp_path / "server.log") as endpoint:
            arm = Arm(engine="external", url=endpoint.base_url)
            yield Member(External(), arm, Arm(engine="external", url="http://127.0.0.1:9"), "127.0.0.1:9", False)
            assert all(map(is_alive, endpoint.pids))  # what we did not start we do not stop


def test_ready_means_that_a_token_comes(member: Member, tmp_path: Path):
    with member.engine.start(member.arm, tmp_path / "log") as endpoint:
        body = readiness.one_token(member.arm, endpoint.model, llama_cpp=True)
        assert readiness.token_came(ask(server_at(endpoint.base_url, {}), endpoint.path, body=body, timeout_s=5.0))
        if member.starts_processes:
            assert (tmp_path / "log").read_text().count(member.token_line) >= 2  # one for us, one before we asked


def test_it_reports_its_version(member: Member, tmp_path: Path):
    with member.engine.start(member.arm, tmp_path / "log") as endpoint:
        names = {fact.name for fact in endpoint.facts}
    assert "engine" in names
    assert names & {"engine_version", "engine_build"}
    assert all(fact.value and fact.source for fact in endpoint.facts)


def test_what_it_tells_at_the_end_has_a_source_and_is_new(member: Member, tmp_path: Path):
    with member.engine.start(member.arm, tmp_path / "log") as endpoint:
        pass
    late = member.engine.facts_at_end(endpoint)
    assert all(fact.value and fact.source for fact in late)
    assert {fact.name for fact in late}.isdisjoint(fact.name for fact in endpoint.facts)


@pytest.mark.parametrize("error", [None, ValueError, KeyboardInterrupt])
def test_it_leaves_no_process_behind(member: Member, tmp_path: Path, error: type[BaseException] | None):
    pids: tuple[int, ...] = ()

    def run() -> None:
        nonlocal pids
        with member.engine.start(member.arm, tmp_path / "log") as endpoint:
            pids = endpoint.pids
            assert all(map(is_alive, pids))
            if error is not None:
                raise error

    if error is None:
        run()
    else:
        with pytest.raises(error):
            run()
    assert bool(pids) == member.starts_processes
    assert not any(map(is_alive, pids))


def test_a_failure_shows_its_evidence_and_what_to_try(member: Member, tmp_path: Path):
    with pytest.raises(InferometerError) as caught, member.engine.start(member.broken, tmp_path / "log"):
        pass
    text = str(caught.value)
    assert member.broken_says in text
    assert "Try: " in text or "start the server" in text


def test_a_check_starts_nothing(member: Member):
    member.engine.check(member.arm)
