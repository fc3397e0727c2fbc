"""The built-in coding set: what it promises, and that it stays as it is."""

import hashlib
from collections import Counter

import msgspec

from inferometer.core.workload_settings import Builtin
from inferometer.workloads.builtin import BuiltinCoding, read


def test_the_set_is_frozen():
    # A change of the set makes results before and after it incomparable: it needs a new name, not a new hash here.
    assert hashlib.sha256(read()).hexdigest() == "b54c8412b43ade37151db8e7b508f4bdcba4e1f350b3fe9dfec59ab32b070b70"


def test_the_set_has_what_it_promises():
    entries = msgspec.json.decode(read())
    assert len(entries) >= 64
    assert len({entry["language"] for entry in entries}) >= 6
    assert set(Counter(entry["task"] for entry in entries).values()) == {18}
    prompts = [entry["conversations"][0]["value"] for entry in entries]
    assert len({prompt[:30] for prompt in prompts}) == len(prompts)
    assert min(map(len, prompts)) >= 80
    assert max(map(len, prompts)) <= 3200


def test_the_seed_decides_which_and_in_what_order():
    one, same, other = (BuiltinCoding(Builtin(8, 32)).sample(seed, None) for seed in (1, 1, 2))
    assert one == same
    assert [r.id for r in one.requests] != [r.id for r in other.requests]
    assert len(one.requests) == 8
    assert {r.id for r in one.requests}.isdisjoint({r.id for r in one.spare})
    assert all(request.max_tokens == 32 and request.tags["language"] for request in one.requests)


def test_more_than_there_are_are_fewer_and_it_is_said():
    found = BuiltinCoding(Builtin(500, 32)).sample(1, None)
    assert len(found.requests) == 72
    assert "Only 72 of 500" in found.notes[0]
    assert ("dataset_sha256", hashlib.sha256(read()).hexdigest()) in found.source


def test_short_prompts_of_each_kind_are_chosen_by_their_characters():
    found = BuiltinCoding(Builtin(500, 32, max_chars=450)).sample(1, None)
    assert max(len(request.messages[0].content) for request in found.requests) <= 450
    assert len({request.tags["task"] for request in found.requests}) == 4
    assert "no more of at most 450 characters" in found.notes[0]
