"""Which code answers to this name? Built-in dicts first, then entry points of installed packages.

A value is `module:attribute`, imported when it is asked for, so that nothing heavy loads for those who do not use it.
"""

import difflib
import importlib
import importlib.metadata
from typing import Any

from inferometer.base.errors import RequestWrong

ENGINES = {
    "embedded": "inferometer.engines.embedded:Embedded",
    "llama-server": "inferometer.engines.llama_server:LlamaServer",
    "vllm": "inferometer.engines.vllm:Vllm",
    "sglang": "inferometer.engines.sglang:SgLang",
    "command": "inferometer.engines.command:Command",
    "external": "inferometer.engines.external:External",
}
WORKLOADS = {
    "builtin": "inferometer.workloads.builtin:BuiltinCoding",
    "sharegpt": "inferometer.workloads.sharegpt:ShareGptFile",
    "trace": "inferometer.workloads.trace:TraceFile",
}
_GROUPS = {"engine": ("inferometer.engines", ENGINES), "workload": ("inferometer.workloads", WORKLOADS)}


def factory(kind: str, name: str) -> Any:
    """What makes the `kind` (engine, workload) called `name`. Raises RequestWrong, with the nearest known name."""
    group, builtin = _GROUPS[kind]
    if name in builtin:
        module, _, attribute = builtin[name].partition(":")
        return getattr(importlib.import_module(module), attribute)
    points = {point.name: point for point in importlib.metadata.entry_points(group=group)}
    if name in points:
        return points[name].load()
    known = [*builtin, *points]
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.4)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    raise RequestWrong(f"there is no {kind} {name!r}.{hint} Known: {', '.join(known)}.")
