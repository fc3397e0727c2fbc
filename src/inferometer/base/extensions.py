"""Registry of engines, workloads, probes and foreign readers: name to code, our own members first, then entry points.

A value is `module:attribute`. It is imported when somebody asks for that name, so that nothing heavy loads for those
who do not use it. Other packages add members through the entry point groups in `GROUPS`.
"""

import difflib
import functools
import importlib
import importlib.metadata
from typing import Any, Literal

from inferometer.base.errors import RequestWrong

Kind = Literal["engine", "workload", "probe", "foreign reader"]

GROUPS: dict[Kind, str] = {
    "engine": "inferometer.engines",
    "workload": "inferometer.workloads",
    "probe": "inferometer.probes",
    "foreign reader": "inferometer.foreign.readers",
}
"""Entry point groups. Each is documented in docs/architecture.md under "Extension points"."""

ENGINES = {
    "embedded": "inferometer.engines.embedded:Embedded",
    "llama-server": "inferometer.engines.llama_server:LlamaServer",
    "vllm": "inferometer.engines.vllm:Vllm",
    "sglang": "inferometer.engines.sglang:SgLang",
    "transformers": "inferometer.engines.transformers:Transformers",
    "command": "inferometer.engines.command:Command",
    "external": "inferometer.engines.external:External",
}
WORKLOADS = {
    "builtin": "inferometer.workloads.builtin:BuiltinCoding",
    "sharegpt": "inferometer.workloads.sharegpt:ShareGptFile",
    "trace": "inferometer.workloads.trace:TraceFile",
    "random": "inferometer.workloads.random_lengths:RandomLengthsWorkload",
    "custom": "inferometer.workloads.custom:CustomFile",
    "prompts": "inferometer.workloads.prompt_list:PromptsOfStudy",
    "builtin-checked": "inferometer.quality.sets.checked:BuiltinChecked",
    "checked": "inferometer.quality.sets.checked:CheckedFile",
    "humaneval": "inferometer.quality.sets.humaneval:HumanEval",
    "humaneval+": "inferometer.quality.sets.evalplus:HumanEvalPlus",
    "mbpp+": "inferometer.quality.sets.evalplus:MbppPlus",
    "mxeval": "inferometer.quality.sets.mxeval:Mxeval",
    "numeric": "inferometer.quality.sets.numeric:NumericFile",
    "spec-bench": "inferometer.quality.sets.spec_bench:SpecBench",
}
_OWN: dict[Kind, dict[str, str]] = {"engine": ENGINES, "workload": WORKLOADS}


def names(kind: Kind) -> list[str]:
    """Every known name of this kind: our own members, then those of installed packages."""
    own = _OWN.get(kind, {})
    return [*own, *(name for name in _entry_points(kind) if name not in own)]


def factory(kind: Kind, name: str) -> Any:
    """The class or function registered under `name`; its type depends on `kind`.

    Raises RequestWrong for an unknown name, with the nearest known one, and for an extension that fails to import.
    """
    own = _OWN.get(kind, {})
    if name in own:
        module, _, attribute = own[name].partition(":")
        return getattr(importlib.import_module(module), attribute)
    point = _entry_points(kind).get(name)
    if point is None:
        raise RequestWrong(f"there is no {kind} {name!r}.{_nearest(name, kind)} Known: {', '.join(names(kind))}.")
    try:
        return point.load()
    except (ImportError, AttributeError) as error:
        package = "an installed package" if point.dist is None else point.dist.name
        raise RequestWrong(
            f"the {kind} {name!r} of {package} ({point.value}) cannot be imported: {error}. Reinstall that package."
        ) from error


def _entry_points(kind: Kind) -> dict[str, importlib.metadata.EntryPoint]:
    return {point.name: point for point in _installed().select(group=GROUPS[kind])}


@functools.cache
def _installed() -> Any:  # Python 3.11 has another type than later ones, with the same `select`
    """Entry points of all installed packages: reading them takes 10 to 20 ms."""
    return importlib.metadata.entry_points()


def _nearest(name: str, kind: Kind) -> str:
    near = difflib.get_close_matches(name, names(kind), n=1, cutoff=0.4)
    return f" Did you mean {near[0]!r}?" if near else ""
