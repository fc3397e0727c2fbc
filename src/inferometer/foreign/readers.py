"""What do other tools' files say? One module a tool: its text in, our types out.

Each has `runs_of(text, name)`: the runs in a file of its tool; None where it is none of it. Raises RequestWrong for a
file of its tool that it cannot read (a version that is not known, say). `name` is what a run is called that has no name
of its own.
"""

from collections.abc import Callable, Sequence

import msgspec

from inferometer.foreign import aiperf, document, guidellm, llama_bench_output, llama_benchy, sglang_json, vllm_json
from inferometer.foreign.foreign_run import ForeignRun
from inferometer.foreign.tool_json import objects
from inferometer.foreign.unmeasured import without_unmeasured

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


def read(text: str, name: str) -> Sequence[ForeignRun] | None:
    """The runs in a text of any tool that is known; None where it is of none. A text that is not one tool's as a whole
    may hold results between other lines. What a tool writes where it measured nothing is unknown."""
    runs = _read_as_a_whole(text, name)
    if runs is None:
        runs = document.runs_of(_unwrapped(text), name, _read_as_a_whole)
    return None if runs is None else [_with_failures(without_unmeasured(run)) for run in runs]


def not_read(text: str) -> str:
    """What in a text that holds no result looks like one; "" for nothing."""
    return document.not_read(_unwrapped(text), _read_as_a_whole)


def _read_as_a_whole(text: str, name: str) -> Sequence[ForeignRun] | None:
    found = (runs_of(text, name) for runs_of in READERS.values() if runs_of is not document.runs_of)
    return next((runs for runs in found if runs is not None), None)


_LOGGED = ("log", "message", "msg", "MESSAGE")


def _unwrapped(text: str) -> str:
    """The lines that a log of JSON objects holds (docker's json-file, journald's json); any other text as it is."""
    found = objects(text) if text.lstrip().startswith("{") else None
    field = next((key for key in _LOGGED if found and all(isinstance(one.get(key), str) for one in found)), None)
    if found is None or field is None:
        return text
    return "\n".join(str(one[field]).rstrip("\n") for one in found)


def _with_failures(run: ForeignRun) -> ForeignRun:
    """The run with a note where fewer requests succeeded than were asked for."""
    asked = run.settings.get("requests") or run.settings.get("num_prompts") or ""
    completed, failed = run.values.get("completed"), run.values.get("failed")
    wanted = float(asked) if asked.isdecimal() and len(asked) < 10 else (completed or 0.0) + (failed or 0.0)
    if completed is None or completed >= wanted:
        return run
    note = f"{completed:.0f} of {wanted:.0f} requests succeeded"
    return msgspec.structs.replace(run, notes=(*run.notes, note))
