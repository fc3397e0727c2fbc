"""What all engines of the llama.cpp family share: draft flags and metric names."""

from inferometer.core import quantities

DRAFT_FILE_FLAGS = ("-md", "--model-draft", "--spec-draft-model")
DRAFT_FLAGS = (
    *(*DRAFT_FILE_FLAGS, "--spec-type"),
    *("-hfd", "-hfrd", "--hf-repo-draft", "--spec-draft-hf"),
)
"""Flags in an arm's `args` that switch speculative decoding on."""

METRIC_NAMES = {
    quantities.SPEC_DRAFT_TOKENS_TOTAL: ("llamacpp:spec_decode_num_draft_tokens_total",),
    quantities.SPEC_ACCEPTED_TOKENS_TOTAL: ("llamacpp:spec_decode_num_accepted_tokens_total",),
    quantities.SPEC_STEPS_TOTAL: ("llamacpp:spec_decode_num_drafts_total",),
    quantities.KV_CACHE_USAGE_PERCENT: ("llamacpp:kv_cache_usage_ratio",),
    quantities.REQUESTS_RUNNING: ("llamacpp:requests_processing",),
    quantities.REQUESTS_WAITING: ("llamacpp:requests_deferred",),
}
"""As of b11549; older builds had the gauge of the KV cache."""
