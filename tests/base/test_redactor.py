import base64
import html
import json
import textwrap
import urllib.parse

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


KEY = "sk-Ab/9+Zz&q=77"
OCTETS = KEY.encode()
FORMS = {
    "other case": KEY.swapcase(),
    "Base64": base64.b64encode(OCTETS).decode(),
    "Base64 for addresses": base64.urlsafe_b64encode(OCTETS).decode().rstrip("="),
    "within Base64": base64.b64encode(b"user:" + OCTETS + b"zz").decode(),
    "within Base64, elsewhere": base64.b64encode(b"u:" + OCTETS).decode(),
    "Base64 on two lines": "\r\n".join(textwrap.wrap(base64.b64encode(OCTETS).decode(), 12)),
    "Base64 in JSON": base64.b64encode(OCTETS).decode().replace("/", r"\/"),
    "hex": OCTETS.hex().upper(),
    "hex with colons": OCTETS.hex(":"),
    "hex as C writes it": " ".join(f"0x{octet:02X}" for octet in OCTETS),
    "hex in a string": "".join(rf"\x{octet:02x}" for octet in OCTETS),
    "percent-encoded": urllib.parse.quote(KEY, safe=""),
    "percent-encoded in part": KEY.replace("A", "%41"),
    "percent-encoded twice": urllib.parse.quote(urllib.parse.quote(KEY, safe=""), safe=""),
    "percent-encoded as a whole": "".join(f"%{octet:02x}" for octet in OCTETS),
    "JSON": json.dumps(KEY).replace("/", r"\/")[1:-1],
    "JSON's numbers": "".join(rf"\u{ord(char):04x}" for char in KEY),
    "JSON's numbers in part, in JSON": KEY.replace("A", r"\\u0041"),
    "HTML": html.escape(KEY),
    "HTML's numbers": "".join(f"&#x{ord(char):X};" for char in KEY),
}


@pytest.mark.parametrize("form", FORMS)
def test_a_secret_is_replaced_in_each_of_its_forms(form: str):
    text = f"<{FORMS[form]}>"
    redactor = Redactor.of([KEY])
    shown = redactor.redact(text)
    assert "***" in shown
    assert len(shown) < 20  # what Base64 shares with its neighbours may stay
    assert len(redactor.mask(text)) == len(text)
    pattern = redactor.pattern()
    assert pattern is not None
    found = pattern.search(text.encode())
    assert found is not None
    assert len(found[0]) <= redactor.most_bytes


@pytest.mark.parametrize("shown", ["a local", "test, a test", "the model test-"])
def test_a_word_at_the_end_that_begins_as_a_secret_does_stays(shown: str):
    assert Redactor.of(["local-key-of-12", "test-key-123456"]).redact(shown) == shown


def test_an_excerpt_that_says_where_it_was_cut_shows_nothing_of_the_secret():
    assert Redactor.of(["sesame-of-all"]).redact("key sesa …") == "key *** …"


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
