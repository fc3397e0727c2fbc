"""vLLM and transformers themselves, on a CPU with SmolLM2: `make engines`, not part of `make test`."""

import json
import os
import sys
import time
from pathlib import Path

import msgspec
import psutil
import pytest

import inferometer
from inferometer.base.errors import EngineDied
from inferometer.core.spec import Arm, Spec
from inferometer.core.workload_settings import Builtin
from inferometer.engines.catalog import engine_class
from inferometer.testing.contracts import EngineCase, EngineContract
from inferometer.testing.real_program import wait_gone

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
    "transformers": Arm("transformers", model=MODEL, binary=str(FOLDER / "transformers/bin/transformers"), env=ON_CPU),
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
    tree: list[int] = []

    def play() -> None:
        with engine_class(arm.engine)().start(arm, tmp_path / "log") as endpoint:
            root = psutil.Process(endpoint.pids[0])
            children = root.children(recursive=True)
            tree.extend(process.pid for process in (root, *children))
            (children or [root])[-1].kill()  # vLLM's worker holds the model, and its server has to notice
            assert wait_gone([root.pid]) == []
            time.sleep(2.0)  # the first of its threads has ended, and the others end now

    with pytest.raises(EngineDied):
        play()
    assert wait_gone(tree) == []


def test_a_study_has_usage_memory_version_and_accepted_drafts_of_each_engine(tmp_path: Path):
    arms = {
        "vLLM": VLLM,
        "vLLM, n-gram": msgspec.structs.replace(VLLM, args=(*VLLM.args, "--speculative-config", NGRAM)),
        "transformers": ARMS["transformers"],
    }
    spec = Spec(arms=arms, trials=2, workload=Builtin(4, 48), restart="never", tokenizer="none")
    study = inferometer.run(spec, tmp_path / "study")
    for trial in study.trials:
        measured = [record for record in trial.records if record.measured]
        assert measured, trial.error
        assert all(record.ok and record.usage is not None for record in measured)
        assert "engine_version" in {fact.name for fact in trial.facts}
    rows = {row.metric: row for row in inferometer.compare(study).rows}
    for key in ("output_throughput", "median_ttft_ms", "median_tpot_ms", "memory_gib", "acceptance_rate_percent"):
        sys.stdout.write(f"{key}: {[(arm, rows[key].estimates.get(arm)) for arm in arms]}\n")
    assert set(rows["memory_gib"].estimates) == set(arms)
    accepted = rows["acceptance_rate_percent"].estimates
    assert [arm for arm in arms if arm in accepted and accepted[arm].value is not None] == ["vLLM, n-gram"]
