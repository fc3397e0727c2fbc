"""Flags of `inferometer bench`, converted to a workload, a schedule and other settings; vLLM's forms of them."""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import msgspec

from inferometer.base.errors import RequestWrong

if TYPE_CHECKING:
    from inferometer.core.schedule import Ramp, Schedule
    from inferometer.core.spec import Api
    from inferometer.core.workload_settings import WorkloadSettings

APIS: "dict[str, Api]" = {
    "openai-chat": "openai-chat",
    **dict.fromkeys(("openai", "vllm", "sglang", "lmdeploy", "scalellm"), "openai"),
}
_MANY = ("--header", "--metadata")
_SAMPLERS = ("min_p", "repetition_penalty", "frequency_penalty", "presence_penalty")
_UNSUPPORTED = {
    "--goodput": "Latencies of each request are in the study: inferometer export, or --save-detailed.",
    "--profile": "Profile the server with its own tools while bench runs.",
    "--lora-modules": "Name the adapter as the model: --model ADAPTER.",
    "--use-beam-search": "Pass it with --extra-body to a server that supports it.",
    "--best-of": "Pass it with --extra-body to a server that supports it.",
    "--logprobs": "Pass it with --extra-body '{\"logprobs\": N}'.",
    "--hf-split": "Save the split as JSONL and give the file: --dataset-name hf --dataset-path FILE.",
    "--hf-subset": "Save the subset as JSONL and give the file: --dataset-name hf --dataset-path FILE.",
    "--hf-name": "Save the data set as JSONL and give the file: --dataset-name hf --dataset-path FILE.",
    "--sonnet-input-len": "The nearest is --dataset-name random --random-input-len N --random-prefix-len N.",
    "--sonnet-output-len": "The nearest is --dataset-name random --random-output-len N.",
    "--sonnet-prefix-len": "The nearest is --dataset-name random --random-prefix-len N.",
    "--plot-timeline": "The nearest is inferometer plot STUDY -o tokens.svg.",
    **{
        f"--{name.replace('_', '-')}": f"Pass it with --extra-body '{{\"{name}\": …}}'."
        for name in (*_SAMPLERS, "chat_template_kwargs")
    },
    **dict.fromkeys(
        ("--custom-skip-chat-template", "--skip-chat-template"), "Prompts are sent as they are: leave it out."
    ),
    "--disable-shuffle": "The order of the prompts is drawn with --seed, and is the same for every server.",
    "--no-oversample": "Prompts are not repeated to reach --num-prompts: leave it out.",
    "--no-stream": 'For whole answers give --extra-body \'{"stream": false, "stream_options": null}\'.',
    "--ready-check-timeout-sec": "A server that loads is waited for: leave it out.",
    "--skip-test-prompt": "One token is always requested first: leave it out.",
    "--request-id-prefix": "Send a header: --header X-Request-Id=ID.",
    "--tokenizer-mode": "Give --tokenizer a folder with tokenizer.json, or leave both out.",
    "--random-batch-size": "It is for embeddings, which are not measured.",
    "--lora-assignment": "Name one adapter as the model: --model ADAPTER.",
    "--enable-multimodal-chat": "Pictures are not sent: leave it out.",
    "--self-timed": "Use --dataset-name trace: it plays the times of its file.",
}
"""Flags of vLLM that would change what is measured or written, each with the nearest alternative."""
_UNSUPPORTED_FAMILIES = {
    "--prefix-repetition-": "The nearest is --dataset-name random --random-prefix-len N.",
    "--sonnet-": "The nearest is --dataset-name random --random-prefix-len N.",
    "--spec-bench-": "The nearest is --dataset-name custom --dataset-path FILE.",
    "--speed-bench-": "The nearest is --dataset-name custom --dataset-path FILE.",
    "--blazedit-": "The nearest is --dataset-name custom --dataset-path FILE.",
    "--random-mm-": "Pictures are not sent; the nearest is --dataset-name random.",
    "--asr-": "Speech is not sent; the nearest is --dataset-name custom.",
}
_ALIASES = {
    "--dataset": ("--dataset-path",),  # of 2024
    "--input-len": ("--random-input-len",),
    "--output-len": ("--sharegpt-output-len", "--custom-output-len", "--random-output-len"),
}
"""General flags of vLLM, and those of the data sets that they mean."""
DATASETS = ("sharegpt", "random", "custom", "hf", "trace", "builtin")
_NEAREST_DATASETS = {
    "sonnet": "The nearest is random, with --random-prefix-len for the shared beginning.",
    "burstgpt": "Use trace: it reads BurstGPT's csv and plays its times too.",
    "timed_trace": "Use trace: it reads Mooncake's jsonl and plays its times.",
    "prefix_repetition": "The nearest is random with --random-prefix-len.",
    "random-mm": "Pictures are not sent; the nearest is random.",
    "random-rerank": "Reranking is not measured; the nearest is random.",
    "custom_mm": "Pictures are not sent; the nearest is custom with texts.",
    "spec_bench": "Use custom with the file of its questions.",
    "speed_bench": "Use custom with the file of its questions.",
}
_FILES = {
    "sharegpt": "a ShareGPT file",
    "trace": "Mooncake's jsonl or BurstGPT's csv",
    "custom": "JSONL with a `prompt` in each line",
    "hf": "a data set saved as JSON or JSONL",
}
_SECTIONS = ("ttft", "tpot", "itl", "e2el")


def spread_flags(argv: Sequence[str]) -> list[str]:
    """`--metadata a=1 b=2`, as vLLM accepts it, with the flag repeated before each value; `--num_prompts` as
    `--num-prompts`. Raises RequestWrong for a flag of vLLM that `bench` does not have, with the nearest alternative."""
    if argv[:1] == ["bench"]:
        argv = ["bench", *argv[2:]] if argv[1:2] == ["serve"] else argv  # as after `vllm`
        argv = [_with_dashes(word) for word in argv]
        flags = [word.partition("=")[0] for word in argv if word.startswith("--")]
        for flag in flags:
            if nearest := _nearest_way(flag):
                raise RequestWrong(f"bench does not have vLLM's {flag}. {nearest}")
        argv = [_specific(word, argv) for word in argv]
    spread: list[str] = []
    flag = ""
    for word in argv:
        if flag and not word.startswith("-"):
            spread += [flag, word]
            continue
        flag = word if word in _MANY else ""
        if not flag:
            spread.append(word)
    return spread


def _nearest_way(flag: str) -> str:
    """What to give in place of a flag of vLLM that `bench` does not have; "" for any other flag."""
    family = next((way for begin, way in _UNSUPPORTED_FAMILIES.items() if flag.startswith(begin)), "")
    return _UNSUPPORTED.get(flag, family)


def _specific(word: str, argv: Sequence[str]) -> str:
    """The flag of the data set that a general flag means; any other word as it is."""
    flag, sign, value = word.partition("=")
    meant = _ALIASES.get(flag)
    if meant is None:
        return word
    words = [part for one in argv for part in one.split("=", 1)]
    name = words[words.index("--dataset-name") + 1] if "--dataset-name" in words[:-1] else ""
    by_set = {"random": "--random-output-len", "custom": "--custom-output-len", "hf": "--custom-output-len"}
    chosen = by_set.get(name, meant[0]) if len(meant) > 1 else meant[0]
    return chosen + sign + value


def _with_dashes(word: str) -> str:
    flag, sign, value = word.partition("=")
    return flag.replace("_", "-") + sign + value if flag.startswith("--") else word


def workload_of(
    name: str | None,
    path: Path | None,
    num_prompts: int,
    output_lens: tuple[int | None, int | None],
    random_lens: tuple[int | None, int | None, float | None, int | None],
) -> "WorkloadSettings":
    """The workload that the flags ask for. `output_lens`: of sharegpt, and of custom and hf. `random_lens`: input,
    output, range and prefix."""
    from inferometer.core.workload_settings import Builtin

    output_lens = (output_lens[0], None if output_lens[1] == -1 else output_lens[1])  # vLLM: each prompt's own
    is_random = any(length is not None for length in random_lens)
    name = name or ("random" if is_random and path is None else "builtin" if path is None else "sharegpt")
    if name not in DATASETS:
        hint = _NEAREST_DATASETS.get(name) or f"Known: {', '.join(DATASETS)}."
        raise RequestWrong(f"unknown --dataset-name {name!r}. {hint}")
    if is_random and name != "random":
        raise RequestWrong(f"--random-… lengths are for --dataset-name random, not {name}.")
    if name == "random":
        return _random(num_prompts, random_lens)
    output_tokens = output_lens[0] if name in ("sharegpt", "builtin", "trace") else output_lens[1] or output_lens[0]
    if name == "builtin":
        return Builtin(num_prompts, Builtin().max_tokens if output_tokens is None else output_tokens)
    if path is None:
        raise RequestWrong(f"--dataset-name {name} needs --dataset-path: {_FILES[name]}; or use builtin.")
    if name == "sharegpt":
        from inferometer.workloads.sharegpt import ShareGpt

        return ShareGpt(str(path), num_prompts, output_tokens)
    if name == "trace":
        if output_tokens is not None:
            raise RequestWrong(
                "--sharegpt-output-len cannot be used with a trace, which states the length of each request."
            )
        from inferometer.workloads.trace import Trace

        return Trace(str(path), num_prompts)
    if name == "hf" and not path.exists():
        raise RequestWrong(
            f"--dataset-name hf reads a local file, and there is no {path}: nothing is downloaded. Save the data set "
            "as JSONL: datasets.load_dataset(…, split=…).to_json('prompts.jsonl')"
        )
    from inferometer.workloads.custom import Custom

    return Custom(str(path), num_prompts, output_tokens)


def _random(num_prompts: int, lengths: tuple[int | None, int | None, float | None, int | None]) -> "WorkloadSettings":
    from inferometer.workloads.random_lengths import RandomLengths

    names = ("input_tokens", "max_tokens", "range_ratio", "prefix_tokens")
    given = {name: value for name, value in zip(names, lengths, strict=True) if value is not None}
    return msgspec.structs.replace(RandomLengths(num_prompts), **given)


def schedule_of(
    rate_per_s: float,
    burstiness: float,
    max_concurrency: int | None,
    ramp: tuple[str | None, float | None, float | None],
    *,
    has_times: bool,
    speed: float | None,
) -> "Schedule":
    """The requested schedule: a ramp (strategy, start, end), a rate, the times of a trace, or closed."""
    from inferometer.core.schedule import Closed, Poisson, Replay

    if not burstiness > 0:
        raise RequestWrong(f"--burstiness must be greater than 0, not {burstiness:g}.")
    any_time = rate_per_s == math.inf and ramp == (None, None, None)
    if speed is not None and not (has_times and any_time):
        raise RequestWrong("--trace-speed needs --dataset-name trace, and excludes --request-rate and a ramp.")
    if ramp != (None, None, None):
        if rate_per_s != math.inf:
            raise RequestWrong("--request-rate and --ramp-up-strategy exclude each other: give one.")
        return _ramp(*ramp, burstiness, max_concurrency)
    if has_times and any_time:
        return Replay(1.0 if speed is None else speed, max_concurrency)
    return Closed(max_concurrency) if any_time else Poisson(rate_per_s, burstiness, max_concurrency)


def _ramp(
    strategy: str | None, start: float | None, end: float | None, burstiness: float, max_concurrency: int | None
) -> "Ramp":
    from inferometer.core.schedule import Ramp

    if strategy is None or start is None or end is None:
        raise RequestWrong("a ramp needs --ramp-up-strategy, --ramp-up-start-rps and --ramp-up-end-rps together.")
    if strategy not in ("linear", "exponential"):
        raise RequestWrong(f"unknown --ramp-up-strategy {strategy!r}; known: linear, exponential.")
    return Ramp(start, end, strategy, burstiness=burstiness, max_concurrency=max_concurrency)


def sections_of(text: str) -> tuple[str, ...]:
    names = tuple(name.strip() for name in text.split(",") if name.strip())
    unknown = [name for name in names if name not in _SECTIONS]
    if unknown:
        raise RequestWrong(f"--percentile-metrics: unknown section {unknown[0]!r}; known: {', '.join(_SECTIONS)}.")
    return names


def percentiles_of(text: str) -> tuple[float, ...]:
    try:
        found = tuple(float(word) for word in text.split(",") if word.strip())
    except ValueError as error:
        raise RequestWrong(f"--metric-percentiles must be numbers separated by commas, not {text!r}.") from error
    if not all(0 < percent < 100 for percent in found):
        raise RequestWrong(f"--metric-percentiles must be between 0 and 100, not {text!r}.")
    return found


def json_object(text: str | None, flag: str) -> dict[str, Any]:
    if text is None:
        return {}
    try:
        found = json.loads(text)
    except ValueError as error:
        raise RequestWrong(f"{flag} is not valid JSON: {error}") from error
    if not isinstance(found, dict):
        raise RequestWrong(f'{flag} must be a JSON object like {{"top_k": 1}}, not {text}.')
    return cast("dict[str, Any]", found)  # JSON's keys are strings


def sampler_of(top_p: float | None, top_k: int | None) -> dict[str, Any]:
    """The sampler's fields for the request's body."""
    if top_p is not None and not 0 < top_p <= 1:
        raise RequestWrong(f"--top-p must be greater than 0 and at most 1, not {top_p:g}.")
    if top_k is not None and top_k < -1:
        raise RequestWrong(f"--top-k must be at least 1 (0 or -1: no limit), not {top_k}.")
    return {name: value for name, value in (("top_p", top_p), ("top_k", top_k)) if value is not None}


def metadata_pair(text: str) -> tuple[str, str]:
    name, mark, value = text.partition("=")
    if not mark:
        raise RequestWrong(f"--metadata must look like KEY=VALUE, not {text!r}.")
    return name, value
