from inferometer.foreign.headings import lines_with_headings


def paths(text: str) -> dict[str, tuple[str, ...]]:
    return {line.strip(): path for path, line in lines_with_headings(text)}


def test_a_line_stands_under_all_headings_above_it_that_are_further_out():
    found = paths("# All\nzero\n## One\n### Deep ##\na\n## Two\nb\n# Other\nc\n")
    assert found["zero"] == ("All",)
    assert found["a"] == ("All", "One", "Deep")
    assert found["b"] == ("All", "Two")
    assert found["c"] == ("Other",)


def test_a_comment_in_a_code_block_is_no_heading():
    found = paths("## W7900\n```sh\n# Server\nin it\n```\nbelow\n~~~~\n```\n# no heading either\n~~~~\n# End\nlast\n")
    assert found["in it"] == found["below"] == found["# no heading either"] == ("W7900",)
    assert found["last"] == ("End",)


def test_underlined_headings_are_headings_and_rules_and_tables_are_none():
    found = paths("Title\n=====\na\nPart\n----\nb\n\n---\nc\n| x |\n---\nd\n- item\n---\ne\n")
    assert found["a"] == ("Title",)
    assert found["b"] == found["c"] == found["d"] == found["e"] == ("Title", "Part")


def test_a_number_sign_without_a_blank_or_of_seven_is_no_heading():
    assert set(paths("#1 is a number\n####### seven\nx\n").values()) == {()}
