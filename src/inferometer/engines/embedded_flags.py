"""llama-server's flags that the embedded engine knows, and the attribute of xllamacpp's `CommonParams` behind each.

Pure. A test compares the attributes with those of the installed wheel, so that an upgrade shows what is new.
"""

import difflib
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

from inferometer.base.errors import RequestWrong
from inferometer.core.redaction import redacted_words

ValueKind = Literal["int", "float", "text", "switch", "on/off", "0/1", "words", "paths", "numbers"]


class Flag(NamedTuple):
    """`spellings`: as llama-server has them. `attribute`: path below CommonParams. `kind`: of the value; for `switch`
    there is none. `enum`: the wheel's enumeration that has the value as a member (ENUM_WORDS). `off`: spellings that
    switch it off. `inverted`: the attribute says the opposite (`no_perf`)."""

    spellings: tuple[str, ...]
    attribute: str
    kind: ValueKind = "int"
    enum: str = ""
    off: tuple[str, ...] = ()
    inverted: bool = False


def _flag(spellings: str, attribute: str, kind: ValueKind = "int", **more: Any) -> Flag:
    names = spellings.split()
    on, off = (tuple(name for name in names if _is_off(name) is is_off) for is_off in (False, True))
    return Flag(on, attribute, kind, off=off, **more)


def _is_off(name: str) -> bool:
    return name.startswith(("--no-", "-no-")) or name in ("-nkvo", "-nocb", "-nr")


def _enum(spellings: str, attribute: str, enum: str, kind: ValueKind = "text") -> Flag:
    return _flag(spellings, attribute, kind, enum=enum)


_SAMPLING: tuple[tuple[str, str, ValueKind], ...] = (
    ("-s --seed", "seed", "int"),
    ("--temp --temperature", "temp", "float"),
    ("--top-k", "top_k", "int"),
    ("--top-p", "top_p", "float"),
    ("--min-p", "min_p", "float"),
    ("--typical --typical-p", "typ_p", "float"),
    ("--xtc-probability", "xtc_probability", "float"),
    ("--xtc-threshold", "xtc_threshold", "float"),
    ("--repeat-last-n", "penalty_last_n", "int"),
    ("--repeat-penalty", "penalty_repeat", "float"),
    ("--presence-penalty", "penalty_present", "float"),
    ("--frequency-penalty", "penalty_freq", "float"),
    ("--dry-multiplier", "dry_multiplier", "float"),
    ("--dry-base", "dry_base", "float"),
    ("--dry-allowed-length", "dry_allowed_length", "int"),
    ("--dry-penalty-last-n", "dry_penalty_last_n", "int"),
    ("--mirostat", "mirostat", "int"),
    ("--mirostat-lr", "mirostat_eta", "float"),
    ("--mirostat-ent", "mirostat_tau", "float"),
    ("--dynatemp-range", "dynatemp_range", "float"),
    ("--dynatemp-exp", "dynatemp_exponent", "float"),
    ("--ignore-eos", "ignore_eos", "switch"),
    ("-bs --backend-sampling", "backend_sampling", "switch"),
)
_DRAFT = "speculative.draft"


def _members(prefix: str, words: str, **others: str) -> dict[str, str]:
    same = {word: f"{prefix}{word.replace('-', '_').upper()}" for word in words.split()}
    return same | {word.replace("_", "+"): f"{prefix}{member}" for word, member in others.items()}


ENUM_WORDS = {
    "ggml_type": _members("GGML_TYPE_", "f32 f16 bf16 q8_0 q4_0 q4_1 iq4_nl q5_0 q5_1"),
    "llama_rope_scaling_type": _members("LLAMA_ROPE_SCALING_TYPE_", "none linear yarn"),
    "llama_load_mode": _members("LLAMA_LOAD_MODE_", "auto none mmap mlock", mmap_mlock="MMAP_MLOCK", dio="DIRECT_IO"),
    "llama_lazy_mode": _members("LLAMA_LAZY_MODE_", "on auto off"),
    "ggml_numa_strategy": _members("GGML_NUMA_STRATEGY_", "distribute isolate numactl"),
    "llama_split_mode": _members("LLAMA_SPLIT_MODE_", "none layer row tensor"),
    "llama_pooling_type": _members("LLAMA_POOLING_TYPE_", "none mean cls last rank"),
    "common_reasoning_format": _members("COMMON_REASONING_FORMAT_", "none auto deepseek deepseek-legacy"),
    "common_speculative_type": _members(
        "COMMON_SPECULATIVE_TYPE_",
        "none draft-simple draft-eagle3 draft-mtp draft-dflash draft-dspark ngram-simple ngram-map-k ngram-map-k4v "
        "ngram-mod ngram-cache",
    ),
}
"""By enumeration of the wheel: llama-server's words for its members."""

FLAGS = (
    _flag("-tb --threads-batch", "cpuparams_batch.n_threads"),
    _flag("--cpu-strict", "cpuparams.strict_cpu", "0/1"),
    _flag("--poll", "cpuparams.poll"),
    _flag("--cpu-strict-batch", "cpuparams_batch.strict_cpu", "0/1"),
    _flag("--poll-batch", "cpuparams_batch.poll"),
    _flag("-n --predict --n-predict", "n_predict"),
    _flag("-b --batch-size", "n_batch"),
    _flag("-ub --ubatch-size", "n_ubatch"),
    _flag("--keep", "n_keep"),
    _flag("--swa-full", "swa_full", "switch"),
    _flag("--perf --no-perf", "no_perf", "switch", inverted=True),
    _enum("--rope-scaling", "rope_scaling_type", "llama_rope_scaling_type"),
    _flag("--rope-freq-base", "rope_freq_base", "float"),
    _flag("--rope-freq-scale", "rope_freq_scale", "float"),
    _flag("--yarn-orig-ctx", "yarn_orig_ctx"),
    _flag("--yarn-ext-factor", "yarn_ext_factor", "float"),
    _flag("--yarn-attn-factor", "yarn_attn_factor", "float"),
    _flag("--yarn-beta-slow", "yarn_beta_slow", "float"),
    _flag("--yarn-beta-fast", "yarn_beta_fast", "float"),
    _flag("-kvo --kv-offload -nkvo --no-kv-offload", "no_kv_offload", "switch", inverted=True),
    _flag("--repack -nr --no-repack", "no_extra_bufts", "switch", inverted=True),
    _flag("--no-host", "no_host", "switch", inverted=True),
    _enum("-ctk --cache-type-k", "cache_type_k", "ggml_type"),
    _enum("-ctv --cache-type-v", "cache_type_v", "ggml_type"),
    _enum("-lm --load-mode", "load_mode", "llama_load_mode"),
    _enum("-lzm --lazy-mode", "lazy_mode", "llama_lazy_mode"),
    _enum("--numa", "numa", "ggml_numa_strategy"),
    _flag("-ot --override-tensor", "tensor_buft_overrides", "text"),
    _enum("-sm --split-mode", "split_mode", "llama_split_mode"),
    _flag("-ts --tensor-split", "tensor_split", "numbers"),
    _flag("-mg --main-gpu", "main_gpu"),
    _flag("-fit --fit", "fit_params", "on/off"),
    _flag("-fitc --fit-ctx", "fit_params_min_ctx"),
    _flag("--check-tensors", "check_tensors", "switch"),
    _flag("--op-offload --no-op-offload", "no_op_offload", "switch", inverted=True),
    _flag("--lora-init-without-apply", "lora_init_without_apply", "switch"),
    _flag("--kv-unified-per-slot", "kv_unified_per_slot"),
    _flag("-ctxcp --ctx-checkpoints --swa-checkpoints", "n_ctx_checkpoints"),
    _flag("-cms --checkpoint-min-step", "checkpoint_min_step"),
    _flag("-cram --cache-ram", "cache_ram_mib"),
    _flag("-kvu --kv-unified -no-kvu --no-kv-unified", "kv_unified", "switch"),
    _flag("--cache-idle-slots --no-cache-idle-slots", "cache_idle_slots", "switch"),
    _flag("--context-shift --no-context-shift", "ctx_shift", "switch"),
    _flag("-sp --special", "special", "switch"),
    _flag("--warmup --no-warmup", "warmup", "switch"),
    _enum("--pooling", "pooling_type", "llama_pooling_type"),
    _flag("-cb --cont-batching -nocb --no-cont-batching", "cont_batching", "switch"),
    _flag("-a --alias", "model_alias", "words"),
    _flag("-to --timeout", "timeout_read"),
    _flag("--sse-ping-interval", "sse_ping_interval"),
    _flag("--threads-http", "n_threads_http"),
    _flag("--cache-prompt --no-cache-prompt", "cache_prompt", "switch"),
    _flag("--cache-reuse", "n_cache_reuse"),
    _flag("--slots --no-slots", "endpoint_slots", "switch"),
    _flag("--props", "endpoint_props", "switch"),
    _flag("--slot-save-path", "slot_save_path", "text"),
    _flag("--jinja --no-jinja", "use_jinja", "switch"),
    _flag("--chat-template", "chat_template", "text"),
    _enum("--reasoning-format", "reasoning_format", "common_reasoning_format"),
    _flag("--skip-chat-parsing --no-skip-chat-parsing", "force_pure_content_parser", "switch"),
    _flag("--prefill-assistant --no-prefill-assistant", "prefill_assistant", "switch"),
    _flag("-sps --slot-prompt-similarity", "slot_prompt_similarity", "float"),
    _flag("--sleep-idle-seconds", "sleep_idle_seconds"),
    _enum("--spec-type", "speculative.types", "common_speculative_type", "words"),
    _flag("--spec-draft-n-max --draft-max --draft --draft-n", f"{_DRAFT}.n_max"),
    _flag("--spec-draft-n-min --draft-min --draft-n-min", f"{_DRAFT}.n_min"),
    _flag("--spec-draft-p-min --draft-p-min", f"{_DRAFT}.p_min", "float"),
    _flag("--spec-draft-p-split --draft-p-split", f"{_DRAFT}.p_split", "float"),
    _flag("--spec-draft-backend-sampling --no-spec-draft-backend-sampling", f"{_DRAFT}.backend_sampling", "switch"),
    _enum("--spec-draft-type-k -ctkd --cache-type-k-draft", f"{_DRAFT}.cache_type_k", "ggml_type"),
    _enum("--spec-draft-type-v -ctvd --cache-type-v-draft", f"{_DRAFT}.cache_type_v", "ggml_type"),
    _flag("--spec-draft-ngl -ngld --gpu-layers-draft --n-gpu-layers-draft", f"{_DRAFT}.n_gpu_layers"),
    _flag("--spec-draft-threads -td --threads-draft", f"{_DRAFT}.cpuparams.n_threads"),
    _flag("--spec-draft-threads-batch -tbd --threads-batch-draft", f"{_DRAFT}.cpuparams_batch.n_threads"),
    _flag("--spec-draft-poll --poll-draft", f"{_DRAFT}.cpuparams.poll"),
    _flag("--spec-draft-device -devd --device-draft", f"{_DRAFT}.devices", "text"),
    _flag("--spec-draft-override-tensor -otd --override-tensor-draft", f"{_DRAFT}.tensor_buft_overrides", "text"),
    _flag("--spec-synth-len", "speculative.synth_len", "float"),
    _flag("--spec-synth-rates", "speculative.synth_rates", "numbers"),
    _flag("--spec-ngram-mod-n-min", "speculative.ngram_mod.n_min"),
    _flag("--spec-ngram-mod-n-max", "speculative.ngram_mod.n_max"),
    _flag("--spec-ngram-mod-n-match", "speculative.ngram_mod.n_match"),
    *(
        _flag(f"--spec-{name}-{field.replace('_', '-')}", f"speculative.{name.replace('-', '_')}.{field}")
        for name in ("ngram-simple", "ngram-map-k", "ngram-map-k4v")
        for field in ("size_n", "size_m", "min_hits")
    ),
    *(_flag(spellings, f"sampling.{attribute}", kind) for spellings, attribute, kind in _SAMPLING),
    _flag("-lcs --lookup-cache-static", "speculative.ngram_cache.lookup_cache_static", "text"),
    _flag("-lcd --lookup-cache-dynamic", "speculative.ngram_cache.lookup_cache_dynamic", "text"),
)
"""Flags whose value goes to one attribute. `-m`, `-md`, `-c`, `-t`, `-np`, `-ngl`, `-fa` and `-lv` have special
rules (engines/embedded.py)."""

_BY_SPELLING = {name: flag for flag in FLAGS for name in (*flag.spellings, *flag.off)}
_MMAP = {"--no-mmap": "none", "--mmap": "mmap", "--mlock": "mlock"}
"""Older spellings of `--load-mode`."""

Parameter = tuple[str, Any, str]
"""Attribute, value, and for a member of one of the wheel's enumerations the enumeration's name, else ""."""


def parameter(word: str, rest: list[str]) -> Parameter | None:
    """The parameter that a flag sets, taking its value from the front of `rest`; None for an unknown flag. Raises
    RequestWrong for a value that does not fit."""
    name, equals, text = word.partition("=")
    if equals and takes_no_value(name):
        raise RequestWrong(f"{name} takes no value: remove ={text}")
    if name in _MMAP:
        return "load_mode", f"LLAMA_LOAD_MODE_{_MMAP[name].upper()}", "llama_load_mode"
    flag = _BY_SPELLING.get(name)
    if flag is None:
        return None
    if flag.kind == "switch":
        return flag.attribute, (name in flag.spellings) != flag.inverted, ""
    if not equals:
        if not rest:
            raise RequestWrong(f"{name} needs a value after it")
        text = rest.pop(0)
    return flag.attribute, _value(flag, name, text), flag.enum


def takes_no_value(name: str) -> bool:
    """Whether this is a known flag that is complete without a value."""
    return name in _MMAP or (name in _BY_SPELLING and _BY_SPELLING[name].kind == "switch")


def _value(flag: Flag, name: str, text: str) -> Any:
    words = [part.strip() for part in text.split(",")] if flag.kind in ("words", "numbers") else [text]
    if flag.enum:
        known = ENUM_WORDS[flag.enum]
        wrong = [word for word in words if word.lower() not in known]
        if wrong:
            raise RequestWrong(f"{name} is one of {', '.join(known)}, not {wrong[0]!r}")
        members = [known[word.lower()] for word in words]
        return members if flag.kind == "words" else members[0]
    try:
        match flag.kind:
            case "int":
                return int(text)
            case "float":
                return float(text)
            case "on/off" | "0/1":
                return {"on": True, "off": False, "1": True, "0": False}[text]
            case "numbers":
                return [float(word) for word in words]
            case _:
                return words if flag.kind == "words" else text
    except (ValueError, KeyError):
        wanted = {"int": "a whole number", "float": "a number", "on/off": "on or off", "0/1": "0 or 1"}
        raise RequestWrong(f"{name} needs {wanted.get(flag.kind, 'numbers')}, not {text!r}") from None


def unknown_flag(word: str, known: Sequence[str]) -> RequestWrong:
    """The refusal of an unknown flag, with the nearest one."""
    near = difflib.get_close_matches(word.partition("=")[0], [*known, *_BY_SPELLING, *_MMAP], n=1, cutoff=0.4)
    hint = f"; did you mean {near[0]}?" if near else ""
    return RequestWrong(
        f"the embedded engine has no flag {redacted_words([word])[0]!r}{hint} All flags: inferometer engines embedded "
        "--flags. For any other flag of llama.cpp use engine: llama-server."
    )


def flag_lines() -> list[str]:
    """The spellings of each flag, and what its value is."""
    lines = [
        ", ".join((*flag.spellings, *flag.off)) + ("" if flag.kind == "switch" else f"  {flag.kind}") for flag in FLAGS
    ]
    return [*lines, ", ".join(_MMAP)]
