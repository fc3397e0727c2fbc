"""Registry of the readers of other tools' files: one module per tool, which turns text into our types.

Each module has `runs_of(text, name)`: the runs in a file of its tool; None if the file is from another tool. Raises
RequestWrong for a file of its tool that it cannot read (an unknown version, for example). `name`: name of a run without
a name in the file.
"""

from collections.abc import Callable, Sequence

import msgspec

from inferometer.base.extensions import factory, names
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
"""By description of the files, in the order in which they are tried: texts with any content come last."""


def all_readers() -> dict[str, Callable[[str, str], Sequence[ForeignRun] | None]]:
    """Our own readers, then those of installed packages: each entry point is a `runs_of` function."""
    return READERS | {name: factory("foreign reader", name) for name in names("foreign reader")}


def read(text: str, name: str) -> Sequence[ForeignRun] | None:
    """The runs in a text of any known tool; None if no reader recognises it.

    A text that no reader recognises as a whole may have results between other lines. Zeros that stand for "not
    measured" are None.
    """
    runs = _read_whole(text, name)
    if runs is None:
        runs = document.runs_of(_unwrapped(text), name, _read_whole)
    return None if runs is None else [_with_failures(without_unmeasured(run)) for run in runs]


def unread_results(text: str) -> str:
    """What looks like a result in a text without one that can be read; "" for nothing."""
    return document.unread_results(_unwrapped(text), _read_whole)


def _read_whole(text: str, name: str) -> Sequence[ForeignRun] | None:
    found = (runs_of(text, name) for runs_of in all_readers().values() if runs_of is not document.runs_of)
    return next((runs for runs in found if runs is not None), None)


_LOGGED = ("log", "message", "msg", "MESSAGE")


def _unwrapped(text: str) -> str:
    """The lines in a log of JSON objects (docker's json-file, journald's json); any other text unchanged."""
    found = objects(text) if text.lstrip().startswith("{") else None
    field = next((key for key in _LOGGED if found and all(isinstance(one.get(key), str) for one in found)), None)
    if found is None or field is None:
        return text
    return "\n".join(str(one[field]).rstrip("\n") for one in found)


def _with_failures(run: ForeignRun) -> ForeignRun:
    """The run, with a note if fewer requests succeeded than were requested."""
    asked = run.settings.get("requests") or run.settings.get("num_prompts") or ""
    completed, failed = run.values.get("completed"), run.values.get("failed")
    wanted = float(asked) if asked.isdecimal() and len(asked) < 10 else (completed or 0.0) + (failed or 0.0)
    if completed is None or completed >= wanted:
        return run
    note = f"{completed:.0f} of {wanted:.0f} requests succeeded"
    return msgspec.structs.replace(run, notes=(*run.notes, note))
