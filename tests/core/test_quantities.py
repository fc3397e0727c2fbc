"""Names of sample quantities and facts live in `core/quantities.py` alone."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import inferometer
from inferometer.core import quantities

SOURCE = Path(inferometer.__file__).parent
MODULES = sorted(path for path in SOURCE.rglob("*.py") if path != SOURCE / "core" / "quantities.py")
NAMES = quantities.QUANTITIES.keys() | quantities.FACTS.keys()
UNMISTAKABLE = {name for name in NAMES if "_" in name}
"""Names that can hardly mean something else; `os` or `memory` count only where they name a fact."""
OTHER_MEANINGS = {("metrics/rows.py", "energy_j"), ("metrics/row_inputs.py", "energy_j")}
"""A metric of the result tables has the same name as a quantity."""


def bare_names(module: Path, code: str) -> Iterator[str]:
    """Each literal of `code` that names a quantity or a fact, with its line."""
    tree = ast.parse(code)
    docstrings = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    where = module.as_posix()
    for node in ast.walk(tree):
        match node:
            case ast.Constant(value=str(name)) if name in UNMISTAKABLE and id(node) not in docstrings:
                if (where, name) not in OTHER_MEANINGS:
                    yield f"{where}:{node.lineno}: {name}"
            case _:
                pass
        for literal in _literals_that_name(node):
            yield f"{where}:{literal.lineno}: {ast.unparse(literal)}"


def _literals_that_name(node: ast.AST) -> Iterator[ast.expr]:
    """Text where only a name of the registry belongs: in Fact(…), Sample(…), comparisons with them, and `facts[…]`."""
    places: list[ast.expr] = []
    match node:
        case ast.Call(func=ast.Name(id="Fact"), args=[name, *_]):
            places = [name]
        case ast.Call(func=ast.Name(id="Sample"), args=[_, _, name, *_]):
            places = [name]
        case ast.Compare(left=ast.Attribute(value=ast.Name(id="fact"), attr="name"), comparators=others):
            places = others
        case ast.Compare(left=ast.Attribute(attr="quantity"), comparators=others):
            places = others
        case ast.Subscript(value=ast.Name(id="facts"), slice=name):
            places = [name]
        case ast.Call(func=ast.Attribute(value=ast.Name(id="facts"), attr="get"), args=[name, *_]):
            places = [name]
        case _:
            pass
    for place in places:
        parts = place.elts if isinstance(place, ast.Tuple | ast.Set | ast.List) else [place]
        yield from (part for part in parts if isinstance(part, ast.JoinedStr) or _is_text(part))


def _is_text(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str)


def test_no_other_module_writes_the_name_of_a_quantity_or_fact():
    found = [line for path in MODULES for line in bare_names(path.relative_to(SOURCE), path.read_text())]
    assert found == []


@pytest.mark.parametrize(
    "code",
    [
        'x = "pss_bytes"',
        'Fact("os", value, source)',
        'Fact(f"gpu_{i}", value, source)',
        'Sample(at_ns, source, "fan_speed", 1.0)',
        '[s for s in samples if s.quantity == "fan_speed"]',
        'fact.name in ("cpu", "colour")',
        'facts["cpu"]',
        'facts.get("cpu")',
    ],
)
def test_a_bare_name_is_found(code):
    assert list(bare_names(Path("probes/new.py"), code))


def test_a_docstring_and_other_text_may_hold_the_words():
    assert list(bare_names(Path("probes/new.py"), '"""pss_bytes"""\nx = {"os": 1, "colour": "memory"}')) == []


def test_every_name_has_a_meaning():
    definitions = [*quantities.QUANTITIES.values(), *quantities.FACTS.values()]
    assert all(definition.meaning for definition in definitions)


@pytest.mark.parametrize(
    ("name", "stored"),
    [
        (quantities.gpu_fact(1), "gpu_1"),
        (quantities.absent_fact(quantities.POWER_W), "no_power_w"),
        (quantities.absent_fact("nvidia memory"), "no_nvidia_memory"),
        (quantities.interval_fact("process memory"), "process_memory_every_s"),
        (quantities.model_fact("draft", "head_sha256"), quantities.DRAFT_HEAD_SHA256),
        (quantities.spec_log_fact("draft_ms"), quantities.SPEC_LOG_DRAFT_MS),
        (quantities.load_fact("cpu_percent"), "load_cpu_percent"),
    ],
)
def test_the_names_of_a_family_are_those_of_older_studies(name, stored):
    assert name == stored
