"""vLLM and SGLang cannot run here: these are their command lines, against servers that answer as they do."""

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from inferometer.base.errors import ModelUnusable, RequestWrong, ServerUnusable
from inferometer.core.spec import Arm, Draft
from inferometer.engines import sglang, vllm
from inferometer.engines.command import Command
from inferometer.engines.failure_log import first_error, tail
from inferometer.engines.server_facts import context_facts, vllm_facts
from inferometer.engines.sglang import SgLang
from inferometer.engines.vllm import Vllm
from inferometer.testing.openai_server_shim import write_binary

DRAFT = Draft(model="owner/draft", n_max=5)
ENGINES: dict[str, Any] = {"vllm": Vllm, "sglang": SgLang}


@pytest.fixture(scope="module")
def binaries(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("bin")
    return {engine: str(write_binary(folder / engine, engine)) for engine in ENGINES}


def started_facts(arm: Arm, log_path: Path) -> dict[str, str]:
    with ENGINES[arm.engine]().start(arm, log_path) as endpoint:
        return {"model": endpoint.model} | {fact.name: fact.value for fact in endpoint.facts}


@pytest.mark.parametrize(
    ("engine", "command"),
    [
        ("vllm", "serve owner/name --host 127.0.0.1 --port {port} --api-key ***"),
        ("sglang", "serve --model-path owner/name --host 127.0.0.1 --port {port} --enable-metrics --api-key ***"),
    ],
)
def test_it_is_started_in_its_own_words_and_asked_with_its_key(
    engine: str, command: str, binaries: dict[str, str], tmp_path: Path
):
    arm = Arm(engine=engine, model="owner/name", binary=binaries[engine], args=("--api-key", "s3cret"))
    facts = started_facts(arm, tmp_path / "log")
    port = facts["engine_command"].split("--port ")[1].split()[0]
    assert facts["engine_command"] == f"{binaries[engine]} {command.format(port=port)}"
    assert "s3cret" not in str(facts)
    assert facts["model"] == facts["model_name"] == "owner/name"


def test_what_each_says_of_itself_is_kept(binaries: dict[str, str], tmp_path: Path):
    vllm_arm = Arm(engine="vllm", model="m", binary=binaries["vllm"], args=("--max-model-len", "4096"))
    facts = started_facts(vllm_arm, tmp_path / "a")
    assert (facts["engine_version"], facts["in_force_draft"], facts["in_force_context"]) == ("0.26.0", "off", "4096")
    sglang_arm = Arm(engine="sglang", model="m", binary=binaries["sglang"])
    facts = started_facts(sglang_arm, tmp_path / "b")
    assert (facts["engine_version"], facts["in_force_draft"], facts["in_force_context"]) == (
        "SGLang 0.5.9",
        "off",
        "32768",
    )


@pytest.mark.parametrize("engine", list(ENGINES))
def test_a_draft_is_asked_for_and_in_force(engine: str, binaries: dict[str, str], tmp_path: Path):
    arm = Arm(engine=engine, model="owner/name", binary=binaries[engine], draft=DRAFT)
    facts = started_facts(arm, tmp_path / "log")
    assert (facts["asked_draft"], facts["in_force_draft"], facts["draft_name"]) == ("on", "on", "owner/draft")


def test_vllm_is_told_of_a_draft_as_its_version_knows_it():
    flag, config = vllm.draft_flags(DRAFT, (0, 26))
    assert flag == "--speculative-config"
    assert json.loads(config) == {"method": "draft_model", "model": "owner/draft", "num_speculative_tokens": 5}
    assert vllm.draft_flags(DRAFT, (0, 6)) == ["--speculative-model", "owner/draft", "--num-speculative-tokens", "5"]
    with pytest.raises(RequestWrong, match=r"vLLM 0\.13 cannot speculate with a draft model"):
        vllm.draft_flags(DRAFT, (0, 13))


def test_a_version_without_drafts_is_refused_before_anything_starts(tmp_path: Path):
    binary = write_binary(tmp_path / "vllm", "vllm", version="0.11.2")
    with pytest.raises(RequestWrong, match="Take another version"):
        Vllm().check(Arm(engine="vllm", model="m", binary=str(binary), draft=DRAFT))


def test_sglang_drafts_a_chain_and_verifies_one_token_more():
    assert " ".join(sglang.draft_flags(DRAFT)) == (
        "--speculative-algorithm STANDALONE --speculative-draft-model-path owner/draft --speculative-num-steps 5 "
        "--speculative-eagle-topk 1 --speculative-num-draft-tokens 6"
    )


@pytest.mark.parametrize("engine", list(ENGINES))
@pytest.mark.parametrize(
    ("draft", "message"),
    [
        (Draft(model="d", n_max=4, n_min=1), r"draft\.n_min: .* has no such setting"),
        (Draft(model="d", n_max=4, p_min=0.5), r"draft\.p_min"),
        (Draft(model="d", n_max=4, gpu_layers=9), r"draft\.gpu_layers"),
        (Draft(model="d"), r"draft\.n_max: .* needs the number of tokens to draft"),
    ],
)
def test_settings_that_only_llama_cpp_has_are_refused(
    engine: str, draft: Draft, message: str, binaries: dict[str, str]
):
    with pytest.raises(RequestWrong, match=message):
        ENGINES[engine]().check(Arm(engine=engine, model="m", binary=binaries[engine], draft=draft))


@pytest.mark.parametrize("engine", list(ENGINES))
@pytest.mark.parametrize("lost", ["{method:ngram,n:4}", '--speculative-config={method: "ngram"}'])
def test_json_that_lost_its_quotes_is_refused_before_anything_starts(engine: str, lost: str, binaries: dict[str, str]):
    kept = ("--speculative-config", '{"method": "ngram"}', "--chat-template", "{% for m in messages %}{{ m }}")
    arm = Arm(engine=engine, model="m", binary=binaries[engine], args=kept)
    ENGINES[engine]().check(arm)
    with pytest.raises(RequestWrong, match="JSON without its quotes"):
        ENGINES[engine]().check(msgspec.structs.replace(arm, args=(*kept, lost)))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("model.gguf", "is a GGUF file: vllm takes a Hugging Face name"),
        ("text", "is a file: vllm takes"),
        ("empty", "has no config.json that can be read"),
        ("gone/", "no model"),
        ("/no/such/folder", "no model /no/such/folder"),
        ("owner/gone.gguf", "no model owner/gone.gguf"),
    ],
)
def test_what_is_no_model_of_its_kind_is_refused(
    name: str, message: str, binaries: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    Path("model.gguf").write_bytes(b"GGUF\x03")
    Path("text").write_text("hello")
    Path("empty").mkdir()
    with pytest.raises(ModelUnusable) as caught:
        Vllm().check(Arm(engine="vllm", model=name, binary=binaries["vllm"]))
    assert message in str(caught.value)


def test_a_folder_is_known_by_the_hash_of_its_config(binaries: dict[str, str], tmp_path: Path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{}")
    arm = Arm(engine="vllm", model=str(tmp_path / "model"), binary=binaries["vllm"])
    facts = started_facts(arm, tmp_path / "log")
    assert facts["model_folder"] == "model"
    assert facts["model_config_sha256"].startswith("44136fa355b3678a")  # sha256 of {}


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("0.26.0\n", (0, 26)),
        ("vllm 0.6.4.post1", (0, 6)),
        ("INFO 11-24 hello\n1.0.0rc1+cu129\n", (1, 0)),
        ("usage: vllm", None),
    ],
)
def test_vllms_version_is_found_among_its_warnings(text: str, version: tuple[int, int] | None):
    assert vllm.version_of(text) == version


def test_a_python_is_told_the_module():
    assert vllm.is_python("/venv/bin/python3.12")
    assert not vllm.is_python("/venv/bin/vllm")


def test_servers_that_say_nothing_of_it_have_nothing_in_force():
    assert vllm_facts("# HELP other\n") == ()
    assert [context_facts(models) for models in (None, {}, {"data": []}, {"data": [{"id": "m"}]})] == [()] * 4


def test_any_server_is_started_by_a_command_of_the_users_own(binaries: dict[str, str], tmp_path: Path):
    line = f"exec {binaries['vllm']} serve {{model}} --port {{port}}"
    arm = Arm(engine="command", model="owner/name", command=line, shell=True, cwd=str(tmp_path))
    with Command().start(arm, tmp_path / "log") as endpoint:
        facts = {fact.name: fact.value for fact in endpoint.facts}
    assert (facts["engine"], facts["engine_version"], facts["engine_cwd"]) == ("command", "0.26.0", str(tmp_path))
    assert endpoint.model == "owner/name"


def test_a_command_whose_program_is_not_there_is_refused(tmp_path: Path):
    for word in ("no-such-program", "./no-such-program"):
        with pytest.raises(RequestWrong, match=r"there is no program .*no-such-program that can be run"):
            Command().check(Arm(engine="command", command=(word, "{port}"), cwd=str(tmp_path)))


def test_a_command_that_is_told_no_port_needs_the_address():
    with pytest.raises(RequestWrong, match=r"Put \{port\} in it, or give url:"):
        Command().check(Arm(engine="command", command=("serve",)))


def test_a_server_that_answers_without_a_token_is_shown_with_what_it_says(binaries: dict[str, str], tmp_path: Path):
    command = (binaries["vllm"], "serve", "{model}", "--port", "{port}", "--api-key", "another")
    arm = Arm(engine="vllm", model="owner/name", command=command)
    with pytest.raises(ServerUnusable) as caught, Vllm().start(arm, tmp_path / "log"):
        pass
    assert "status 401 and no token: Unauthorized" in str(caught.value)
    assert "another" not in str(caught.value)


def test_the_root_cause_is_found_far_above_the_end_of_a_real_vllms_log():
    log = Path(__file__).parent / "recorded" / "vllm-0.32.0-damaged.log"
    cause = "SafetensorError: Error while deserializing header: incomplete metadata, file not fully covered"
    assert first_error(log).endswith(cause)
    assert cause not in tail(log)
