"""The first error of a failed engine's log, which may be far above the log's end."""

import json
from pathlib import Path

import pytest

from inferometer.engines.failure_log import advice, first_error

VLLM = (
    """INFO 11-28 10:00:00 [config.py:1] error_rate=0 retries=0
(EngineCore_DP0 pid=91) ERROR 11-28 10:00:01 [core.py:700] EngineCore failed to start.
(EngineCore_DP0 pid=91) ERROR 11-28 10:00:01 [core.py:700] Traceback (most recent call last):
(EngineCore_DP0 pid=91) ERROR 11-28 10:00:01 [core.py:700]     raise ValueError(
(EngineCore_DP0 pid=91) ERROR 11-28 10:00:01 [core.py:700] ValueError: To serve at least one request, 8 GiB are needed
"""
    + "(APIServer pid=1)   File launcher.py\n" * 200
    + """(APIServer pid=1) Traceback (most recent call last):
(APIServer pid=1) RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): {}
"""
)
CHAINED = """Traceback (most recent call last):
  File "a.py", line 1, in load
KeyError: 'rope_scaling'

The above exception was the direct cause of the following exception:

Traceback (most recent call last):
  File "b.py", line 2, in main
app.errors.StartError: cannot start
"""
OOM = "I warming up\ntorch.OutOfMemoryError: CUDA out of memory. Tried 2 GiB\n" + "frame\n" * 99 + "E exit 1\n"
LLAMA = """llama_model_loader: loaded meta data
llama_model_load: error loading model: missing tensor 'blk.0'
main: exiting due to model loading error
"""
IK_LLAMA = """llama_init_from_model: enabling only_active_experts scheduling
 ERR [              load_model] Speculative decoding is currently limited to a single server slot (-np 1).
 | tid="58627328" timestamp=1795915106 n_parallel=2
"""
GO = (
    "time=10:00 level=INFO msg=start\npanic: runtime error: index out of range [3]\n\ngoroutine 1 [running]:\n"
    + "x.go:1\n" * 40
)
RUST = "thread 'main' panicked at src/main.rs:4:5:\ncalled `Option::unwrap()` on a `None` value\n"
CPP = "load\nterminate called after throwing an instance of 'std::runtime_error'\n  what():  no kernel image\nAborted\n"
USAGE = "usage: server [-h]\nserver: error: unrecognized arguments: --speed\n"
LEVELS = "2026-11-28 INFO up\n2026-11-28 ERROR cannot read config.json\n2026-11-28 ERROR stopping\n"
WARNED = """WARNING 07-21 10:00:00 [interface.py:1] Failed to import from vllm._C with ImportError: libcuda: not there
INFO 07-21 10:00:01 [__init__.py:1] No platform detected: ModuleNotFoundError: No module named 'amdsmi'
x.py:3: FutureWarning: ValueError: of tomorrow
ERROR 07-21 10:00:03 [core.py:1] RuntimeError: Failed to infer device type, set log level DEBUG
"""
PYDANTIC = """pydantic_core._pydantic_core.ValidationError: 1 validation error for ModelConfig
  Value error, Transformers does not know the model type
"""
TGI = "".join(
    json.dumps({"level": level, "fields": {"message": text}, "target": "launcher"}) + "\n"
    for level, text in (
        ("INFO", "Starting"),
        ("ERROR", "Error when initializing model\nTraceback:\n  x.py\ntorch.OutOfMemoryError: CUDA out of memory"),
        ("ERROR", "Shard 0 failed to start"),
    )
)
SLOG = '{"level":"INFO","msg":"start"}\n{"level":"ERROR","msg":"model requires more system memory"}\n'
GLOG = "I0721 10:00:00.1 7 a.cc:1] 3 errors\nE0721 10:00:00.2 7 b.cc:1] device is lost\n"
COLOURED = "\x1b[32mINFO\x1b[0m: hi\n\x1b[31mERROR\x1b[0m:  [Errno 98] address already in use\n"


@pytest.mark.parametrize(
    ("log", "cause"),
    [
        (VLLM, "ValueError: To serve at least one request, 8 GiB are needed"),
        (CHAINED, "KeyError: 'rope_scaling'"),
        (OOM, "CUDA out of memory"),
        (LLAMA, "error loading model: missing tensor 'blk.0'"),
        (IK_LLAMA, "currently limited to a single server slot (-np 1)."),
        (GO, "panic: runtime error: index out of range [3]"),
        (RUST, "called `Option::unwrap()` on a `None` value"),
        (CPP, "what():  no kernel image"),
        (USAGE, "unrecognized arguments: --speed"),
        (LEVELS, "cannot read config.json"),
        (WARNED, "Failed to infer device type"),
        (PYDANTIC, "does not know the model type"),
        (TGI, "torch.OutOfMemoryError: CUDA out of memory"),
        (SLOG, "model requires more system memory"),
        (GLOG, "device is lost"),
        (COLOURED, "address already in use"),
        ("llama.cpp\nggml.c:1: GGML_ASSERT(n_dims <= 4) failed\nNo stack.\n", "GGML_ASSERT(n_dims <= 4) failed"),
        ("./x: error while loading shared libraries: libcudart.so.12: cannot open\n", "libcudart.so.12"),
        ("starting\nIllegal instruction (core dumped)\n", "Illegal instruction"),
        ("sh: 1: vllm: not found\n", "vllm: not found"),
    ],
)
def test_the_root_cause_is_the_first_error(tmp_path: Path, log: str, cause: str):
    (tmp_path / "log").write_text("old start: ValueError: of the start before\n" + log)
    assert cause in first_error(tmp_path / "log", from_byte=43)


@pytest.mark.parametrize("log", ["", "INFO 0 errors\nINFO retrying after ConnectionError: refused\n", "ready\n"])
def test_a_log_without_an_error_has_no_first_error(tmp_path: Path, log: str):
    (tmp_path / "log").write_text(log)
    assert first_error(tmp_path / "log") == ""


def test_too_many_streams_for_llama_cpp_are_named_without_its_clock_and_with_the_other_meaning_of_c(tmp_path: Path):
    line = "0.04.675.988 E llama_init_from_model: failed to initialize the context: n_seq_max must be <= 256\n"
    (tmp_path / "log").write_text(line)
    first = first_error(tmp_path / "log")
    assert first == "llama_init_from_model: failed to initialize the context: n_seq_max must be <= 256"
    assert "-c of inferometer vs is the number of streams" in advice(first, "")
