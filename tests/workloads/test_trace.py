"""Traces: lengths and times as recorded, prompts made to the token, blocks shared where the trace shares them."""

import itertools
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferometer.base.errors import DatasetUnusable
from inferometer.core.request import Sampled
from inferometer.workloads.trace import Trace, TraceFile, TraceRow, rows

SHARED = [*range(46, 58)]
MOONCAKE = [
    {"timestamp": 0, "input_length": 6955, "output_length": 52, "hash_ids": [*SHARED, 2353, 2354]},
    {"timestamp": 3053, "input_length": 6472, "output_length": 26, "hash_ids": [*SHARED, 2366]},
    {"timestamp": 3053, "input_length": 40, "output_length": 5, "hash_ids": []},
    {"timestamp": 4100.5, "input_length": 700, "output_length": 8, "hash_ids": [9, 10]},
]
BURSTGPT = """Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type
5,ChatGPT,472,18,490,Conversation log
45,ChatGPT,1087,230,1317,Conversation log
45.5,GPT-4,300,0,300,API log
118,GPT-4,417,276,693,API log
"""


class Words:
    """A tokenizer by a rule, which puts one token before a text by itself."""

    name = "words"

    def __init__(self, tokens: Callable[[str], int] = lambda text: len(text.split())) -> None:
        self._tokens = tokens

    def count(self, text: str, special: bool) -> int:
        return self._tokens(text) + special


TOKENIZERS = {
    "a token a word": lambda text: len(text.split()),
    "a token a character": len,
    "three characters a token": lambda text: (len(text) + 2) // 3,
    "half of the words are two": lambda text: sum(1 + (word[0] < "m") for word in text.split()),
}


def jsonl(entries: list) -> str:
    return "\n".join(json.dumps(entry) for entry in entries) + "\n"


def sampled(folder: Path, text: str, counter: Words | None = None, seed: int = 1, **spec) -> Sampled:
    path = folder / "trace"
    path.write_text(text)
    return TraceFile(Trace(str(path), **spec)).sample(seed, counter)


def test_mooncake_s_jsonl_gives_lengths_and_times(tmp_path: Path):
    found = sampled(tmp_path, jsonl(MOONCAKE), Words())
    assert [request.max_tokens for request in found.requests] == [52, 26, 5, 8]
    assert [request.prompt_tokens for request in found.requests] == [6955, 6472, 40, 700]
    assert found.recorded_ns == (0, 3_053_000_000, 3_053_000_000, 4_100_500_000)
    assert found.spare == ()
    assert ("dataset_requests", "4") in found.source


def test_burstgpt_s_csv_gives_lengths_and_times_and_leaves_out_what_got_no_token(tmp_path: Path):
    found = sampled(tmp_path, BURSTGPT, Words())
    assert [(request.id, request.prompt_tokens, request.max_tokens) for request in found.requests] == [
        ("trace-2", 472, 18),
        ("trace-3", 1087, 230),
        ("trace-5", 417, 276),
    ]
    assert found.recorded_ns == (5_000_000_000, 45_000_000_000, 118_000_000_000)
    assert any(note.startswith("1 of the lines read ask for no token") for note in found.notes)


@pytest.mark.parametrize(
    "text",
    [
        "TIMESTAMP,request TOKENS,Response Tokens\n1,2,3\n",
        "\ufeffTimestamp, Request tokens ,Response_tokens\r\n1.0,2.0,3\r\n",
        '{"Timestamp": 1000, "Input_Length": 2, "OUTPUT_length": 3, "chat_id": 7}\n\n',
        "timestamp,input_length,output_length\n1000,2,3\n",
    ],
)
def test_columns_are_known_by_their_names_in_any_case(text: str):
    assert [(row.recorded_ns, row.prompt_tokens, row.output_tokens) for row in rows(text.encode(), "t")] == [
        (1_000_000_000, 2, 3)
    ]


@pytest.mark.parametrize("tokens", TOKENIZERS.values(), ids=TOKENIZERS)
@given(lengths=st.lists(st.integers(4, 900), min_size=1, max_size=5), seed=st.integers(0, 99))
def test_prompts_have_the_asked_length_to_the_token(tmp_path_factory, tokens, lengths: list[int], seed: int):
    entries = [{"timestamp": 0, "input_length": length, "output_length": 1} for length in lengths]
    counter = Words(tokens)
    found = sampled(tmp_path_factory.getbasetemp(), jsonl(entries), counter, seed)
    short = 5 if tokens is len else 4  # a word of three characters and the tokenizer's own token
    for request, length in zip(found.requests, lengths, strict=True):
        assert counter.count(request.prompt, special=True) == request.prompt_tokens
        assert length < short or request.prompt_tokens == length
        assert request.prompt == request.prompt.strip()


def test_without_a_tokenizer_a_token_is_four_characters(tmp_path: Path):
    found = sampled(tmp_path, jsonl(MOONCAKE))
    assert [len(request.prompt) + 1 for request in found.requests] == [4 * 6955, 4 * 6472, 4 * 40, 4 * 700]
    assert {request.prompt_tokens for request in found.requests} == {None}
    assert "No tokenizer: prompts have 4 characters for each token" in found.notes[0]


def test_what_cannot_be_made_exact_is_said(tmp_path: Path):
    found = sampled(tmp_path, jsonl([{"timestamp": 0, "input_length": 1, "output_length": 1}]), Words())
    assert found.requests[0].prompt_tokens == 2
    assert found.notes[0].startswith("1 of 1 prompts could not be made exactly as long")


def shared_words(one: str, other: str) -> int:
    pairs = zip(one.split(), other.split(), strict=False)
    return sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], pairs))


@pytest.mark.parametrize("counter", [Words(), None])
def test_equal_hash_ids_are_equal_text_and_nothing_else_is(tmp_path: Path, counter: Words | None):
    first, second, third, fourth = (request.prompt for request in sampled(tmp_path, jsonl(MOONCAKE), counter).requests)
    assert shared_words(first, second) == 12 * 512
    assert max(shared_words(one, other) for one, other in [(first, third), (first, fourth), (third, fourth)]) < 3


def test_a_block_s_size_is_the_trace_s(tmp_path: Path):
    entries = [{"timestamp": 0, "input_length": 40, "output_length": 1, "hash_ids": [7, 8, n]} for n in (1, 2)]
    one, other = (request.prompt for request in sampled(tmp_path, jsonl(entries), block_tokens=16).requests)
    assert shared_words(one, other) == 32


def test_prompts_without_hash_ids_share_no_beginning(tmp_path: Path):
    entries = [{"timestamp": i, "input_length": 20, "output_length": 1} for i in range(400)]
    prompts = [request.prompt for request in sampled(tmp_path, jsonl(entries), Words()).requests]
    assert len({tuple(prompt.split()[:3]) for prompt in prompts}) == 400


def test_the_seed_decides_the_words_and_nothing_else(tmp_path: Path):
    one, same, other = (sampled(tmp_path, jsonl(MOONCAKE), Words(), seed) for seed in (1, 1, 2))
    assert one == same
    assert one.requests[0].prompt.split()[:3] != other.requests[0].prompt.split()[:3]
    assert one.recorded_ns == other.recorded_ns


def test_num_prompts_takes_the_trace_s_beginning_and_says_where_there_are_fewer(tmp_path: Path):
    found = sampled(tmp_path, jsonl(MOONCAKE), num_prompts=2)
    assert [request.id for request in found.requests] == ["trace-1", "trace-2"]
    assert len(found.recorded_ns) == 2
    assert sampled(tmp_path, jsonl(MOONCAKE), num_prompts=9).notes[-1] == "Only 4 of 9 prompts: the trace has no more."


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is empty"),
        ("\n \n", "is empty"),
        ("Timestamp,Request tokens,Response tokens\n", "has no request"),
        ("Timestamp,Request tokens,Response tokens\n1,5,0\n", "has no request"),
        ("Timestamp,Request tokens,Response tokens\n5,1,1\n4.5,1,1\n", "line 3: its time is 0.5 s before"),
        ("Timestamp,Request tokens,Response tokens\n5,-1,1\n", "line 2: Request tokens is '-1'; it must be a count"),
        ("Timestamp,Request tokens,Response tokens\n5,1,many\n", "line 2: Response tokens is 'many'"),
        ("Timestamp,Request tokens,Response tokens\n5,1.5,2\n", "line 2: Request tokens is '1.5'"),
        ("Timestamp,Request tokens,Response tokens\nnan,1,2\n", "line 2: Timestamp is 'nan', which is not a number"),
        ("Time,Tokens\n1,2\n", "line 2: its columns are time, tokens.\nA trace has timestamp (in ms), input_length"),
        ("Timestamp,Request tokens,Response tokens\n5,1\n", "line 2: its columns are timestamp, request tokens."),
        ('{"timestamp": 1, "input_length": 3}', "or Timestamp (in s), Request tokens, Response tokens"),
        ('{"timestamp": 1, "input_length": true, "output_length": 1}', "line 1: input_length is true"),
        ('{"timestamp": "x", "input_length": 1, "output_length": 1}', "line 1: timestamp is 'x'"),
        ('{"timestamp": 1, "input_length": 1, "output_length": 1}\n{"tim', "line 2 is not JSON"),
        ("[1, 2]\n", "line 1 is not a JSON object"),
        ('{"timestamp": 1, "input_length": 9, "output_length": 1, "hash_ids": ["a"]}', "hash_ids must be a list"),
        (
            '{"timestamp": 1, "input_length": 999, "output_length": 1, "hash_ids": [1, 2, 3]}',
            "line 1: 3 hash_ids cannot",
        ),
    ],
)
def test_a_trace_that_is_no_good_is_refused_with_its_line(tmp_path: Path, text: str, said: str):
    path = tmp_path / "trace"
    path.write_text(text)
    with pytest.raises(DatasetUnusable) as caught:
        TraceFile(Trace(str(path)))
    assert said in str(caught.value)
    assert str(path) in str(caught.value)


def test_a_file_that_is_not_there_or_no_text_is_refused(tmp_path: Path):
    with pytest.raises(DatasetUnusable, match="there is no data set"):
        TraceFile(Trace(str(tmp_path / "nowhere")))
    with pytest.raises(DatasetUnusable, match="is not text"):
        list(rows(b"\xff\xfe\x00", "t"))


def test_a_last_part_of_a_block_may_have_no_hash_id(tmp_path: Path):
    entry = {"timestamp": 1, "input_length": 999, "output_length": 1, "hash_ids": [1]}
    assert sampled(tmp_path, jsonl([entry]), Words()).requests[0].prompt_tokens == 999


def test_lines_behind_those_that_are_used_are_not_looked_at(tmp_path: Path):
    assert len(sampled(tmp_path, jsonl(MOONCAKE[:2]) + "garbage", num_prompts=2).requests) == 2


def test_a_row_keeps_its_line():
    assert next(rows(b"\n" + jsonl(MOONCAKE[3:]).encode(), "t")) == TraceRow(2, 4_100_500_000, 700, 8, (9, 10))
