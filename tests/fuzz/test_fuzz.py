"""Nothing that strangers wrote breaks what reads it: the kept corpus, and small changes of it by hypothesis.

`make fuzz` goes on where this ends: the same targets, guided by what their code does.
"""

import importlib
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parent))
targets = importlib.import_module("targets")  # as tools/fuzz.py does
sys.path.pop(0)

CASES = [(name, path) for name in targets.TARGETS for path in sorted((targets.CORPUS / name).iterdir())]
LINES = [
    b"",
    b"\n\n",
    b"\r",
    b"data: ",
    b'"',
    b"[[",
    b"{",
    b"}",
    b"0",
    b"-1",
    b"1e400",
    b"9" * 30,
    b"\\ud800",
    b"\xff\xfe",
    b": ",
    b"&a *a",
]


@pytest.mark.parametrize(("name", "path"), CASES, ids=[f"{name}-{path.name}" for name, path in CASES])
def test_what_is_kept_is_no_find_any_more(name: str, path: Path):
    targets.run(name, path.read_bytes())


@st.composite
def changed(draw: st.DrawFn, name: str) -> bytes:
    """A seed with some pieces taken out, put in, or replaced."""
    data = bytearray(draw(st.sampled_from(targets.seeds(name))))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(data)))
        gone = draw(st.integers(0, 8))
        data[at : at + gone] = draw(st.sampled_from(LINES) | st.binary(max_size=8))
    return bytes(data)


@pytest.mark.parametrize("name", targets.TARGETS)
def test_changed_bytes_end_in_a_result_or_in_an_error_that_a_user_is_told(name: str):
    @settings(max_examples=60, database=None)
    @given(changed(name) | st.binary(max_size=200))
    def holds(data: bytes) -> None:
        targets.run(name, data)

    holds()


@pytest.mark.parametrize("name", ["sse", "stream", "answer"])
def test_a_line_without_an_end_is_read_in_one_go(name: str):
    """In pieces of one byte, a reader that looks at all of it again with every piece would take 10^12 steps."""
    targets.run(name, b"\x00\x00\x00\x00data: " + b"x" * 2_000_000)


def test_the_kept_corpus_is_small():
    assert sum(path.stat().st_size for path in targets.CORPUS.rglob("*") if path.is_file()) < 300_000
