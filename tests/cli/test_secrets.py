"""Real studies with a secret in every place that has one: whatever they leave behind is searched for them.

The engine is a program that tells all that it was given, as real ones do: vLLM prints its arguments with the key. Every
secret has the word sesame in it.
"""

import os
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from warm_program import inferometer

from inferometer.store import stored_spec

ENGINE = """
import http.server, json, os, pathlib, sys

args = sys.argv[1:]
mode = os.environ.get("MODE", "")
print("non-default args:", args, flush=True)
print("\\x1b[31menvironment:", {k: v for k, v in os.environ.items() if "sesame" in v}, flush=True)
if mode == "dies":
    sys.exit(1)
port = int(args[args.index("--port") + 1])


class Handler(http.server.BaseHTTPRequestHandler):
    streams = 0

    def do_GET(self):
        said = {"data": [{"id": f"model {self.headers['Authorization']}"}], "version": f"1 {args}"}
        self.answer(200, json.dumps(said).encode(), "application/json")

    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        print(self.headers["Authorization"], self.path, flush=True)
        Handler.streams += bool(asked.get("stream"))
        later = mode == "later" and Handler.streams > 1  # after the warm-up
        if mode == "refuses" or (asked.get("stream") and (mode == "repeats" or later)):
            said = {"error": {"message": f"I was sent {self.headers['Authorization']} with {asked}, and have {args}"}}
            self.answer(500, json.dumps(said).encode(), "application/json")
        elif asked.get("stream"):
            seen = [p.read_bytes() for p in pathlib.Path("/proc").glob("[0-9]*/cmdline") if p.exists()]
            ours = os.environ["OPENAI_API_KEY"].encode()
            pathlib.Path(os.environ["SEEN"]).write_text(str(sum(ours in words for words in seen)))
            chunks = [{"choices": [{"delta": {"content": word}}], "model": str(args)} for word in ("a", "b")]
            chunks += [{"choices": [{"delta": {}, "finish_reason": f"stop {asked['api_key']}"}]}]
            body = "".join(f"data: {json.dumps(chunk)}\\n\\n" for chunk in chunks) + "data: [DONE]\\n\\n"
            self.answer(200, body.encode(), "text/event-stream")
        else:
            said = {"choices": [{"message": {"content": "a"}}], "usage": {"completion_tokens": 1}}
            self.answer(200, json.dumps(said).encode(), "application/json")

    def answer(self, status, body, kind):
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Server", f"s {self.headers['Authorization']}")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *words):
        pass


http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler).serve_forever()
"""

ARMS = {
    "vllm": {"engine": "vllm", "model": "m", "binary": "./vllm", "args": ["--api-key", "sesame-of-vllm"]},
    "equals": {"engine": "sglang", "model": "m", "binary": "./vllm", "args": ["--api-key=sesame-of-sglang"]},
    "words": {
        "engine": "command",
        "command": [
            "./vllm",
            "--port",
            "{port}",
            "--hf-token",
            "sesame-of-words",
            "--h",
            "X-Api-Key: sesame-in-header",
        ],
        "path": "/v1/chat/completions?api-version=1&sig=sesame-in-path",
    },
    "shell": {
        "engine": "command",
        "shell": True,
        "command": "THE_TOKEN=sesame-of-shell exec ./vllm --port {port} --password 'sesame of a line'",
    },
    "address": {
        "engine": "command",
        "command": ["./vllm", "--port", "{port}", "--proxy", "http://me:sesame-in-address@proxy:1/?token=sesame-asked"],
    },
}
GIVEN = {"OPENAI_API_KEY": "sesame-openai-key", "WANDB_API_KEY": "sesame-of-nobody-here"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    program = tmp_path / "vllm"
    program.write_text(f"#!{sys.executable}\n{ENGINE}")
    program.chmod(0o755)
    return tmp_path


def study(folder: Path, arms: dict, mode: str = "", *words: str) -> subprocess.CompletedProcess[str]:
    env = {"HF_TOKEN": "sesame-of-the-arm", "MODE": mode, "SEEN": str(folder / "seen")}
    spec = {
        "name": "secrets",
        "arms": {name: {**arm, "env": env} for name, arm in arms.items()},
        "workload": {"kind": "builtin", "num_prompts": 2},
        "sampling": {"extra_body": {"api_key": "sesame-in-body", "stop_token_ids": [1]}},
        "trials": 1,
        "tokenizer": "none",
    }
    given = folder / "given" / "study.yaml"  # the user's own file is not among what a run leaves
    given.parent.mkdir(exist_ok=True)
    given.write_bytes(msgspec.yaml.encode(spec))
    clean = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    return inferometer("run", given, "--out", "out", *words, cwd=folder, env=clean | GIVEN)


def left_behind(folder: Path, done: subprocess.CompletedProcess[str]) -> str:
    files = [path for path in (folder / "out").rglob("*") if path.is_file()]
    assert {"study.yaml", "study.db", "summary.md"} <= {path.name for path in files} or done.returncode
    return "".join([*(path.read_bytes().decode("latin-1") for path in files), done.stdout, done.stderr])


def test_a_study_that_goes_well_keeps_no_secret(folder: Path):
    done = study(folder, ARMS)
    assert done.returncode in (0, 3), done.stderr
    left = left_behind(folder, done)
    assert "sesame" not in left
    assert "--api-key ***" in left
    assert "**************" in (folder / "out" / "logs" / "vllm-1.log").read_text()  # where the engine printed its own
    assert "api-version=1" in left and "stop_token_ids" in left  # what is no secret is kept
    assert (folder / "seen").read_text() == "0"  # no command line of any process holds what goes as a header


def test_a_study_goes_on_though_its_secrets_were_not_kept(folder: Path):
    arms = {"vllm": ARMS["vllm"]}
    assert study(folder, arms).returncode in (0, 3)
    again = study(folder, arms, "", "--resume")
    assert again.returncode in (0, 3), again.stderr
    assert stored_spec(folder / "out" / "study.yaml").arms["vllm"].args == ("--api-key", "***")


@pytest.mark.parametrize("mode", ["dies", "refuses", "repeats", "later"])
def test_a_study_that_fails_tells_why_without_a_secret(folder: Path, mode: str):
    done = study(folder, ARMS, mode)
    assert done.returncode == 1, done.stderr
    left = left_behind(folder, done)
    assert "sesame" not in left
    assert "***" in done.stderr
    assert "\x1b" not in done.stderr


@pytest.mark.parametrize(
    ("arm", "said"),
    [
        ({"engine": "external", "url": "http://me:sesame-1@127.0.0.1:9"}, "a name or a password"),
        ({"engine": "external", "url": "http://127.0.0.1:9?api_key=sesame-1"}, "remove the query"),
        ({"engine": "command", "command": ["./vllm"], "url": "http://me:sesame-1@127.0.0.1:9"}, "a name or a password"),
        ({"engine": "embedded", "model": "standin:tiny", "args": ["--api-key=sesame-1"]}, "has no flag"),
        ({"engine": "external", "url": "http://127.0.0.1:9", "path": "v1?key=sesame-1"}, "must begin with /"),
    ],
)
def test_what_cannot_be_run_is_refused_without_its_secret(folder: Path, arm: dict, said: str):
    done = study(folder, {"a": arm})
    assert done.returncode == 2
    assert said in done.stderr
    assert "sesame" not in left_behind(folder, done)


def test_a_defect_shows_its_traceback_without_a_secret(folder: Path):
    """A package of somebody's own that breaks with what it was given."""
    package = folder / "site" / "inferometer_broken.py"
    package.parent.mkdir()
    package.write_text(
        "from inferometer.engines.base import EngineDescription\n"
        "class Broken:\n    description = EngineDescription('broken', 'an engine with a defect')\n"
        "    def __init__(self, headers):\n        raise KeyError(str(headers))\n",
        encoding="utf-8",
    )
    info = folder / "site" / "broken-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: broken\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[inferometer.engines]\nbroken = inferometer_broken:Broken\n")
    path = f"{folder / 'site'}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"
    os.environ["PYTHONPATH"], before = path, os.environ.get("PYTHONPATH")
    try:
        done = study(folder, {"a": {"engine": "broken", "model": "m"}})
    finally:
        if before is None:
            del os.environ["PYTHONPATH"]
        else:
            os.environ["PYTHONPATH"] = before
    assert "KeyError" in done.stderr and "Traceback" in done.stderr
    assert "sesame" not in left_behind(folder, done)
