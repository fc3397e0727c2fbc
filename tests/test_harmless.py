"""Text of others, shown."""

import json
import re

from hypothesis import given
from hypothesis import strategies as st

from inferometer.harmless import harmless, in_json, in_markdown


def test_controls_and_bidi_marks_become_visible():
    assert harmless("a\x1b[31mb\x9bc\u202ed\ufeff") == "a\\x1b[31mb\\u009bc\\u202ed\\ufeff"
    assert harmless("\U000e0041") == "\\U000e0041"


def test_line_breaks_stay_only_where_they_may():
    assert harmless("a\nb\tc\r") == "a b c\\x0d"
    assert harmless("a\nb\tc", lines=True) == "a\nb c"


def test_letters_of_any_script_stay():
    text = "naïve 模型 नमस्ते می‌خواهم 👩‍💻 ±2% — “x”"
    assert harmless(text) == text


def test_markdown_shows_the_letters_themselves():
    assert in_markdown("a*b* <i> [x](y) snake_case _em_ ~~s~~ &#8238;") == (
        "a\\*b\\* \\<i\\> [x]\\(y) snake_case \\_em\\_ \\~\\~s\\~\\~ \\&#8238;"
    )
    assert in_markdown("# head") == "\\# head"


def test_code_stays_code_outside_of_tables():
    assert in_markdown("name one (`tokenizer: *`) or ` so") == "name one (`tokenizer: *`) or \\` so"
    assert in_markdown("`a|b`", cell=True) == "\\`a\\|b\\`"


@given(st.text())
def test_nothing_unseen_is_left_and_json_stays_the_same_document(text):
    shown = harmless(text)
    assert harmless(shown) == shown
    assert re.sub(r"[\s\u200c\u200d]", "", shown).isprintable()
    assert json.loads(in_json(json.dumps(text, ensure_ascii=False))) == text
