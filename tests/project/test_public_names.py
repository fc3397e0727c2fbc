"""What `import inferometer` promises: its names, that they cost nothing until used, and docs/how-to/python.md."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

import inferometer

DOCUMENT = (Path(__file__).parents[2] / "docs" / "how-to" / "python.md").read_text()
BLOCKS = re.findall(r"^```python\n(.*?)^```", DOCUMENT, re.MULTILINE | re.DOTALL)


def python(code: str, cwd: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=cwd, capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("name", inferometer.__all__)
def test_every_public_name_is_there_and_in_the_document(name):
    assert getattr(inferometer, name) is not None
    assert f"`{name}`" in DOCUMENT


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'speed'"):
        _ = inferometer.speed  # pyright: ignore[reportAttributeAccessIssue] # it is not there


def test_importing_the_package_imports_nothing_heavy(tmp_path: Path):
    code = "import inferometer, sys; print(sorted({name.partition('.')[0] for name in sys.modules} & {heavy}))"
    heavy = {"numpy", "scipy", "msgspec", "typer", "rich", "asyncio", "sqlite3", "pyarrow"}
    assert python(code.replace("{heavy}", repr(heavy)), tmp_path) == "[]\n"


def test_compare_stays_the_function_when_the_module_of_its_name_is_imported(tmp_path: Path):
    code = "import inferometer.analysis.compare; from inferometer import compare; print(type(compare).__name__)"
    assert python(code, tmp_path) == "function\n"


def test_the_code_of_the_document_runs_as_it_stands(tmp_path: Path):
    """One block after the other, as a reader would; the study file that they name is the one shown there."""
    (study,) = re.findall(r"^```yaml\n(.*?)^```", DOCUMENT, re.MULTILINE | re.DOTALL)
    (tmp_path / "study.yaml").write_text(study)
    assert len(BLOCKS) >= 3
    said = python("\n".join(BLOCKS), tmp_path)
    assert "draft" in said
    assert (tmp_path / "results" / "study.db").is_file()
