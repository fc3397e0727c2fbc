import base64
import urllib.parse

import msgspec
import pytest

from inferometer.base.redactor import Redactor
from inferometer.core.redaction import (
    is_secret_name,
    redacted_env,
    redacted_line,
    redacted_spec,
    redacted_text,
    redacted_words,
    redactor_for,
    secrets_of_environment,
)
from inferometer.core.spec import Arm, Sampling, Spec
from inferometer.core.spec_file import parse, to_yaml


@pytest.mark.parametrize(
    "name",
    (
        "--api-key --api_key --pwd DB_PWD -hft --hf-token HF_TOKEN OPENAI_API_KEY X-Api-Key Authorization sig "
        "API_KEYS HF_TOKEN_2 AWS_ACCESS_KEY_ID openaiApiKey OPENAIAPIKEY Cookie DB_PASS PASSPHRASE GITHUB_PAT"
    ).split(),
)
def test_names_that_say_that_their_value_is_a_secret(name: str):
    assert is_secret_name(name)


@pytest.mark.parametrize(
    "name",
    (
        "--max-tokens TOKENIZERS_PARALLELISM --api-key-file SSL_KEY_PATH --monkey -c CUDA_VISIBLE_DEVICES "
        "--stop-token-ids --eos-token-id --long-prefill-token-threshold --key-cache-type TOKEN_COUNT --bypass"
    ).split(),
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
        (["--header=X-Api-Key: k"], ["--header=X-Api-Key: ***"]),
        (["-H", "Cookie: id=k"], ["-H", "Cookie: ***"]),
        (["--extra", '{"api_key":"k","x":1}'], ["--extra", '{"api_key":"***","x":1}']),
        (
            ["sh", "-c", "export HF_TOKEN=k; ./s -v --api-key k -m x"],
            ["sh", "-c", "export HF_TOKEN=***; ./s -v --api-key *** -m x"],
        ),
        (["-m", "/home/token/key.gguf"], ["-m", "/home/token/key.gguf"]),
    ],
)
def test_a_command_line_is_shown_without_its_secrets(words: list[str], shown: list[str]):
    assert redacted_words(words) == shown


def test_a_line_for_the_shell_is_shown_without_its_secrets():
    line = "HF_TOKEN=k exec s --api-key 'a b' --port {port} --password=x -c 1"
    assert redacted_line(line) == "HF_TOKEN=*** exec s --api-key *** --port {port} --password=*** -c 1"


def test_the_secrets_in_words_of_any_kind_are_searched_for():
    words = ("sh", "-c", "exec ./s --api-key sesame-1", "--header=X-Key: sesame-2", '{"token":"sesame-3"}')
    assert {"sesame-1", "sesame-2", "sesame-3"} <= set(redactor_for([Arm("command", command=words)]).secrets)


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
    assert set(redactor_for(spec.arms.values(), {"Authorization": "Bearer sesame-5"}).secrets) == {
        "sesame-1", "sesame-2", "sesame-5", "Bearer sesame-5"
    }  # fmt: skip


def test_the_directory_variables_of_a_shell_are_not_secrets():
    environment = {"PWD": "/home/me/models", "OLDPWD": "/home/me/other", "DB_PWD": "sesame-of-a-database"}
    shown = redactor_for([], environment=environment).redact("/home/me/models/model.gguf sesame-of-a-database")
    assert shown == "/home/me/models/model.gguf ***"
    assert redacted_env({"PWD": "/home/me"}) == {"PWD": "/home/me"}


def test_the_password_of_the_environment_s_proxy_is_a_secret():
    redactor = redactor_for([], environment={"https_proxy": "http://me:sesame-1@proxy"})
    assert redactor.redact("Basic bWU6c2VzYW1lLTE=, sesame-1") == "***, ***"


def test_short_values_of_unrelated_variables_are_not_secrets():
    assert secrets_of_environment({"A_TOKEN": "true", "B_TOKEN": "0123456789ab"}) == {"0123456789ab"}


def test_a_spec_without_a_secret_is_kept_as_it_is():
    spec = Spec(arms={"a": Arm("command", command=("s", "--max-tokens", "5"), url="http://h:1/v1")})
    assert msgspec.yaml.encode(redacted_spec(spec)) == msgspec.yaml.encode(spec)


SECRET = "sk-Ab3/x+Zq9_77"


def encoded_forms() -> list[str]:
    data = SECRET.encode()
    within = [base64.b64encode(before + data + b":after").decode() for before in (b"", b"a", b"ab", b"Bearer ")]
    urlsafe = [base64.urlsafe_b64encode(before + data).decode() for before in (b"", b"a", b"ab")]
    hexes = [data.hex(), data.hex().upper(), data.hex(" "), data.hex(":"), "".join(f"\\x{octet:02x}" for octet in data)]
    percent = [urllib.parse.quote(SECRET, safe=""), "".join(f"%{octet:02X}" for octet in data)]
    return [SECRET, SECRET.upper(), SECRET.lower(), SECRET.replace("/", "\\/"), *within, *urlsafe, *hexes, *percent]


@pytest.mark.parametrize("form", encoded_forms())
def test_a_secret_is_hidden_in_every_form(form: str):
    redactor = Redactor.of([SECRET])
    shown = redactor.redact(f"the server says {form} and more")
    assert "***" in shown
    assert form not in shown
    assert shown.startswith("the server says ")
    assert shown.endswith(" and more")
    assert len(redactor.mask(form)) == len(form)


@pytest.mark.parametrize("text", ["", "sk-Ab3", "a plain sentence with 0123456789abcdef and QUJDREVGRw=="])
def test_other_text_stays(text: str):
    assert Redactor.of([SECRET]).mask(text) == text


def test_the_shell_s_directory_is_no_password():
    environment = {"PWD": "/home/me/models-of-mine", "OLDPWD": "/home/me/models-of-old", "DB_PWD": "a-long-password"}
    assert secrets_of_environment(environment) == {"a-long-password"}
