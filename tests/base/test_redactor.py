import pytest

from inferometer.base.redactor import Redactor, header_secrets

ONE = Redactor.of(["sesame-2"])


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a sesame-2, b sesame-2", "a ***, b ***"),
        ("the key sesame", "the key ***"),  # an excerpt that ends within the secret
        ("no secret, 3", "no secret, 3"),
    ],
)
def test_a_secret_is_replaced_wherever_it_occurs(text: str, shown: str):
    assert ONE.redact(text) == shown


def test_a_secret_that_contains_another_is_replaced_whole():
    assert Redactor.of(["sesame", "sesame-of-all"]).redact("x sesame-of-all y sesame z") == "x *** y *** z"


def test_each_of_several_keys_with_commas_is_a_secret():
    assert Redactor.of(["sesame-1,sesame-2"]).redact("sesame-2 and sesame-1") == "*** and ***"


def test_short_values_leave_ordinary_words_alone():
    assert Redactor.of(["on"]).redact("on and on") == "on and on"


def test_further_values_are_added_to_the_known_ones():
    assert ONE.with_values(["sesame-3"]).redact("sesame-2, sesame-3.") == "***, ***."
    assert ONE.redact("sesame-3.") == "sesame-3."


def test_header_values_are_secret_with_and_without_their_scheme_and_decoded():
    assert header_secrets(["Bearer sesame-1"]) == {"Bearer sesame-1", "sesame-1"}
    assert header_secrets(["Basic bWU6c2VzYW1lLTE="]) >= {"me:sesame-1", "sesame-1"}
