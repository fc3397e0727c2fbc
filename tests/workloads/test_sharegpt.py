"""ShareGPT files: the order, the rules, and what bad files get."""

import json
import random
from pathlib import Path

import pytest

from inferometer.base.errors import DatasetUnusable
from inferometer.workloads.sharegpt import ShareGpt, ShareGptFile, conversation_pairs, sample


class WordCounter:
    """A token a word; one more for the special ones."""

    name = "words"

    def count(self, text: str, special: bool) -> int:
        return len(text.split()) + special


def words(count: int, name: str = "w") -> str:
    return " ".join([name] * count)


def the_spec(count: int = 8, max_tokens: int | None = None) -> ShareGpt:
    return ShareGpt("x.json", count, max_tokens)


def test_the_order_is_that_of_vllm_0_6_5():
    # Seed 1, 1000 entries: the order that the 0.6.5 script walks in, checked against that script.
    pairs = [(f"{words(10)} {i}", words(10)) for i in range(1000)]
    found = sample(pairs, the_spec(8), seed=1, counter=WordCounter())
    assert [request.id for request in found.requests] == [
        f"sharegpt-{i}" for i in (852, 836, 280, 575, 208, 609, 932, 725)
    ]


def test_the_shuffle_is_that_of_shuffling_the_pairs_themselves():
    pairs = [(f"{words(5)} {i}", words(5)) for i in range(300)]
    shuffled = list(pairs)
    random.seed(7)
    random.shuffle(shuffled)
    found = sample(pairs, the_spec(20), seed=7, counter=WordCounter())
    assert [request.prompt for request in found.requests] == [prompt for prompt, _ in shuffled[:20]]


@pytest.mark.parametrize(
    ("prompt_words", "answer_words", "fixed", "kept"),
    [
        (3, 3, None, True),  # 4 tokens each with the special one
        (2, 10, None, False),
        (10, 2, None, False),
        (10, 2, 100, True),  # a fixed length makes the recorded one's shortness no matter
        (1023, 1, 1024, True),
        (1024, 10, None, False),
        (1023, 1023, None, True),  # 1024 + 1024 = 2048
        (1023, 1024, None, False),
        (1000, 10, 1048, False),
    ],
)
def test_the_length_rules(prompt_words: int, answer_words: int, fixed: int | None, kept: bool):
    pairs = [(words(10, "other"), words(10)), (words(prompt_words), words(answer_words))]
    found = sample(pairs, the_spec(2, fixed), seed=1, counter=WordCounter())
    assert (words(prompt_words) in {request.prompt for request in found.requests}) is kept


def test_lengths_are_counted_with_special_tokens_and_kept():
    found = sample([(words(10), words(20))], the_spec(1), seed=1, counter=WordCounter())
    (request,) = found.requests
    assert (request.prompt_tokens, request.max_tokens) == (11, 21)


def test_too_few_are_fewer_and_it_is_said():
    found = sample([(words(10), words(20))] * 3, the_spec(5), seed=1, counter=WordCounter())
    assert len(found.requests) == 3
    assert "Only 3 of 5" in found.notes[0]


def test_without_a_tokenizer_the_filter_is_not_applied_and_it_is_said():
    found = sample([(words(3000), words(20))], the_spec(1), seed=1, counter=None)
    assert len(found.requests) == 1
    assert found.requests[0].prompt_tokens is None
    assert "length filter could not be applied" in found.notes[0]


def test_prompts_to_spare_are_other_prompts():
    found = sample([(f"{words(5)} {i}", words(9)) for i in range(30)], the_spec(5), seed=3, counter=WordCounter())
    assert {r.id for r in found.requests}.isdisjoint({r.id for r in found.spare})
    assert found.spare


def test_conversations_of_one_turn_are_left_out_and_roles_do_not_matter():
    entries = [
        {"conversations": [{"from": "gpt", "value": "a"}]},
        {"conversations": [{"from": "gpt", "value": "a"}, {"from": "gpt", "value": "b"}, {"from": "x", "value": "c"}]},
    ]
    assert conversation_pairs(json.dumps(entries).encode(), "f") == [("a", "b")]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("<html>404</html>", "is not JSON"),
        ('{"a": 1}', "must be a JSON array"),
        ('[{"text": "a"}]', "entry 0: no `conversations`"),
        ('[{"conversations": [1, 2]}]', "entry 0"),
        ("[]", "no conversation of two turns"),
    ],
)
def test_a_malformed_file_is_named_with_what_is_wrong(tmp_path: Path, content: str, said: str):
    path = tmp_path / "data.json"
    path.write_text(content)
    with pytest.raises(DatasetUnusable, match=said) as caught:
        ShareGptFile(ShareGpt(str(path))).sample(1, None)
    assert "data.json" in str(caught.value)


def test_a_missing_file_is_named_with_the_way_out(tmp_path: Path):
    with pytest.raises(DatasetUnusable, match=r"no data set at .*nowhere\.json") as caught:
        ShareGptFile(ShareGpt(str(tmp_path / "nowhere.json"))).sample(1, None)
    assert "built-in" in str(caught.value)


@pytest.mark.parametrize("value", [None, "", "  \n", "None", "null"])
def test_a_conversation_without_a_prompt_is_never_sent(value):
    entries = [[value, "an answer"], ["a prompt of some words", "an answer"], ["another prompt", None]]
    data = json.dumps([{"conversations": [{"value": text} for text in turns]} for turns in entries]).encode()
    found = sample(conversation_pairs(data, "file"), ShareGpt("file", 3), 1, None)
    assert {request.prompt for request in found.requests} == {"a prompt of some words", "another prompt"}
    assert "1 of 3 conversations have no prompt" in " ".join(found.notes)
    assert "Only 2 of 3 prompts" in " ".join(found.notes)
