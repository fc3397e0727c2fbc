"""A study file that was made to exhaust whoever reads it is refused, with the reason, before it is loaded."""

import pytest

from inferometer.base.errors import SpecInvalid
from inferometer.core.spec_file import parse

GOOD = "arms: {a: {engine: external, url: 'http://h'}}\n"


def refused(problem: str, text: str) -> None:
    with pytest.raises(SpecInvalid, match=problem):
        parse(text, "study.yaml")


def test_a_billion_laughs_are_counted_and_not_told():
    levels = "\n".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 10))
    refused("more than 20,000 values", f"a0: &a0 [lol, lol]\n{levels}\n{GOOD}")


def test_merge_keys_are_counted_too():
    levels = "\n".join(f"m{n}: &m{n} {{<<: [{', '.join([f'*m{n - 1}'] * 9)}]}}" for n in range(1, 10))
    refused("more than 20,000 values", f"m0: &m0 {{a: 1}}\n{levels}\n{GOOD}")


def test_an_alias_inside_of_what_it_stands_for_has_no_end():
    refused("more than 20,000 values", "arms: &a [*a]")


@pytest.mark.parametrize("deep", ["[" * 100_000, "{a: " * 1000 + "}" * 1000, "- " * 1000 + "x"])
def test_deep_nesting_is_refused(deep: str):
    refused("nested more than 32 deep", deep)


def test_a_huge_file_is_refused():
    refused("larger than 1,000,000 characters", "# " + "x" * 1_000_000)


@pytest.mark.parametrize(
    "tag", ["!!python/object/apply:os.system [date]", "!!int ''", "!!timestamp x", "!mine a", "!!binary a"]
)
def test_tags_make_nothing(tag: str):
    refused("it has a tag", f"name: {tag}\n{GOOD}")


@pytest.mark.parametrize("value", ["2001-13-45", "9" * 5000, "'\x1b[31m"])
def test_a_value_that_yaml_cannot_make_is_no_yaml(value: str):
    refused("it is not valid YAML", f"name: {value}\n{GOOD}")


def test_aliases_and_merge_keys_of_a_person_are_fine():
    text = "arms:\n  a: &a {engine: external, url: 'http://h'}\n  b: *a\n  c: {<<: *a, model: m}\n"
    assert [arm.model for arm in parse(text, "s").arms.values()] == ["", "", "m"]
