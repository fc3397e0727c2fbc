"""Counting tokens: by a tokenizer of one's own, or by the server's."""

import json
from collections.abc import Iterable
from pathlib import Path

import pytest
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing

from inferometer.base.errors import RequestWrong
from inferometer.core.endpoint import Endpoint
from inferometer.testing.scripted_server import Received, ScriptedServer, Step, whole
from inferometer.workloads.token_counts import counter_for


def endpoint(url: str) -> Endpoint:
    return Endpoint(url, "/v1/chat/completions", "openai-chat", "m")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    tokenizer = Tokenizer(WordLevel({"<s>": 0, "a": 1, "b": 2, "?": 3}, unk_token="?"))
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.post_processor = TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    return tmp_path


def test_a_folder_and_a_file_count_with_and_without_special_tokens(folder: Path):
    for name in (folder, folder / "tokenizer.json"):
        with counter_for(str(name), endpoint("http://127.0.0.1:9")) as counter:
            assert counter is not None
            assert counter.count("a b a", special=True) == 4
            assert counter.count("a b a", special=False) == 3


def test_a_tokenizer_that_is_not_to_be_had_is_refused_with_the_ways_out(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with (
        pytest.raises(RequestWrong, match="no tokenizer 'no-such/tokenizer'") as caught,
        counter_for("no-such/tokenizer", endpoint("http://127.0.0.1:9")),
    ):
        pass
    assert "--skip-tokenizer-init" in str(caught.value)


def llama_cpp(request: Received) -> Iterable[Step]:
    words = request.body["content"].split()
    return [whole(200, json.dumps({"tokens": list(range(len(words) + request.body["add_special"]))}))]


def vllm(request: Received) -> Iterable[Step]:
    if "prompt" not in request.body:
        return [whole(400, '{"error": {"message": "prompt: field required"}}')]
    count = len(request.body["prompt"].split()) + request.body["add_special_tokens"]
    return [whole(200, json.dumps({"count": count, "max_model_len": 99, "tokens": list(range(count))}))]


@pytest.mark.parametrize("server_kind", [llama_cpp, vllm])
def test_the_server_s_own_tokenizer_counts(server_kind):
    with (
        ScriptedServer(server_kind) as server,
        counter_for("server", endpoint(server.url)) as counter,
    ):
        assert counter is not None
        assert counter.count("a b a", special=True) == 4
        assert counter.count("a b a", special=False) == 3


def test_a_server_without_a_tokenizer_gives_none():
    with (
        ScriptedServer(lambda _: [whole(404, "{}")]) as server,
        counter_for("server", endpoint(server.url)) as counter,
    ):
        assert counter is None


def test_none_counts_nothing():
    with counter_for("none", endpoint("http://127.0.0.1:9")) as counter:
        assert counter is None
