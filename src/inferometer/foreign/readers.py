"""Registry of the readers of other tools' files: one module per tool, which turns text into our types.

Each module has `runs_of(text, name)`: the runs in a file of its tool; None if the file is from another tool. Raises
RequestWrong for a file of its tool that it cannot read (an unknown version, for example). `name`: name of a run without
a name in the file.
"""

from collections.abc import Callable, Sequence

from inferometer.foreign import aiperf, document, guidellm, llama_bench_output, llama_benchy, sglang_json, vllm_json
from inferometer.foreign.foreign_run import ForeignRun

READERS: dict[str, Callable[[str, str], Sequence[ForeignRun] | None]] = {
    "vLLM's result (json)": vllm_json.runs_of,
    "SGLang's result (jsonl)": sglang_json.runs_of,
    "GuideLLM's benchmarks (json)": guidellm.runs_of,
    "AIPerf's result and records (json, jsonl)": aiperf.runs_of,
    "llama-benchy's result (json)": llama_benchy.runs_of,
    "llama-bench (json, jsonl, csv, sql)": llama_bench_output.runs_of,
    "a text with serving blocks of vLLM or SGLang, or with tables of llama-bench": document.runs_of,
}
"""By description of the files, in the order in which they are tried: texts with any content come last."""


def read(text: str, name: str) -> Sequence[ForeignRun] | None:
    """The runs in a text of any known tool; None if no reader recognises it."""
    found = (runs_of(text, name) for runs_of in READERS.values())
    return next((runs for runs in found if runs is not None), None)
