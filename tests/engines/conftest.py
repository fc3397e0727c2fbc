import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from inferometer.core.spec import Arm
from inferometer.engines.process import LOCALHOST, Launch, free_port
from inferometer.standin.pairs import standin_pair
from inferometer.testing.llama_server_shim import write_binary

ENGINE_SCRIPT = """
import http.server, json, os, signal, subprocess, sys, time
SETTINGS = json.loads(sys.argv[2])
print("the fake engine begins", flush=True)
if SETTINGS.get("ignores_term"):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
for new_session in SETTINGS.get("children", []):
    child = subprocess.Popen(["sh", "-c", "trap '' TERM; echo ready; while :; do sleep 1; done"],
                             start_new_session=new_session, stdout=subprocess.PIPE)
    child.stdout.readline()  # it ignores SIGTERM from here on
    print("child", child.pid, flush=True)
answers = iter(SETTINGS["answers"])
last = [500, ""]
class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        global last
        last = next(answers, last)
        if last[0] == "exit":
            print("the fake engine gives up", flush=True)
            os._exit(last[1])
        body = last[1].encode()
        self.send_response(last[0]); self.send_header("Content-Length", str(len(body))); self.end_headers()
        self.wfile.write(body)
    def do_GET(self):
        self.send_error(404)
    def log_message(self, *args):
        pass
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""


@pytest.fixture(scope="session")
def tiny_pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A target and a draft that llama.cpp loads in a moment."""
    target, draft = standin_pair(tmp_path_factory.mktemp("models"), "tiny")
    return Path(target), Path(draft)


@pytest.fixture(scope="session")
def shim(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(write_binary(tmp_path_factory.mktemp("bin") / "llama-server"))


@pytest.fixture
def arm() -> Arm:
    return Arm(engine="fake", model="m.gguf", ready_timeout_s=20.0)


@pytest.fixture
def fake_engine() -> Callable[..., Launch]:
    """A launch of a scripted server: `answers` are (status, body) of one POST after another, the last one for good."""

    def launch(answers: list[tuple[int | str, str | int]], **settings: object) -> Launch:
        port = free_port()
        command = (sys.executable, "-c", ENGINE_SCRIPT, str(port), json.dumps({"answers": answers, **settings}))
        return Launch("the fake engine", command, "fake-engine --flag", f"http://{LOCALHOST}:{port}")

    return launch
