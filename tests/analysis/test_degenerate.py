"""What counts as a broken answer, and what looks like one and is sound."""

import json

import pytest

from inferometer.analysis.degenerate import compression_ratio, defect, loop_chars
from inferometer.workloads.builtin import read

PARAGRAPH = "".join(f"word{n * 7919 % 997} " for n in range(60))  # 473 characters without a repetition of their own


@pytest.mark.parametrize(
    ("text", "how"),
    [
        ("", "empty"),
        (" \n\t", "empty"),
        ("the caf\ufffd is open", "invalid UTF-8"),
        ("\ufffd" * 30, "invalid UTF-8"),
        ("well: " + "\ufffd" * 30, "invalid UTF-8"),
        ("Here is the function.\n" + "return x\n" * 30, "loops"),
        ("the " * 40, "loops"),
        ("G" * 48, "loops"),  # what a broken kernel writes: one token, and no answer of this demo is longer
        ("@" * 200, "loops"),
        (PARAGRAPH * 4, "loops"),
        ("Sure, here it is.\n" + PARAGRAPH * 5 + PARAGRAPH[:100], "loops"),
        ("x" + "ab" * 3000, "loops"),
        (("ab" * 500 + "!") + "\nThat is all of it.", "repeats itself"),
    ],
)
def test_broken_answers(text, how):
    assert defect(text) == how


def _getters() -> str:
    names = "Name Street City Zip Country Phone Email Company Title Notes Fax Web Lang Zone Code".split()
    return "class Card {\n" + "".join(
        f"    public String get{name}() {{\n        return this.{name.lower()};\n    }}\n\n"
        f"    public void set{name}(String value) {{\n        this.{name.lower()} = value;\n    }}\n\n"
        for name in names
    )


SOUND = {
    "a word": "Yes.",
    "a number": "0000",
    "a fence": "```\nx = 1\n```",
    "rows of a JSON list": json.dumps(
        [{"id": n, "name": f"Item {n}", "price": round(n * 1.37, 2), "in_stock": n % 3 == 0} for n in range(300)],
        indent=2,
    ),
    "a markdown table": "| n | square | cube |\n| --- | --- | --- |\n"
    + "".join(f"| {n} | {n * n} | {n**3} |\n" for n in range(1, 200)),
    "a long switch": "switch (code) {\n"
    + "".join(f'    case {n}:\n        return "STATUS_{n}";\n' for n in range(100, 400))
    + "}\n",
    "inserts": "".join(
        f"INSERT INTO users (id, name, email) VALUES ({n}, 'User {n}', 'user{n}@example.com');\n" for n in range(300)
    ),
    "asserts": "".join(
        f"    assert fizzbuzz({n}) == {('Fizz' * (n % 3 == 0) + 'Buzz' * (n % 5 == 0) or n)!r}\n" for n in range(1, 90)
    ),
    "rows of HTML": "<table>\n"
    + "".join(f"  <tr><td>{n}</td><td>{n * 7}</td></tr>\n" for n in range(200))
    + "</table>",
    "a table of zeros": "```python\nTABLE = [\n" + "    0, 0, 0, 0, 0, 0, 0, 0,\n" * 16 + "]\n```\n",
    "getters and setters": _getters(),
    "a rule under a title": "Results of the run\n" + "-" * 40,
    "a character that max_tokens cut in two": "The caf\u00e9 serves cr\u00e8me br\u00fbl\ufffd\ufffd",
}


@pytest.mark.parametrize("name", SOUND)
def test_sound_text_that_repeats_a_form_is_not_broken(name):
    assert defect(SOUND[name]) == ""


@pytest.mark.parametrize("name", sorted(SOUND.keys() - {"a table of zeros"}))  # cut in its rows it looks like a loop
def test_sound_text_is_not_broken_wherever_max_tokens_cuts_it(name):
    text = SOUND[name]
    cuts = range(max(1, len(text) // 2), len(text), max(1, len(text) // 97))
    assert [cut for cut in cuts if defect(text[:cut])] == []


def test_the_recorded_answers_of_the_built_in_set_are_sound():
    answers = [entry["conversations"][1]["value"] for entry in json.loads(read())]
    assert len(answers) == 72
    assert [text for text in answers if defect(text)] == []


def test_a_loop_counts_from_its_first_piece_and_only_at_the_end():
    assert loop_chars("so: " + "abc" * 5) == 15
    assert loop_chars("so: " + "abc" * 5 + "ab") == 17
    assert loop_chars("abc" * 3) == 0  # three times may be meant
    assert loop_chars("abc" * 5 + " and then an end") == 0
    assert loop_chars("") == 0


def test_half_of_an_answer_in_a_loop_is_the_bound():
    assert defect("".join(chr(0x4E00 + n) for n in range(80)) + "ab" * 40) == ""  # 80 of 160
    assert defect("".join(chr(0x4E00 + n) for n in range(79)) + "ab" * 40) == "loops"  # 80 of 159


def test_compression_is_of_bytes_and_nothing_compresses_to_itself():
    assert compression_ratio("") == 1.0
    assert compression_ratio("a" * 10_000) > 100
    assert compression_ratio("\ud800") > 0  # half of a surrogate pair, as JSON can bring it
