import msgspec
import pytest

from inferometer.core.redaction import (
    is_secret_name,
    redact,
    redacted_env,
    redacted_line,
    redacted_spec,
    redacted_text,
    redacted_words,
    secrets_in,
    secrets_of_environment,
)
from inferometer.core.spec import Arm, Sampling, Spec, parse, to_yaml


@pytest.mark.parametrize(
    "name",
    "--api-key --api_key -hft --hf-token HF_TOKEN OPENAI_API_KEY my_password X-Api-Key Authorization sig".split(),
)
def test_names_that_say_that_their_value_is_a_secret(name: str):
    assert is_secret_name(name)


@pytest.mark.parametrize(
    "name", "--max-tokens TOKENIZERS_PARALLELISM --api-key-file SSL_KEY_PATH --monkey -c CUDA_VISIBLE_DEVICES".split()
)
def test_names_that_do_not(name: str):
    assert not is_secret_name(name)


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        (["s", "--api-key", "k", "-c", "1"], ["s", "--api-key", "***", "-c", "1"]),
        (["--api-key=a=b"], ["--api-key=***"]),
        (["--api-key"], ["--api-key"]),
        (["env", "HF_TOKEN=k", "s"], ["env", "HF_TOKEN=***", "s"]),
        (["--mmproj", "https://me:pw@h/x?token=k&v=1"], ["--mmproj", "https://***@h/x?token=***&v=1"]),
        (["-H", "Authorization: Bearer k"], ["-H", "Authorization: ***"]),
        (["-H", "X: Bearer k"], ["-H", "X: Bearer ***"]),
    ],
)
def test_a_command_line_is_shown_without_its_secrets(words: list[str], shown: list[str]):
    assert redacted_words(words) == shown


def test_a_line_for_the_shell_is_shown_without_its_secrets():
    line = "HF_TOKEN=k exec s --api-key 'a b' --port {port} --password=x -c 1"
    assert redacted_line(line) == "HF_TOKEN=*** exec s --api-key *** --port {port} --password=*** -c 1"


def test_an_address_keeps_what_is_no_secret():
    assert redacted_text("/v1?api-version=2&sig=k") == "/v1?api-version=2&sig=***"
    assert redacted_text("/models/a@b.gguf") == "/models/a@b.gguf"
    assert redacted_env({"A": "http://u@h", "B_KEY": "k"}) == {"A": "http://***@h", "B_KEY": "***"}


def test_a_spec_is_kept_without_its_secrets_and_can_be_read():
    arm = Arm("vllm", "m", args=("--api-key", "sesame-1"), env={"HF_TOKEN": "sesame-2", "X": "1"})
    body = {"api_key": "sesame-3", "stop_token_ids": [1], "deep": [{"token": "sesame-4"}]}
    spec = Spec(arms={"a": arm}, sampling=Sampling(extra_body=body))
    kept = to_yaml(redacted_spec(spec))
    assert "sesame" not in kept
    assert "stop_token_ids" in kept
    assert redacted_spec(parse(kept, "x")) == parse(kept, "x")
    assert set(secrets_in(spec, {"Authorization": "Bearer sesame-5"})) == {
        "sesame-1", "sesame-2", "sesame-5", "Bearer sesame-5"
    }  # fmt: skip


def test_several_keys_by_commas_are_each_a_secret():
    spec = Spec(arms={"a": Arm("llama-server", "m", args=("--api-key", "sesame-1,sesame-2"))})
    assert redact("it has sesame-2 and sesame-1", secrets_in(spec)) == "it has *** and ***"


def test_short_values_make_no_holes_into_words():
    spec = Spec(arms={"a": Arm("llama-server", "m", env={"A_KEY": "on"})})
    assert redact("on and on", secrets_in(spec)) == "on and on"
    assert secrets_of_environment({"A_TOKEN": "true", "B_TOKEN": "0123456789ab"}) == {"0123456789ab"}


def test_a_spec_without_a_secret_is_kept_as_it_is():
    spec = Spec(arms={"a": Arm("command", command=("s", "--max-tokens", "5"), url="http://h:1/v1")})
    assert msgspec.yaml.encode(redacted_spec(spec)) == msgspec.yaml.encode(spec)
