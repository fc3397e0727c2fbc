"""Every workload, probe and foreign reader of ours under the contract that packages of others are held to."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from inferometer.base.extensions import WORKLOADS
from inferometer.core.workload_settings import Builtin, WorkloadSettings
from inferometer.foreign import aiperf, document, guidellm, llama_bench_output, llama_benchy, sglang_json, vllm_json
from inferometer.foreign.readers import READERS
from inferometer.probes.sampler import engine_probes
from inferometer.testing.contracts import (
    ForeignReaderContract,
    ProbeCase,
    ProbeContract,
    ReaderCase,
    WorkloadCase,
    WorkloadContract,
)
from inferometer.workloads.catalog import settings_struct
from inferometer.workloads.custom import Custom
from inferometer.workloads.prompt_list import PromptList
from inferometer.workloads.sharegpt import ShareGpt
from inferometer.workloads.trace import Trace

RECORDED = Path(__file__).parents[1] / "foreign" / "recorded"
CONVERSATIONS = [
    {"conversations": [{"from": "human", "value": f"What is {n}?"}, {"from": "gpt", "value": f"{n} is a number."}]}
    for n in range(9)
]
TRACE = [{"timestamp": 40 * n, "input_length": 60 + n, "output_length": 5, "hash_ids": [n]} for n in range(5)]


FUNCTIONS = [
    {
        "task_id": f"Set/{n}",
        "prompt": f"def f{n}(x):\n",
        "entry_point": f"f{n}",
        "canonical_solution": "    return x\n",
        "test": "",
        "language": "python",
        "base_input": [[1]],
        "plus_input": [[2]],
        "atol": 0,
    }
    for n in range(9)
]
QUESTIONS = [{"question": f"What is {n} + 1?", "answer": f"#### {n + 1}"} for n in range(9)]
CHECKED = [{"prompt": f"Say {n}.", "check": {"kind": "exact", "answer": str(n)}} for n in range(9)]
TURNS = [{"question_id": n, "category": "qa", "turns": [f"What is {n}?"]} for n in range(9)]
SET_FILES = {
    "humaneval": [{key: value for key, value in one.items() if "input" not in key} for one in FUNCTIONS],
    "humaneval+": FUNCTIONS,
    "mbpp+": FUNCTIONS,
    "mxeval": FUNCTIONS,
    "numeric": QUESTIONS,
    "checked": CHECKED,
    "spec-bench": TURNS,
    "custom": CHECKED,
}


@pytest.fixture(params=WORKLOADS)
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> WorkloadSettings:
    (tmp_path / "sharegpt.json").write_text(json.dumps(CONVERSATIONS))
    (tmp_path / "custom.jsonl").write_text("".join(json.dumps({"prompt": f"Say {n}."}) + "\n" for n in range(9)))
    (tmp_path / "trace.jsonl").write_text("".join(json.dumps(line) + "\n" for line in TRACE))
    if request.param in SET_FILES:
        path = tmp_path / "set.jsonl"
        path.write_text("".join(json.dumps(line) + "\n" for line in SET_FILES[request.param]))
        raw = {"kind": request.param, "path": str(path), "num_prompts": 5}
        return msgspec.convert(raw, settings_struct(request.param))
    return {
        "builtin-checked": msgspec.convert({"kind": "builtin-checked"}, settings_struct("builtin-checked")),
        "random": msgspec.convert({"kind": "random", "num_prompts": 5}, settings_struct("random")),
        "builtin": Builtin(5, 8),
        "sharegpt": ShareGpt(str(tmp_path / "sharegpt.json"), 4),
        "trace": Trace(str(tmp_path / "trace.jsonl")),
        "prompts": PromptList(("Say one.", "Say two.")),
        "custom": Custom(str(tmp_path / "custom.jsonl"), 4),
    }[request.param]


class TestWorkloads(WorkloadContract):
    @pytest.fixture
    def case(self, settings: WorkloadSettings) -> WorkloadCase:
        return WorkloadCase(settings)


OURS, COUNTERS = engine_probes([os.getpid()])


class TestProbes(ProbeContract):
    """Which of them have something to read depends on the machine."""

    @pytest.fixture(params=range(len([*OURS, *COUNTERS])), ids=lambda at: [*OURS, *COUNTERS][at].name)
    def case(self, request: pytest.FixtureRequest) -> ProbeCase:
        sampled, counters = engine_probes([os.getpid()])
        probe = [*sampled, *counters][request.param]
        return ProbeCase(probe, reads_here=not probe.reason and not probe.name.startswith("AMD"))


FILES: dict[Callable[..., object], str] = {
    vllm_json.runs_of: "vllm-0.33.0-detailed.json",
    sglang_json.runs_of: "sglang-0.5.23-chat-details.jsonl",
    guidellm.runs_of: "guidellm-0.8.1.json",
    aiperf.runs_of: "aiperf-0.13.0.json",
    llama_benchy.runs_of: "llama-benchy-0.4.0.json",
    llama_bench_output.runs_of: "llama-bench-b11434.json",
    document.runs_of: "llama-bench-b11434.md",
}
"""Of each reader, a file that its tool wrote."""


class TestForeignReaders(ForeignReaderContract):
    @pytest.fixture(params=READERS)
    def case(self, request: pytest.FixtureRequest) -> ReaderCase:
        read = READERS[request.param]
        return ReaderCase(read, (RECORDED / FILES[read]).read_text())
