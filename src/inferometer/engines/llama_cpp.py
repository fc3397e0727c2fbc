"""What all engines of the llama.cpp family share: draft flags and metric names."""

DRAFT_FLAGS = (
    *("-md", "--model-draft", "--spec-draft-model", "--spec-type"),
    *("-hfd", "-hfrd", "--hf-repo-draft", "--spec-draft-hf"),
)
"""Flags in an arm's `args` that switch speculative decoding on."""

METRIC_NAMES = {
    "spec_draft_tokens_total": ("llamacpp:spec_decode_num_draft_tokens_total",),
    "spec_accepted_tokens_total": ("llamacpp:spec_decode_num_accepted_tokens_total",),
    "spec_steps_total": ("llamacpp:spec_decode_num_drafts_total",),
    "kv_cache_usage_percent": ("llamacpp:kv_cache_usage_ratio",),
    "requests_running": ("llamacpp:requests_processing",),
    "requests_waiting": ("llamacpp:requests_deferred",),
}
"""As of b11549; older builds had the gauge of the KV cache."""
