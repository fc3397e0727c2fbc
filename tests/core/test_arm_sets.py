"""`matrix:`: every combination of settings as an arm, and names made of what differs."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferometer.base.errors import SpecInvalid
from inferometer.core.arm_sets import MOST_NAME_CHARS, distinct_names, with_setting
from inferometer.core.spec_file import parse, to_yaml

STUDY = "arms: {a: {engine: embedded, model: m.gguf, args: [-ub, 64, -fa, on]}}\n"


def arms(matrix: str):
    return parse(STUDY + matrix, "study").arms


def test_a_matrix_makes_an_arm_of_each_combination_named_by_its_settings():
    made = arms("matrix: {threads: [1, 2], args.-ub: [128, 512]}")
    assert list(made) == ["threads 1, -ub 128", "threads 1, -ub 512", "threads 2, -ub 128", "threads 2, -ub 512"]
    assert [(arm.threads, arm.args) for arm in made.values()] == [
        (threads, ("-ub", size, "-fa", "on")) for threads, size in itertools.product((1, 2), ("128", "512"))
    ]


def test_excluded_combinations_are_left_out_also_by_some_of_their_settings():
    made = arms("matrix: {threads: [1, 2], context: [256, 512]}\nexclude: [{threads: 1, context: 256}, {context: 512}]")
    assert [(arm.threads, arm.context) for arm in made.values()] == [(2, 256)]


def test_several_arms_each_have_the_matrix_and_keep_their_name():
    text = "arms: {a: {engine: embedded, model: m.gguf}, b: {base: a, context: 64}}\nmatrix: {threads: [1, 2]}"
    assert list(parse(text, "study").arms) == ["a, threads 1", "a, threads 2", "b, threads 1", "b, threads 2"]


@pytest.mark.parametrize(
    ("matrix", "says"),
    [
        ("matrix: {thread: [1]}", "did you mean 'threads'?"),
        ("matrix: {threads: 1}", "matrix.threads: needs a list of values"),
        ("matrix: {threads: []}", "matrix.threads: needs a list of values"),
        ("matrix: [1]", "matrix: must be a mapping from settings to lists of values"),
        ("exclude: [{threads: 1}]", "matrix: must be a mapping"),
        ("matrix: {threads: [1]}\nexclude: {threads: 1}", "exclude: must be a list of mappings"),
        ("matrix: {threads: [1]}\nexclude: [{thread: 1}]", "exclude: 'thread' is not in the matrix"),
        ("matrix: {threads: [1]}\nexclude: [{threads: 1}]", "exclude: leaves no arm"),
        ("matrix: {args.ub: [1]}", "args.ub is not a flag"),
        ("matrix: {model.x: [1]}", "model is one value and has no settings below it"),
        (f"matrix: {{threads: {list(range(1, 70))}}}", "makes 69 arms, and a study has at most 64"),
    ],
)
def test_a_wrong_matrix_is_refused_with_what_to_write(matrix: str, says: str):
    with pytest.raises(SpecInvalid, match=r"problem") as caught:
        arms(matrix)
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("words", "path", "value", "expected"),
    [
        (["-t", "1", "-fa", "on"], "args.-t", 4, ["-t", 4, "-fa", "on"]),
        (["-t=1"], "args.-t", 4, ["-t", 4]),
        (["-fa", "on"], "args.-t", 4, ["-fa", "on", "-t", 4]),
        (["--no-mmap", "-t", "1"], "args.--no-mmap", None, ["-t", "1"]),
        (["-t", "1"], "args.--no-mmap", True, ["-t", "1", "--no-mmap"]),
        (["-n", "-1", "-t", "2"], "args.-n", 5, ["-n", 5, "-t", "2"]),
    ],
)
def test_a_flag_is_replaced_where_it_stands_added_or_removed(
    words: list[str], path: str, value: object, expected: list[object]
):
    assert with_setting({"args": words}, path, value)["args"] == expected


@given(st.lists(st.lists(st.text("ab-/ ", max_size=12), max_size=4), min_size=1, max_size=6))
def test_names_differ_are_short_and_never_empty(parts: list[list[str]]):
    names = distinct_names(parts)
    assert len(set(names)) == len(parts)
    assert all(name.strip() and len(name) <= MOST_NAME_CHARS + 4 for name in names)


def test_long_set_ups_of_one_program_are_named_by_what_differs_between_them():
    same = ["bin/vllm", "--max-model-len 2048", "--enforce-eager"]
    draft = "--speculative-config {method: ngram}"
    names = distinct_names([same, [*same, draft], ["bin/transformers"]])
    assert names == ["bin/vllm", "bin/vllm --speculative-config {…", "bin/transformers"]


ONE = "arms: {a: {engine: embedded, threads: 2}}\n"


def test_a_ladder_makes_an_arm_of_each_file_named_by_its_quantisation():
    made = parse(ONE + "ladder: [m/x-Q8_0.gguf, m/x-Q4_K_M.gguf]", "study")
    assert {name: (arm.model, arm.threads) for name, arm in made.arms.items()} == {
        "Q8_0": ("m/x-Q8_0.gguf", 2),
        "Q4_K_M": ("m/x-Q4_K_M.gguf", 2),
    }
    assert parse(to_yaml(made), "stored") == made
    assert list(parse(ONE + "ladder: [big.gguf, small.gguf]", "study").arms) == ["big", "small"]


@pytest.mark.parametrize(
    ("ladder", "message"),
    [
        ("[a.gguf]", "two or more different model files"),
        ("[a.gguf, b.gguf, a.gguf]", "has a file twice"),
        ("{a: b}", "two or more"),
    ],
)
def test_a_ladder_that_cannot_be_made_is_refused(ladder: str, message: str):
    with pytest.raises(SpecInvalid, match=message):
        parse(f"{ONE}ladder: {ladder}", "study")


def test_a_ladder_needs_one_arm():
    with pytest.raises(SpecInvalid, match="needs one arm"):
        parse("arms: {a: {engine: embedded}, b: {engine: embedded}}\nladder: [a.gguf, b.gguf]", "study")
