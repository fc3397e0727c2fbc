"""`transformers serve` needs torch: a scripted server stands in, which answers as the real one did (5.24)."""

import sys
from pathlib import Path

import msgspec
import pytest

from inferometer.base.errors import ModelUnusable, RequestWrong
from inferometer.core.spec import Arm, Draft
from inferometer.engines.transformers import Transformers
from inferometer.testing.contracts import EngineCase, EngineContract

# The model is an argument (5.17), or earlier a flag. /v1/models lists the local cache; a request for another model than
# the served one is refused.
PROGRAM = """
import argparse, http.server, sys
from inferometer.testing.openai_server_shim import handler_of
EARLIER = {earlier}
if sys.argv[1:] == ["version"]:
    print("5.17.0")
    sys.exit()
parser = argparse.ArgumentParser(prog="transformers", allow_abbrev=False)
parser.add_argument("serve", choices=["serve"])
parser.add_argument("--force-model" if EARLIER else "force_model")
parser.add_argument("--host", default="localhost")
parser.add_argument("--port", type=int, default=8000)
args = parser.parse_args()
pages = {{"/health": "", "/v1/models": {{"data": [{{"id": args.force_model}}]}}}}
handler = handler_of(pages, None, is_transformers=True)
pages["/v1/models"] = {{"data": [{{"id": "someone/in-the-cache"}}]}}
http.server.ThreadingHTTPServer((args.host, args.port), handler).serve_forever()
"""


def program(folder: Path, *, earlier: bool = False) -> str:
    script = folder / "server.py"
    script.write_text(PROGRAM.format(earlier=earlier))
    binary = folder / "transformers"
    binary.write_text(f'#!/bin/sh\nexec {sys.executable} -P {script} "$@"\n')
    binary.chmod(0o755)
    return str(binary)


@pytest.fixture
def arm(tmp_path: Path) -> Arm:
    return Arm("transformers", model="owner/name", binary=program(tmp_path))


class TestContract(EngineContract):
    @pytest.fixture
    def case(self, arm: Arm) -> EngineCase:
        broken = msgspec.structs.replace(arm, args=("--no-such-flag",))
        says = "unrecognized arguments: --no-such-flag"
        return EngineCase(Transformers(), arm, broken, says, "/v1/chat/completions")


def test_requests_name_the_served_model_and_not_one_of_the_cache(arm: Arm, tmp_path: Path):
    with Transformers().start(arm, tmp_path / "log") as endpoint:
        facts = {fact.name: fact.value for fact in endpoint.facts}
    assert endpoint.model == facts["model_name"] == "owner/name"
    assert facts["engine_version"] == "5.17.0"


@pytest.mark.parametrize(("earlier", "words"), [(False, "serve owner/name"), (True, "serve --force-model owner/name")])
def test_the_model_is_spelled_as_the_installed_version_wants_it(tmp_path: Path, earlier: bool, words: str):
    arm = Arm("transformers", model="owner/name", binary=program(tmp_path, earlier=earlier), args=("--dtype", "auto"))
    shown = Transformers().launch(arm).shown
    assert f" {words} --host 127.0.0.1 --port " in shown
    assert shown.endswith(" --dtype auto")


def test_a_draft_model_is_refused_with_what_to_do(arm: Arm):
    with pytest.raises(RequestWrong, match=r"cannot load a draft model.*use engine: llama-server, vllm or sglang"):
        Transformers().check(msgspec.structs.replace(arm, draft=Draft("owner/draft", n_max=5)))


def test_a_gguf_file_and_a_program_that_fails_are_refused(arm: Arm, tmp_path: Path):
    with pytest.raises(ModelUnusable):
        Transformers().check(msgspec.structs.replace(arm, model="gone.gguf"))
    failing = tmp_path / "failing"
    failing.write_text("#!/bin/sh\necho no serving extras >&2\nexit 1\n")
    failing.chmod(0o755)
    with pytest.raises(RequestWrong, match=r"exit code 1 and printed: no serving extras\. Install it"):
        Transformers().check(msgspec.structs.replace(arm, binary=str(failing)))
