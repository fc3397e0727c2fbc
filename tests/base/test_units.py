"""Numbers as an engineer writes them."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferometer.base.units import interval_texts, uncertain_text, value_text


@pytest.mark.parametrize(
    ("value", "half", "text"),
    [
        (23.46, 12.30, "23 ±12"),
        (1103.75, 1280.03, "1100 ±1300"),
        (11.0104, 0.0071, "11.010 ±0.007"),
        (11.0104, 0.0354, "11.010 ±0.035"),
        (15.82, 7.35, "16 ±7"),
        (188.67, 17.0, "189 ±17"),
        (0.42161, 0.0004, "0.4216 ±0.0004"),
        (4.0, 0.97, "4.0 ±1.0"),
        (10.56, 760.37, "11 ±800"),  # the value keeps two digits
        (0.0, 0.5, "0.0 ±0.5"),
        (20.57, 1e-9, "20.5700"),  # six digits are enough
    ],
)
def test_the_digits_of_a_value_follow_its_interval(value, half, text):
    assert uncertain_text(value, half) == text


@pytest.mark.parametrize(
    ("percent", "low", "high", "texts"),
    [
        (17.41, 10.34, 24.97, ("17.4", "[10.3, 25.0]")),
        (-5.58, -9.16, -1.87, ("-5.6", "[-9.2, -1.9]")),
        (38.8, 24.6, 54.8, ("39", "[25, 55]")),
        (0.1, -99.3, 4413.2, ("0", "[-99, 4413]")),
        (0.1, -99.3, 14413.2, ("0", "[-99, >9999]")),
        (15.2, 0.4, 30.1, ("15", "[0.4, 30]")),  # an end that is not 0 is not written as 0
        (3.0, 3.0, 3.0, ("3.0", "[3.0, 3.0]")),
        (-0.001, -0.2, 0.2, ("0.00", "[-0.20, 0.20]")),
    ],
)
def test_the_digits_of_a_difference_follow_its_interval(percent, low, high, texts):
    assert interval_texts(percent, low, high) == texts


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (None, "ms", "n/a"),
        (343.5, "ms", "343.50"),
        (0.05, "req/s", "0.05"),
        (0.04607, "req/s", "0.0461"),
        (0.00214, "J/tok", "0.00214"),
        (23110, "tok", "23110"),
        (23111.5, "tok", "23111.5"),
        (60.04, "%", "60.0"),
    ],
)
def test_a_value_by_itself(value, unit, text):
    assert value_text(value, unit) == text


@given(st.floats(1e-6, 1e9), st.floats(1e-6, 1e9))
def test_rounding_costs_less_than_the_interval_is_wide(value, half):
    shown = uncertain_text(value, half).split(" ±")
    assert math.isclose(float(shown[0]), value, rel_tol=0.06, abs_tol=half / 2)
    if len(shown) == 2:
        assert math.isclose(float(shown[1]), half, rel_tol=0.15)
