"""Token counts as servers report them: one meaning, the names and places of several APIs. Pure."""

import msgspec

from inferometer.core.record import TokenUsage


class _PromptTokens(msgspec.Struct):
    cached_tokens: int | None = None


class _OutputTokens(msgspec.Struct):
    reasoning_tokens: int | None = None


class Usage(msgspec.Struct):
    """OpenAI's `usage`. `input_…` and `output_…` are the names of its Responses API and of Anthropic's.

    `reasoning_tokens`: SGLang states them here, others in the details. `cached_tokens`: Moonshot states them here,
    DeepSeek as `prompt_cache_hit_tokens`, Anthropic as `cache_read_input_tokens`.
    """

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    reasoning_tokens: int | None = None
    cached_tokens: int | None = None
    prompt_tokens_details: _PromptTokens | None = None
    completion_tokens_details: _OutputTokens | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    input_tokens_details: _PromptTokens | None = None
    output_tokens_details: _OutputTokens | None = None
    prompt_cache_hit_tokens: int | None = None
    cache_read_input_tokens: int | None = None

    def counts(self, before: TokenUsage | None) -> TokenUsage:
        """These counts; one that is not stated here is the one that was stated `before`."""
        known = before or _NOTHING
        prompts, outputs = (
            self.prompt_tokens_details or self.input_tokens_details,
            self.completion_tokens_details or self.output_tokens_details,
        )
        cached = (
            prompts and prompts.cached_tokens,
            *(self.cached_tokens, self.prompt_cache_hit_tokens, self.cache_read_input_tokens),
        )
        return TokenUsage(
            _first(self.prompt_tokens, self.input_tokens, known.prompt_tokens),
            _first(self.completion_tokens, self.output_tokens, known.completion_tokens),
            _first(*cached, known.cached_tokens),
            _first(outputs and outputs.reasoning_tokens, self.reasoning_tokens, known.reasoning_tokens),
        )


class Groq(msgspec.Struct):
    """Groq's own part of a chunk, which has the usage in its streams."""

    usage: Usage | None = None


_NOTHING = TokenUsage()


def _first(*counts: int | None) -> int | None:
    return next((count for count in counts if count is not None), None)
