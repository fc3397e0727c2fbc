"""What do other tools' files say? One module a tool: its text in, our types out.

Each has `runs_of(text, name)`: the runs in a file of its tool; None where it is none of it. Raises RequestWrong for a
file of its tool that it cannot read (a version that is not known, say). `name` is what a run is called that has no name
of its own.
"""

from collections.abc import Callable, Sequence

from inferometer.base.extensions import factory, names
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
"""By what they read, in the order in which they are tried: a text that may hold anything comes last."""


def all_readers() -> dict[str, Callable[[str, str], Sequence[ForeignRun] | None]]:
    """Our own readers, then those of installed packages: each entry point is a `runs_of` function."""
    return READERS | {name: factory("foreign reader", name) for name in names("foreign reader")}


def read(text: str, name: str) -> Sequence[ForeignRun] | None:
    """The runs in a text of any tool that is known; None where it is of none."""
    found = (runs_of(text, name) for runs_of in all_readers().values())
    return next((runs for runs in found if runs is not None), None)
