"""`--fail-if`: a condition holds if the interval excludes everything smaller."""

import pytest

from inferometer.analysis.comparison import Comparison, ComparisonRow, Difference, Estimate
from inferometer.analysis.gates import gate_results, parse_gate

UNKNOWN = Estimate(None, None, None, 0)


def compared(low: float | None, high: float | None, better: str | None = "higher") -> Comparison:
    found = Difference("b", "a", low_percent=low, high_percent=high, verdict="" if low is None else "inconclusive")
    row = ComparisonRow("m", "M", "x", better, {"a": UNKNOWN, "b": UNKNOWN}, (found,))  # type: ignore[arg-type]  # a word
    return Comparison(("a", "b"), (row,), {"a": 3, "b": 3})


@pytest.mark.parametrize(
    ("text", "low", "high", "better", "state"),
    [
        ("m slower 2%", -9.0, -3.0, "higher", "holds"),
        ("m slower 2%", -9.0, -1.0, "higher", "open"),
        ("m slower 2%", -1.0, 5.0, "higher", "does not hold"),
        ("m slower than 2 %", 3.0, 9.0, "lower", "holds"),
        ("m faster 2", 3.0, 9.0, "higher", "holds"),
        ("m worse 2%", 3.0, 9.0, "lower", "holds"),
        ("m better 2%", 3.0, 9.0, "lower", "does not hold"),
        ("m more 2%", 3.0, 9.0, None, "holds"),
        ("m less 2.5%", -9.0, -2.5, None, "holds"),
        ("m less 2%", None, None, None, "open"),
        ("other more 2%", 3.0, 9.0, None, "open"),
    ],
)
def test_the_interval_decides(text: str, low: float | None, high: float | None, better: str | None, state: str):
    (result,) = gate_results(parse_gate(text), compared(low, high, better))
    assert result.state == state


@pytest.mark.parametrize("text", ["m", "m slower", "m slower x%", "slower 2%", "m bigger 2%", "m slower -2%"])
def test_anything_else_is_refused_with_an_example(text: str):
    with pytest.raises(ValueError, match="output_throughput slower 2%"):
        parse_gate(text)


def test_slower_needs_a_metric_with_a_better_direction():
    with pytest.raises(ValueError, match="use `more` or `less`"):
        gate_results(parse_gate("m slower 2%"), compared(1.0, 2.0, None))
