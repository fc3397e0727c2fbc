"""Settings that a benchmark's command line asked for, as posts and logs show it above a result."""

import re
from collections.abc import Iterable

_FLAGS = {
    "num-prompts": "requests",
    "num-prompt": "requests",
    "max-concurrency": "concurrency",
    "request-rate": "request_rate",
    "burstiness": "burstiness",
    "seed": "seed",
    "model": "model",
    "dataset-name": "dataset",
    "dataset-path": "dataset_path",
    "random-input-len": "input_tokens",
    "random-input": "input_tokens",
    "random-output-len": "output_tokens",
    "random-output": "output_tokens",
    "random-range-ratio": "range_ratio",
    "sharegpt-output-len": "output_tokens",
}
_NAMES = "|".join(sorted((flag.replace("-", "[-_]") for flag in _FLAGS), key=len, reverse=True))
_FLAG = re.compile(
    rf"(?<![\w-])--(?P<flag>{_NAMES})(?P<quote>[\"']?)(?:=|,? +|,)"
    r"(?:\"(?P<double>[^\"]{0,500})\"|'(?P<single>[^']{0,500})'|(?P<word>[^\s\"',\\]{1,500}))"
)
_NAMESPACE = re.compile(
    rf"(?<!\w)(?P<flag>{_NAMES})=(?:\"(?P<double>[^\"]{{0,500}})\"|'(?P<single>[^']{{0,500}})'|(?P<word>[^\s,)]{{1,500}}))"
)
_PROGRAM = re.compile(r"benchmark_serving|bench_serving|bench[\"',]* +[\"']?serve|inferometer bench\b")
_GOES_ON = re.compile(r"(?:\\|(?<=\s)[`^])\s*$")
_MOST_CHARACTERS = 20_000


def settings_of(lines: Iterable[str]) -> dict[str, str]:
    """What a command line of the benchmark asked for, where one stands among the lines; of several the last.

    A command goes over several lines with a backslash, `^` (cmd.exe) or a backtick (PowerShell) at their ends. vLLM's
    script also prints all its settings as `Namespace(…)`.
    """
    settings: dict[str, str] = {}
    for line in _whole_lines(lines):
        if _PROGRAM.search(line):
            settings = _found(_FLAG, line) or settings
        elif "Namespace(" in line:
            settings = {name: value for name, value in _found(_NAMESPACE, line).items() if value != "None"} or settings
    return settings


def _whole_lines(lines: Iterable[str]) -> list[str]:
    """The lines, with those of one command put together."""
    whole: list[str] = []
    open_line: str | None = None
    for line in lines:
        ends = _GOES_ON.search(line[-200:])
        plain = line[: len(line) - len(ends[0])] if ends else line
        text = plain if open_line is None else f"{open_line} {plain.strip().lstrip('>').strip()}"
        if ends and len(text) < _MOST_CHARACTERS:
            open_line = text
            continue
        whole.append(text)
        open_line = None
    return whole if open_line is None else [*whole, open_line]


def _found(pattern: re.Pattern[str], line: str) -> dict[str, str]:
    return {
        _FLAGS[found["flag"].replace("_", "-")]: found["double"] or found["single"] or found["word"] or ""
        for found in pattern.finditer(line[:_MOST_CHARACTERS])
    }
