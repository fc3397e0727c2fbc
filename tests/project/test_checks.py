"""The small checks of `make check`: each finds what it must find, and README keeps its promises."""

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]
URL = "https://github.com/inferometer/inferometer"


def tool(name: str) -> ModuleType:
    found = importlib.util.spec_from_file_location(name, ROOT / "tools" / f"{name}.py")
    assert found is not None and found.loader is not None
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


def test_a_repeated_class_or_module_name_is_found_and_a_private_one_allowed(tmp_path: Path):
    for place, text in {
        "a/rows.py": "class Row: ...\nclass _Inner: ...\n",
        "b/rows.py": "class _Inner: ...\n",
        "b/other.py": "from typing import Annotated\nRow = Annotated[int, 1]\n",
        "cli/rows.py": "",
        "a/__init__.py": "",
        "b/__init__.py": "",
    }.items():
        (tmp_path / place).parent.mkdir(exist_ok=True)
        (tmp_path / place).write_text(text)
    assert tool("check_names").duplicates(tmp_path) == [
        "class Row: a/rows.py, b/other.py",
        "module rows: a/rows.py, b/rows.py",
    ]


@pytest.mark.parametrize(
    ("text", "phrases"),
    [
        ("The user is told why.", ["told"]),
        ("8 of 8 answers are the same to the letter", ["to the letter"]),
        ("X is no number", ["is no X"]),
        ("X is no longer a number", []),
        ("with so many trials", ["so many"]),
        ("the notes beside it", ["beside"]),
        ("What is it?", ["docstring question"]),
        ("Report the number of trials. What next?", []),
    ],
)
def test_a_banned_phrase_is_found_in_a_docstring(text: str, phrases: list[str], tmp_path: Path, monkeypatch):
    checker = tool("check_plain_english")
    monkeypatch.setattr(checker, "ROOT", tmp_path)
    (tmp_path / "module.py").write_text(f'"""{text}"""\n')
    assert [place.phrase for place in checker.places(tmp_path / "module.py")] == phrases


def test_a_banned_phrase_is_found_in_prose_and_not_in_code(tmp_path: Path, monkeypatch):
    checker = tool("check_plain_english")
    monkeypatch.setattr(checker, "ROOT", tmp_path)
    page = tmp_path / "page.md"
    page.write_text("A good line.\n\n```\nso many\n```\n\n`so many` and\nso\nmany\n")
    assert [(place.line, place.phrase) for place in checker.places(page)] == [(7, "so many")]


def test_a_dependency_without_a_lower_bound_is_refused():
    lower_bounds = tool("check_lower_bounds").lower_bounds
    extras = {"parquet": ["pyarrow>=22"], "plot": ["resvg-py>=0.2"]}
    pinned = ["msgspec[yaml]==0.20.0", "pyarrow==22", "resvg-py==0.2"]
    assert lower_bounds({"dependencies": ["msgspec[yaml]>=0.20.0"], "optional-dependencies": extras}) == pinned
    with pytest.raises(ValueError, match="numpy needs one lower bound"):
        lower_bounds({"dependencies": ["numpy"], "optional-dependencies": extras})


def test_readme_is_short_and_its_links_are_absolute_and_lead_to_files():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    targets = re.findall(r"\]\(([^)\s]+)\)", readme)
    assert len(readme.splitlines()) <= 130
    assert targets
    assert [target for target in targets if not target.startswith(f"{URL}/blob/main/")] == []
    files = [target.removeprefix(f"{URL}/blob/main/").partition("#")[0] for target in targets]
    assert [file for file in files if not (ROOT / file).exists()] == []
    assert f'Homepage = "{URL}"' in (ROOT / "pyproject.toml").read_text(encoding="utf-8")
