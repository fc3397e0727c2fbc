"""The locks: held against pyproject.toml without a network, and audited honestly."""

import importlib.util
import json
from pathlib import Path
from types import ModuleType

import pytest


def tool(name: str) -> ModuleType:
    found = importlib.util.spec_from_file_location(name, Path(__file__).parents[2] / "tools" / f"{name}.py")
    assert found is not None and found.loader is not None
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


PROJECT = {
    "project": {
        "dependencies": ["numpy>=2", "msgspec[yaml]"],
        "optional-dependencies": {"ray": ["ray; os_name == 'x'"]},
    },
    "dependency-groups": {"build": ["hatchling>=1.27"], "dev": ["pytest"]},
}
HASH = f" \\\n    --hash=sha256:{'0' * 64}\n    # via inferometer\n"
BASE = f"numpy==2.1{HASH}msgspec==1.0 ; python_version < '4'{HASH}hatchling==1.27{HASH}"
GOOD = {"base": BASE, "dev": f"{BASE}pytest==8{HASH}", "ray": f"{BASE}ray==2{HASH}"}


def test_the_locks_of_this_project_match():
    assert tool("check_lock").main() == 0


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, None),
        (
            {"base": BASE.replace("numpy==2.1", "numpy==1.9"), "dev": GOOD["dev"].replace("y==2.1", "y==1.9")},
            "numpy>=2",
        ),
        ({"dev": BASE}, "dev.txt has no pytest"),
        ({"base": BASE.replace(HASH, "\n", 1)}, "numpy 2.1 has no hash"),
        ({"dev": GOOD["dev"].replace("msgspec==1.0", "msgspec==1.1")}, "other versions of msgspec"),
        ({"dev": f"{GOOD['dev']}requests>=2{HASH}"}, "this line pins nothing"),
        ({"ray": None}, "ray.txt is missing"),
    ],
)
def test_a_lock_that_does_not_match_is_reported(changes: dict[str, str | None], said: str | None):
    locks = {name: text for name, text in (GOOD | changes).items() if text is not None}
    found = tool("check_lock").problems(PROJECT, locks)
    assert found == [] if said is None else any(said in problem for problem in found)


def test_an_audit_that_could_not_ask_does_not_say_that_all_is_well():
    said_of = tool("audit").said_of
    skipped = [{"name": "a", "skip_reason": "Dependency not found"}]
    known = [{"name": "a", "version": "1", "vulns": [{"id": "PYSEC-1", "fix_versions": ["2"]}]}]
    sound = [{"name": "a", "version": "1", "vulns": []}]
    assert said_of("", "ConnectionError: no way") == (
        "not audited, pip-audit could not ask: ConnectionError: no way",
        False,
    )
    assert said_of(json.dumps({"dependencies": skipped}), "")[0].startswith("not audited")
    assert said_of(json.dumps({"dependencies": sound}), "") == (
        "1 of 1 packages audited, 0 known vulnerabilities",
        False,
    )
    assert said_of(json.dumps({"dependencies": known}), "") == (
        "1 of 1 packages audited, 1 known vulnerabilities\n  a 1: PYSEC-1; mended in 2",
        True,
    )
