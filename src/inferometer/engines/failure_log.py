"""The end of a failed engine's log, and advice by what the log says."""

import re
from pathlib import Path
from typing import Any, cast

from inferometer.base.error_message import json_of
from inferometer.base.text import sanitize, sanitize_lines

LOG_LINES = 20
_MOST_SEARCHED_BYTES = 8 * 1024**2
_ERRORS = (
    r"(?:^|[\]\s|:])(?:[A-Za-z_]\w*\.)*[A-Z]\w*(?:Error|Exception)(?::\s+\S|$)"
    r"|(?:^|\s)panic: |^fatal error: |panicked at |terminate called after|CUDA error|out of memory|cudaMalloc failed"
    r"|Segmentation fault|Illegal instruction|Bus error|_ASSERT\(.*failed|Check failed: "
    r"|(?i:\berror (?:while )?loading\b)",
    r"(?i:\b(?:fatal|critical)\b.*\w|(?:^|\s)error: |\bfailed to (?:load|open|allocate|bind|initiali[sz]e|create)\b)",
    r"(?:^|\s|\[)(?:ERROR|ERR|FATAL|CRITICAL|E)(?:\]|\s|:)|^[EF]\d{4} \d\d:|^Killed$"
    r"|(?:: (?:not found|Permission denied)|: command not found)$",
)
"""What names an error, the surest first: exceptions and crashes, sentences, the levels of a log."""
_FOLLOWS = re.compile(
    r"(?i:see root cause|root cause above|engine core initiali[sz]ation failed|during handling of the above"
    r"|was the direct cause|^\s*raise |^\s*except |errors?[=: ]+0\b|\b0 errors|will retry|retrying|ignored)"
)
"""Lines about an error that was named before, source code in a traceback, and errors that did no harm."""
_MILD = re.compile(
    r"^(?:(?!ERROR|FATAL|CRITICAL).){0,80}?"
    r"(?:(?<![\w.])(?:TRACE|DEBUG|INFO|NOTICE|WARN|WARNING)\b|(?:Deprecation|Future|User|Runtime)Warning\b)"
)
"""A line of a lower level: the engine went on after it."""
_LLAMA_CPP_TIME = re.compile(r"^\d+\.\d\d\.\d{3}\.\d{3} [A-Z] ")
_JSON_FIELDS = ("message", "msg", "error", "exception", "stack")

ADVICE = (
    (r"n_seq_max must be",
     "llama.cpp answers at most this many requests at once. -c of inferometer vs is the number of streams "
     '(concurrency): for the context put -c into the set-up, as in inferometer vs -m a.gguf "-c 4096" "-c 8192".'),
    (r"limited to a single server slot",
     "ik_llama.cpp drafts for one request at a time: add -np 1, and set the concurrency to 1."),
    (r"unknown argument|invalid argument|unrecognized|unknown option|argument has been removed",
     "This build does not know one of the flags: they change from build to build; see its --help."),
    (r"error while handling argument",
     "One of the flags has a value that this build does not take; its usage is above."),
    (r"error while loading shared libraries|cannot open shared object file|library not loaded",
     "A library of this build is not found: the GPU's driver is absent (libcuda, libamdhip64), or the build's folder "
     "must be named by LD_LIBRARY_PATH (env: in the arm). inferometer doctor says which drivers there are."),
    (r"no CUDA-capable device|CUDA driver version is insufficient|no ROCm-capable device|Failed to infer device type",
     "The engine finds no GPU that it can use: inferometer doctor says which drivers there are."),
    (r"gpu.memory.utilization|No available memory for the cache blocks|mem.fraction.static",
     "It did not fit into the GPU's memory: free it, or try a shorter context (--max-model-len, --context-length) or "
     "another share of it (--gpu-memory-utilization, --mem-fraction-static)."),
    (r"unknown model architecture", "This build is older than the model: take a newer llama.cpp."),
    (r"out of memory|cudaMalloc failed|failed to allocate|unable to allocate|bad_alloc|OutOfDeviceMemory",
     "It did not fit into memory: try fewer GPU layers (-ngl), a smaller context (-c) or a smaller quantization."),
    (r"couldn't bind|address already in use",
     "Another program uses the port: stop it, or leave --port out and a free one is chosen."),
    (r"vocab\w* (?:type )?.*(?:compatible|match)",
     "Target and draft must share a vocabulary: take a draft of the same family."),
    (r"corrupted or incomplete|not within the file bounds", "The model file is cut off or damaged: fetch it again."),
    (r"failed to open GGUF|no such file|failed to load model",
     "Check the model's path, and that this build reads the file."),
)  # fmt: skip
"""What to try, by the first pattern that the end of the log shows."""


def tail(log_path: Path, lines: int = LOG_LINES, *, from_byte: int = 0) -> str:
    """The last lines of a log after `from_byte`, of its last 64 KiB, made harmless; "(the log is empty)" where there
    are none."""
    try:
        with log_path.open("rb") as file:
            file.seek(max(from_byte, log_path.stat().st_size - 65536))
            text = file.read().decode(errors="replace")
    except OSError:
        return "(there is no log)"
    return "\n".join(sanitize_lines(text).split("\n")[-lines:]).strip("\n") or "(the log is empty)"


def first_error(log_path: Path, *, from_byte: int = 0) -> str:
    """The first line of a log that names an error, made harmless; "" where none does. The root cause comes first: later
    errors follow from it, and may be hundreds of lines below."""
    try:
        with log_path.open("rb") as file:
            file.seek(from_byte)
            text = file.read(_MOST_SEARCHED_BYTES).decode(errors="replace")
    except OSError:
        return ""
    lines = [line for logged in sanitize_lines(text).split("\n") for line in _lines_of_json(logged) if line.strip()]
    mild = [bool(_MILD.search(line)) for line in lines]
    for allows_mild in (False, True):
        for pattern in _ERRORS:
            for place, line in enumerate(lines):
                if re.search(pattern, line) and not _FOLLOWS.search(line) and mild[place] <= allows_mild:
                    return sanitize(_LLAMA_CPP_TIME.sub("", _with_reason(lines, place)), 500)
    return ""


def _lines_of_json(line: str) -> list[str]:
    """The lines of a text that is logged as JSON, after its level; any other line alone."""
    logged = json_of(line) if line.startswith("{") else None
    if not isinstance(logged, dict):
        return [line]
    fields = cast("dict[str, Any]", logged)
    inner = fields.get("fields")
    fields |= cast("dict[str, Any]", inner) if isinstance(inner, dict) else {}
    text = "\n".join(str(fields[name]) for name in _JSON_FIELDS if fields.get(name))
    return f"{str(fields.get('level', '')).upper()} {text}".split("\n")


def _with_reason(lines: list[str], place: int) -> str:
    """The line at `place`; a line that only announces its reason (`panicked at …:`) comes with the next one."""
    line = lines[place].strip()
    announces = line.endswith(":") or "terminate called" in line or re.search(r"\d validation errors? for ", line)
    return f"{line} {lines[place + 1].strip()}" if announces and place + 1 < len(lines) else line


def advice(log: str, otherwise: str) -> str:
    """What to try next, by what the log says."""
    for pattern, text in ADVICE:
        if re.search(pattern, log, re.IGNORECASE):
            return text
    return otherwise
