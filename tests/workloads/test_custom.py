"""Files of prompts: where the prompt may stand, and what is left out."""

import json
from pathlib import Path
from typing import Any

import pytest

from inferometer.base.errors import DatasetUnusable
from inferometer.workloads.custom import Custom, CustomFile


def sampled(tmp_path: Path, entries: list[Any], **fields: Any):
    path = tmp_path / "prompts.jsonl"
    path.write_text("\n".join(json.dumps(entry) for entry in entries))
    return CustomFile(Custom(str(path), **fields)).sample(1, None)


@pytest.mark.parametrize(
    "entry",
    [
        {"prompt": "Hi"},
        {"prompt": [{"role": "user", "content": "Hi"}]},
        {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yes"}]},
        {"conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Yes"}]},
        {"turns": ["Hi", "And?"]},
        {"instruction": "Hi", "input": "", "output": "Yes"},
        {"question": "Hi"},
        {"problem": "Hi", "solution": "Yes"},
    ],
)
def test_the_prompt_is_found_in_the_forms_of_known_sets(tmp_path: Path, entry: dict[str, Any]):
    (request,) = sampled(tmp_path, [entry]).requests
    assert (request.prompt, request.max_tokens) == ("Hi", 256)


def test_a_system_message_is_kept_and_an_input_follows_its_instruction(tmp_path: Path):
    turns = [{"role": "system", "content": "Be short."}, {"role": "user", "content": "Hi"}]
    (request,) = sampled(tmp_path, [{"messages": turns}]).requests
    assert [message.role for message in request.messages] == ["system", "user"]
    assert sampled(tmp_path, [{"instruction": "Sum", "input": "1 2"}]).requests[0].prompt == "Sum\n1 2"


def test_the_length_is_the_one_asked_for_else_the_entry_s(tmp_path: Path):
    entries = [{"prompt": "Hi", "output_tokens": 7}]
    assert sampled(tmp_path, entries).requests[0].max_tokens == 7
    assert sampled(tmp_path, entries, max_tokens=9).requests[0].max_tokens == 9


def test_entries_without_a_prompt_are_left_out_and_counted(tmp_path: Path):
    empty = [{"prompt": None}, {"prompt": ""}, {"messages": [{"role": "user", "content": None}]}, {"turns": []}]
    found = sampled(tmp_path, [{"prompt": "a"}, {"prompt": "b"}, *empty], num_prompts=5)
    assert sorted(request.prompt for request in found.requests) == ["a", "b"]
    assert found.notes == (
        "4 of 6 entries have no prompt and are left out.",
        "Only 2 of 5 prompts: the file has no more.",
    )


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b'{"text_column": "Hi"}', "the fields of the first are text_column"),
        (b"PAR1\x00\x01", "is a Parquet or Arrow file"),
        (b"Hi there", "neither a JSON array nor JSONL"),
        (b"[]", "has no prompt in its 0 entries"),
    ],
)
def test_a_file_that_cannot_serve_is_refused_with_what_it_needs(tmp_path: Path, content: bytes, said: str):
    path = tmp_path / "f.jsonl"
    path.write_bytes(content)
    with pytest.raises(DatasetUnusable, match=said):
        CustomFile(Custom(str(path))).sample(1, None)


def test_an_array_is_read_as_lines_are_and_the_seed_decides_the_order(tmp_path: Path):
    path = tmp_path / "f.json"
    path.write_text(json.dumps([{"prompt": str(n)} for n in range(20)], indent=1))
    one, same, other = (CustomFile(Custom(str(path), 8)).sample(seed, None) for seed in (1, 1, 2))
    assert one == same != other
    assert (len(one.requests), len(one.spare)) == (8, 8)
