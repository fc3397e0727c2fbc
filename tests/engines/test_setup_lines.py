"""Set-ups in one line, as `inferometer vs` reads them."""

from typing import Any

import msgspec
import pytest

from inferometer.base.errors import RequestWrong
from inferometer.core.spec import Arm
from inferometer.engines.setup_lines import read_setups


@pytest.mark.parametrize(
    ("line", "arm"),
    [
        (
            "llama-server -m a.gguf -ngl 99",
            {"engine": "llama-server", "binary": "llama-server", "model": "a.gguf", "args": ["-ngl", "99"]},
        ),
        (
            "/opt/b/llama-server --model=a.gguf",
            {"engine": "llama-server", "binary": "/opt/b/llama-server", "model": "a.gguf"},
        ),
        (
            "llama-server -m a.gguf --port {port}",
            {"engine": "llama-server", "binary": "llama-server", "model": "a.gguf"},
        ),
        (
            "llama-server -m a.gguf --port=8123",
            {"engine": "llama-server", "binary": "llama-server", "model": "a.gguf", "args": ["--port=8123"]},
        ),
        (
            "llama-server -hf org/x",
            {
                "engine": "llama-server",
                "command": ["llama-server", "-hf", "org/x", "--host", "{host}", "--port", "{port}"],
            },
        ),
        (
            "taskset -c 1 llama-server -m a.gguf --port {port}",
            {
                "engine": "llama-server",
                "command": ["taskset", "-c", "1", "llama-server", "-m", "a.gguf", "--port", "{port}"],
            },
        ),
        (
            "vllm serve org/x --dtype half",
            {"engine": "vllm", "binary": "vllm", "model": "org/x", "args": ["--dtype", "half"]},
        ),
        ("vllm serve --model org/x", {"engine": "vllm", "binary": "vllm", "model": "org/x"}),
        (
            "python3 -m vllm.entrypoints.openai.api_server --model org/x",
            {"engine": "vllm", "binary": "python3", "model": "org/x"},
        ),
        (
            "python -m sglang.launch_server --model-path org/x",
            {"engine": "sglang", "binary": "python", "model": "org/x"},
        ),
        (
            "sglang serve --model-path org/x --tp 2",
            {"engine": "sglang", "binary": "sglang", "model": "org/x", "args": ["--tp", "2"]},
        ),
        ("transformers serve org/x", {"engine": "transformers", "binary": "transformers", "model": "org/x"}),
        ("my-server --listen {port}", {"engine": "command", "command": ["my-server", "--listen", "{port}"]}),
        ("http://host:8000", {"engine": "external", "url": "http://host:8000"}),
        (
            "https://host/v1 --model m --insecure",
            {"engine": "external", "url": "https://host/v1", "model": "m", "insecure": True},
        ),
        ("unix:///run/llama.sock", {"engine": "external", "url": "unix:///run/llama.sock"}),
        ("b.gguf -t 2", {"engine": "embedded", "model": "b.gguf", "args": ["-t", "2"]}),
        ("-fa on", {"engine": "embedded", "model": "default.gguf", "args": ["-fa", "on"]}),
        ("", {"engine": "embedded", "model": "default.gguf"}),
        (
            "llama-server -fa on",
            {"engine": "llama-server", "binary": "llama-server", "model": "default.gguf", "args": ["-fa", "on"]},
        ),
        (
            "CUDA_VISIBLE_DEVICES=1 A=b llama-server -m a.gguf",
            {
                "engine": "llama-server",
                "binary": "llama-server",
                "model": "a.gguf",
                "env": {"CUDA_VISIBLE_DEVICES": "1", "A": "b"},
            },
        ),
    ],
)
def test_a_line_becomes_the_arm_that_it_describes(line: str, arm: dict[str, Any]):
    (read,) = read_setups([line], "default.gguf").values()
    assert msgspec.convert(read, Arm) == msgspec.convert(arm, Arm)


@pytest.mark.parametrize(
    ("lines", "names"),
    [
        (["llama-server -m a.gguf", "llama-server -m a.gguf -fa on"], ["plain", "-fa on"]),
        (["Q8, FA off (2% more)=-fa off", "new & fast=-fa on"], ["Q8, FA off (2% more)", "new & fast"]),
        (["-t 1", "-t 2"], ["-t 1", "-t 2"]),
        (["http://one:80", "http://two:80/"], ["one:80", "two:80"]),
        (["/m/q8.gguf", "/m/q4.gguf"], ["q8", "q4"]),
        (["old=-t 1", "-t 2"], ["old", "-t 2"]),
        (["kv q8_0=-ctk q8_0", "-t 2"], ["kv q8_0", "-t 2"]),
        (["'-t 1'", '"-t 2"'], ["-t 1", "-t 2"]),
        (["./a/llama-server -m x.gguf", "./b/llama-server -m x.gguf"], ["a/llama-server", "b/llama-server"]),
        (["-t 1", "-t 1"], ["plain #1", "plain #2"]),
        (["A=1 llama-server -m x.gguf", "A=2 llama-server -m x.gguf"], ["A=1", "A=2"]),
    ],
)
def test_arms_are_named_by_what_differs(lines: list[str], names: list[str]):
    assert list(read_setups(lines, "m.gguf")) == names


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        (["ollama serve"], r"not an engine that Inferometer knows. Write \{port\} where the port belongs"),
        (["localhost:8080"], "write it as http://localhost:8080"),
        (["study.yaml"], "inferometer run study.yaml"),
        (["."], "inferometer compare ."),
        (["llama-server -m 'a"], "unfinished quotation"),
        (["http://host:1 -ngl 99"], "-ngl 99 cannot be given to a server that is already running"),
        (["a=-t 1", "a=-t 2"], "two set-ups are named 'a'"),
    ],
)
def test_a_line_that_nothing_understands_is_refused_with_the_way_out(lines: list[str], says: str):
    with pytest.raises(RequestWrong, match=says):
        read_setups(lines, "m.gguf")
