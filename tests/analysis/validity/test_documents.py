"""docs/reference/validity.md names every finding of the source with its severities, and every bound with its value."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import inferometer
from inferometer.analysis import thresholds

SOURCE = Path(inferometer.__file__).parent
DOCUMENT = (Path(__file__).parents[3] / "docs" / "reference" / "validity.md").read_text()
ROWS = set(re.findall(r"^- `([a-z-]+)` \((invalid|warning|note)\): ", DOCUMENT, re.MULTILINE))
SEVERITIES = ("invalid", "warning", "note")


def _made() -> Iterator[tuple[set[str], str]]:
    """Severities and code of every call of `Finding(…)` and `….finding(…)` with a code in it."""
    texts = [path.read_text() for path in sorted(SOURCE.rglob("*.py"))]
    for text in texts:
        if "finding(" not in text.lower():
            continue  # each worker of pytest reads all of the source when it collects the tests
        for node in ast.walk(ast.parse(text)):
            if not isinstance(node, ast.Call) or len(node.args) < 3 or not isinstance(node.args[1], ast.Constant):
                continue
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if name in ("finding", "Finding"):
                inside = {part.value for part in ast.walk(node.args[0]) if isinstance(part, ast.Constant)}
                yield {word for word in inside if word in SEVERITIES}, str(node.args[1].value)


MADE = list(_made())


def test_the_source_makes_findings():
    assert {"draft-not-used", "failures", "client", "worker-lost", "memory-kind"} <= {code for _, code in MADE}


@pytest.mark.parametrize("code", sorted({code for _, code in MADE}))
def test_every_finding_of_the_source_is_in_the_document_with_its_severity(code):
    told = {severity for row, severity in ROWS if row == code}
    assert told, f"docs/reference/validity.md has no line of {code}"
    assert {severity for severities, own in MADE if own == code for severity in severities} <= told


def test_the_document_has_no_finding_that_nothing_makes():
    assert {code for code, _ in ROWS} == {code for _, code in MADE}


@pytest.mark.parametrize("name", sorted(name for name in vars(thresholds) if name.isupper()))
def test_every_bound_is_named_in_the_document_with_its_value(name):
    value = getattr(thresholds, name)
    assert f"`{name}`" in DOCUMENT
    if isinstance(value, dict):
        return
    (said,) = set(re.findall(rf"(half|[\d.]+)%?(?: ms| s)? \(`{name}`\)", DOCUMENT))
    number = 0.5 if said == "half" else float(said)
    assert value in (pytest.approx(number), pytest.approx(number / 100))
