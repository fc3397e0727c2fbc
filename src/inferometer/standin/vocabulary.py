"""Vocabulary of a stand-in: byte-level BPE, learnt here or with the trained weights; and the chat template."""

import functools
import importlib.resources
from typing import Literal

import msgspec

# How Qwen2 cuts text before it merges bytes, from its tokenizer.json; llama.cpp does the same for "qwen2".
QWEN2_CUTS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
PRE_TOKENIZER = "qwen2"
END_OF_TEXT, IM_START, IM_END = SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
MIN_VOCAB = 256 + len(SPECIAL)
CHATML = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)

TokenKind = Literal["text", "unused", "control"]


class Vocabulary(msgspec.Struct, frozen=True):
    """`tokens` in the order of their ids, with the kind of each. `cuts`: llama.cpp's name for how text is cut before
    bytes are merged. `begin`, `end`, `pad`: tokens of `tokens`."""

    tokens: tuple[str, ...]
    merges: tuple[str, ...]
    kinds: tuple[TokenKind, ...]
    cuts: str = PRE_TOKENIZER
    begin: str = END_OF_TEXT
    end: str = IM_END
    pad: str = END_OF_TEXT
    template: str = CHATML

    def filled_up(self, size: int) -> "Vocabulary":
        """The same tokens with the same ids, followed by unused tokens up to this size."""
        more = size - len(self.tokens)
        filler: list[TokenKind] = ["unused"] * more
        tokens, kinds = (*self.tokens, *_unused(more)), (*self.kinds, *filler)
        return msgspec.structs.replace(self, tokens=tokens, kinds=kinds)


def read_vocabulary(tokenizer_json: bytes) -> Vocabulary:
    """From a tokenizer.json as the tokenizers package writes it, whose special tokens have the highest ids."""
    read = msgspec.json.decode(tokenizer_json, type=_Saved)
    special = {token.content: token.id for token in read.added_tokens}
    ids = read.model.vocab | special
    tokens = sorted(ids, key=ids.__getitem__)
    return Vocabulary(
        tokens=tuple(tokens),
        merges=tuple(" ".join(pair) for pair in read.model.merges),
        kinds=tuple("control" if token in special else "text" for token in tokens),
    )


@functools.cache
def learnt_vocabulary(size: int) -> Vocabulary:
    """Learnt from the built-in coding set. Special tokens come last; unused ones before them fill up the size."""
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    cuts = pre_tokenizers.Split(Regex(QWEN2_CUTS), "isolated")
    as_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([cuts, as_bytes])
    trainer = trainers.BpeTrainer(
        vocab_size=size - len(SPECIAL), initial_alphabet=as_bytes.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator([corpus()], trainer)
    learnt = read_vocabulary(tokenizer.to_str().encode())
    words = learnt.filled_up(size - len(SPECIAL))
    special: list[TokenKind] = ["control"] * len(SPECIAL)
    return Vocabulary(tokens=(*words.tokens, *SPECIAL), merges=words.merges, kinds=(*words.kinds, *special))


@functools.cache
def corpus() -> str:
    """The built-in coding set as one text, so that its prompts have sensible token counts."""
    data = importlib.resources.files("inferometer").joinpath("workloads", "data", "coding.json").read_bytes()
    conversations = msgspec.json.decode(data, type=list[_Conversation])
    return "\n".join(turn.value for conversation in conversations for turn in conversation.conversations)


def _unused(count: int) -> list[str]:
    return [f"<|unused_{i}|>" for i in range(count)]


class _Model(msgspec.Struct):
    vocab: dict[str, int]
    merges: list[tuple[str, str]]


class _Added(msgspec.Struct):
    id: int
    content: str


class _Saved(msgspec.Struct):
    model: _Model
    added_tokens: list[_Added] = []


class _Turn(msgspec.Struct):
    value: str


class _Conversation(msgspec.Struct):
    conversations: list[_Turn]
