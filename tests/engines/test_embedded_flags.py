"""Flags of the embedded engine: what of xllamacpp can be set, in llama-server's words."""

from fnmatch import fnmatch
from typing import Any

import pytest
import xllamacpp as wheel

from inferometer.base.errors import RequestWrong
from inferometer.core.spec import Arm, Draft
from inferometer.engines.embedded import Embedded, settings_of
from inferometer.engines.embedded_flags import ENUM_WORDS, FLAGS

WHEEL: Any = wheel  # it ships no types
SET_BY_THE_ARM = (
    *("model.path", "hostnames", "port", "endpoint_metrics", "verbosity", "n_ctx", "n_parallel", "n_gpu_layers"),
    *("flash_attn_type", "cpuparams.n_threads", "speculative.draft.mparams.path"),
)
"""Through the arm's `model`, `draft`, `context`, `threads` and `slots`, or a flag that has a rule of its own."""
WITHOUT_A_FLAG = {
    "another program of llama.cpp uses it, the server does not": (
        "activation_statistics antiprompt attention_type check chunk_separator chunk_size cls_sep compute_ppl "
        "context_files control_vector_layer_end control_vector_layer_start diffusion.* display_prompt embd_normalize "
        "embd_out embd_sep enable_chat_template escape fit_params_print grp_attn_n grp_attn_w hellaswag "
        "hellaswag_tasks i_chunk i_pos imat_dat in_files input_prefix input_prefix_bos input_suffix interactive "
        "is_gen_docs is_pp_shared is_tg_separate kl_divergence logits_file logits_output_dir multiline_input "
        "multiple_choice multiple_choice_tasks n_chunks n_junk n_out_freq n_pca_batch n_pca_iterations n_pl n_pp "
        "n_print n_save_freq n_sequences n_tg no_alloc out_file parse_special path_prompt_cache "
        "path_prompts_log_dir ppl_output_type ppl_stride process_output prompt prompt_cache_all prompt_cache_ro "
        "prompt_file save_logits show_statistics show_timings simple_io single_turn system_prompt "
        "tensor_filter tokenize_ids tokenize_no_bos tokenize_show_count tokenize_stdin tts_lang tts_speaker_file usage "
        "use_color verbose_prompt winogrande winogrande_tasks"
    ),
    "for models of pictures, sound, embeddings or adapters": (
        "embedding image image_max_tokens image_min_tokens mmproj.* mmproj_device mmproj_use_gpu no_mmproj media_path "
        "mtmd_batch_max_tokens video_ffmpeg_bin_dir video_fps video_timestamp_interval_ms load_mtp lora_adapters "
        "moe_cache_size"
    ),
    "would download a model, or serve several: an arm names one file": (
        "hf_token model.docker_repo model.hf_file model.hf_repo model.url models_autoload models_dir models_max "
        "models_preset models_preset_hf offline model_tags speculative.draft.mparams.docker_repo "
        "speculative.draft.mparams.hf_file speculative.draft.mparams.hf_repo speculative.draft.mparams.url"
    ),
    "would change how Inferometer reaches the server, or its log": (
        "api_keys api_prefix cors_credentials cors_headers cors_methods cors_origins cors_origins_explicit log_json "
        "mcp_servers_config mcp_servers_json public_path reuse_port server_base server_tools server_tools_runtime "
        "ssl_file_cert ssl_file_key timeout_write ui ui_config_json ui_mcp_proxy"
    ),
    "each request says it": (
        "default_template_kwargs enable_reasoning preserve_reasoning_specified sampling.adaptive_decay "
        "sampling.adaptive_target sampling.generation_prompt sampling.grammar.* sampling.logit_bias "
        "sampling.logit_bias_eog sampling.min_keep sampling.n_prev sampling.n_probs sampling.no_perf sampling.print "
        "sampling.reasoning_* sampling.samplers sampling.timing_per_token sampling.user_sampling_config"
    ),
    "no flag of llama-server sets it alone, or the wheel cannot set it from text": (
        "fit_params_target n_outputs_max n_outputs_max_per_seq speculative.draft.probabilistic *cpumask *mask_valid "
        "*priority speculative.draft.*strict_cpu speculative.draft.cpuparams_batch.poll"
    ),
}
NGRAMS = ["COMMON_SPECULATIVE_TYPE_NGRAM_SIMPLE", "COMMON_SPECULATIVE_TYPE_NGRAM_MOD"]


def attribute(path: str) -> Any:
    found: Any = WHEEL.CommonParams()
    for name in path.split("."):
        found = getattr(found, name)
    return found


def parameters(*args: str) -> list[tuple[str, Any, str]]:
    return [tuple(one) for one in settings_of(Arm("embedded", model="m", args=args), 1).parameters]  # type: ignore[misc]


@pytest.mark.parametrize("flag", FLAGS, ids=lambda flag: (*flag.spellings, *flag.off)[0])
def test_every_flag_sets_an_attribute_of_the_installed_wheel(flag: Any):
    now = attribute(flag.attribute)
    kinds = {"int": int, "float": float, "switch": bool, "on/off": bool, "0/1": bool}
    if flag.kind in kinds:
        assert isinstance(now, kinds[flag.kind])


@pytest.mark.parametrize("name", ENUM_WORDS)
def test_every_word_is_a_member_of_the_installed_wheel_s_enumeration(name: str):
    members = {member.name for member in getattr(WHEEL, name)}
    assert set(ENUM_WORDS[name].values()) <= members


def test_every_setting_of_the_wheel_has_a_flag_or_a_reason_for_having_none():
    settings = settings_below(WHEEL.CommonParams())
    flags = {*(flag.attribute for flag in FLAGS), *SET_BY_THE_ARM}
    patterns = [pattern for group in WITHOUT_A_FLAG.values() for pattern in group.split()]
    new = [name for name in settings - flags if not any(fnmatch(name, pattern) for pattern in patterns)]
    gone = [pattern for pattern in (*flags, *patterns) if not any(fnmatch(name, pattern) for name in settings)]
    both = [name for name in flags if any(fnmatch(name, pattern) for pattern in patterns)]
    assert (new, gone, both) == ([], [], [])


def settings_below(group: Any, path: str = "") -> set[str]:
    found: set[str] = set()
    for name in (name for name in dir(group) if not name.startswith("_")):
        value = getattr(group, name)
        is_group = type(value).__name__.startswith(("Common", "CpuParams"))
        found |= settings_below(value, f"{path}{name}.") if is_group else {path + name}
    return found


def test_no_spelling_belongs_to_two_flags():
    spellings = [name for flag in FLAGS for name in (*flag.spellings, *flag.off)]
    assert len(spellings) == len(set(spellings))


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        (("-ctk", "q8_0"), ("cache_type_k", "GGML_TYPE_Q8_0", "ggml_type")),
        (
            ("--spec-type=ngram-simple,ngram-mod",),
            (
                "speculative.types",
                ["COMMON_SPECULATIVE_TYPE_NGRAM_SIMPLE", "COMMON_SPECULATIVE_TYPE_NGRAM_MOD"],
                "common_speculative_type",
            ),
        ),
        (("-lm", "mmap+mlock"), ("load_mode", "LLAMA_LOAD_MODE_MMAP_MLOCK", "llama_load_mode")),
        (("--no-mmap",), ("load_mode", "LLAMA_LOAD_MODE_NONE", "llama_load_mode")),
        (("-nkvo",), ("no_kv_offload", True, "")),
        (("--kv-offload",), ("no_kv_offload", False, "")),
        (("--no-warmup",), ("warmup", False, "")),
        (("-ub", "64"), ("n_ubatch", 64, "")),
        (("--poll", "0"), ("cpuparams.poll", 0, "")),
    ],
)
def test_a_flag_is_the_attribute_that_llama_server_sets(args: tuple[str, ...], expected: tuple[str, Any, str]):
    assert parameters(*args) == [expected]


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (("-ctk", "q9"), "-ctk is one of f32, f16"),
        (("--spec-type", "ngram"), "--spec-type is one of none, draft-simple"),
        (("-ub", "many"), "-ub needs a whole number, not 'many'"),
        (("-ub",), "-ub needs a value after it"),
        (("--no-mmap=1",), "--no-mmap takes no value: remove =1"),
        (("--perf=off",), "--perf takes no value: remove =off"),
        (("--cache-typ-k", "f16"), "did you mean --cache-type-k?"),
    ],
)
def test_a_wrong_flag_or_value_is_refused_with_what_there_is(args: tuple[str, ...], says: str):
    with pytest.raises(RequestWrong) as caught:
        parameters(*args)
    assert says in str(caught.value)


def test_the_command_to_type_is_llama_servers():
    arm = Arm("embedded", model="m.gguf", threads=2, context=1024, args=("-ub", "128", "-t", "1"))
    assert list(typed(arm)) == ["llama-server", "-m", "m.gguf", "-c", "1024", "-np", "1", "-ub", "128", "-t", "1"]
    assert list(typed(Arm("embedded", model="m", threads=2, context=9, args=("-t=1", "-ctk=q8_0"))))[3:] == [
        *("-c", "9", "-np", "1", "-t", "1", "-ctk", "q8_0")
    ]
    drafting = Arm("embedded", model="m.gguf", threads=2, context=1024, draft=Draft("d.gguf", n_max=8, p_min=0.5))
    words = " ".join(typed(drafting))
    assert words.endswith("-t 2 -md d.gguf --spec-type draft-simple --spec-draft-n-max 8 --spec-draft-p-min 0.5")


def typed(arm: Arm):
    command = Embedded.description.typed_command
    assert command is not None
    return command(arm)
