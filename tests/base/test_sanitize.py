from hypothesis import given
from hypothesis import strategies as st

from inferometer.base.text import sanitize, sanitize_lines


def test_escape_sequences_go_whole_and_other_controls_become_blanks():
    assert sanitize("\x1b[31mred\x1b[0m \x1b]0;title\x07on\x1b]8;;http://x\x1b\\link\x9b2J") == "red onlink"
    assert sanitize("a\x00b\r\nc\x7f\x85d") == "a b  c  d"
    assert sanitize("\x1b") == ""
    assert sanitize("50% \x1b[") == "50%"


def test_bidi_controls_and_invisible_characters_are_blanks_and_other_scripts_stay():
    assert sanitize("user\u202egnp.exe\u2066x\u200b\u2028y\ufeffz\ue000") == "user gnp.exe x  y z"
    assert sanitize("naïve 模型 модель שלום") == "naïve 模型 модель שלום"


def test_a_long_text_is_cut_and_says_so():
    assert sanitize("abcdef", most=6) == "abcdef"
    assert sanitize("abcdefg", most=6) == "abcdef …"
    assert sanitize("a" * 10_000_000, most=3) == "aaa …"
    assert sanitize(" " * 100 + "b", most=3).endswith("…")


def test_lines_stay_lines():
    assert sanitize_lines("one\ttwo\r\n\x1b[1mthree\x1b[0m  \n\u202efour") == "one two\nthree\n four"


@given(st.text())
def test_what_is_harmless_is_printable_and_stays_as_it_is(text: str):
    found = sanitize(text, most=20)
    assert found.isprintable()
    assert len(found) <= 22
    assert sanitize(found, most=22) == found
    assert all(line.isprintable() for line in sanitize_lines(text).split("\n"))
