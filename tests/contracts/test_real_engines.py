"""vLLM and transformers themselves under the contract, on a CPU with SmolLM2 (`make engines`; not part of `make test`)."""

import json
import os
import signal
import time
from pathlib import Path

import msgspec
import psutil
import pytest

from inferometer.base.errors import EngineDied
from inferometer.core.spec import Arm
from inferometer.core.spec_file import to_yaml
from inferometer.engines.catalog import engine_class
from inferometer.testing.contracts import EngineCase, EngineContract
from inferometer.testing.real_program import run, wait_gone

HELD = os.environ.get("INFEROMETER_ENGINES", "")
pytestmark = [pytest.mark.skipif(not HELD, reason="make engines"), pytest.mark.timeout(900)]

FOLDER = Path(HELD).resolve()
MODEL = str(FOLDER / "smollm2")
ON_CPU = {"VLLM_TARGET_DEVICE": "cpu", "VLLM_CPU_KVCACHE_SPACE": "1", "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
VLLM = Arm(
    "vllm",
    model=MODEL,
    binary=str(FOLDER / "vllm/bin/vllm"),
    args=("--max-model-len", "2048", "--enforce-eager"),
    env=ON_CPU,
)
NGRAM = json.dumps({"method": "ngram", "num_speculative_tokens": 4, "prompt_lookup_min": 2, "prompt_lookup_max": 3})
ARMS = {
    "vllm": VLLM,
    "transformers": Arm(
        "transformers", model=MODEL, binary=str(FOLDER / "transformers/bin/transformers"), env=ON_CPU
    ),
}


@pytest.fixture(params=ARMS)
def arm(request: pytest.FixtureRequest) -> Arm:
    return ARMS[request.param]


class TestContract(EngineContract):
    @pytest.fixture
    def case(self, arm: Arm, tmp_path: Path) -> EngineCase:
        damaged = tmp_path / "damaged"
        damaged.mkdir()
        for file in Path(MODEL).iterdir():
            (damaged / file.name).write_bytes(file.read_bytes()[: 100_000 if file.suffix == ".safetensors" else None])
        broken = msgspec.structs.replace(arm, model=str(damaged))
        return EngineCase(engine_class(arm.engine)(), arm, broken, "SafetensorError", "POST /v1/chat/completions")


def test_a_killed_engine_ends_the_trial_and_leaves_no_process(arm: Arm, tmp_path: Path):
    tree: list[psutil.Process] = []
    with pytest.raises(EngineDied), engine_class(arm.engine)().start(arm, tmp_path / "log") as endpoint:
        root = psutil.Process(endpoint.pids[0])
        tree = [root, *root.children(recursive=True)]
        tree[-1].send_signal(signal.SIGKILL)  # vLLM's worker holds the model, and its server has to notice
        until_s = time.monotonic() + 120
        while root.is_running() and root.status() != psutil.STATUS_ZOMBIE and time.monotonic() < until_s:
            time.sleep(0.1)
    assert wait_gone(process.pid for process in tree) == []


def test_a_study_has_usage_memory_version_and_accepted_drafts_of_each_engine(tmp_path: Path):
    arms = {
        "vLLM": VLLM,
        "vLLM, n-gram": msgspec.structs.replace(VLLM, args=(*VLLM.args, "--speculative-config", NGRAM)),
        "transformers": ARMS["transformers"],
    }
    text = to_yaml({"arms": arms, "trials": 2, "workload": {"kind": "builtin", "num_prompts": 4, "max_tokens": 48}})
    (tmp_path / "study.yaml").write_text(text)
    code, shown, said = run("run", "study.yaml", "--out", "study", "--all", "--format", "md", cwd=tmp_path)
    print(shown, said)
    assert code in (0, 3), said
