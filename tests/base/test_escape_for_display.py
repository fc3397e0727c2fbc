"""Text of others, shown."""

import json
import re

from hypothesis import given
from hypothesis import strategies as st

from inferometer.base.text import escape_for_display, escape_for_json, escape_for_markdown


def test_controls_and_bidi_marks_become_visible():
    assert escape_for_display("a\x1b[31mb\x9bc\u202ed\ufeff") == "a\\x1b[31mb\\u009bc\\u202ed\\ufeff"
    assert escape_for_display("\U000e0041") == "\\U000e0041"


def test_line_breaks_stay_only_where_they_may():
    assert escape_for_display("a\nb\tc\r") == "a b c\\x0d"
    assert escape_for_display("a\nb\tc", lines=True) == "a\nb c"


def test_letters_of_any_script_stay():
    text = "naïve 模型 नमस्ते می‌خواهم 👩‍💻 ±2% — “x”"
    assert escape_for_display(text) == text


def test_markdown_shows_the_letters_themselves():
    assert escape_for_markdown("a*b* <i> [x](y) snake_case _em_ ~~s~~ &#8238;") == (
        "a\\*b\\* \\<i\\> [x]\\(y) snake_case \\_em\\_ \\~\\~s\\~\\~ \\&#8238;"
    )
    assert escape_for_markdown("# head") == "\\# head"


def test_code_stays_code_outside_of_tables():
    assert escape_for_markdown("name one (`tokenizer: *`) or ` so") == "name one (`tokenizer: *`) or \\` so"
    assert escape_for_markdown("`a|b`", cell=True) == "\\`a\\|b\\`"


@given(st.text())
def test_nothing_unseen_is_left_and_json_stays_the_same_document(text):
    shown = escape_for_display(text)
    assert escape_for_display(shown) == shown
    assert re.sub(r"[\s\u200c\u200d]", "", shown).isprintable()
    assert json.loads(escape_for_json(json.dumps(text, ensure_ascii=False))) == text
