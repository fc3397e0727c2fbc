"""Locked requirements compared with pyproject.toml, without a network (`make check-lock`).

Every requirement of pyproject.toml must be in its lock at a version that it allows. Every locked package must have
hashes. The locks must agree on versions.
"""

import re
import sys
import tomllib
from pathlib import Path
from typing import NamedTuple

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parents[1]
_PINNED = re.compile(r"([A-Za-z0-9._-]+)(?:\[[^]]*])?==([^\s;\\]+)\s*(;[^\\]*)?(.*)")


class Pin(NamedTuple):
    version: str
    hashes: int


def pins(text: str) -> dict[str, list[Pin]]:
    """Each package's versions (mostly one), by its plain name. Raises ValueError for a line that is not a pin."""
    found: dict[str, list[Pin]] = {}
    for entry in text.replace("\\\n", " ").splitlines():
        entry = entry.split(" #")[0].strip()
        if not entry or entry.startswith("#"):
            continue
        match = _PINNED.fullmatch(entry)
        if match is None:
            raise ValueError(f"this line pins nothing: {entry[:80]}")
        pin = Pin(match[2], len(re.findall(r"--hash=sha256:[0-9a-f]{64}", entry)))
        found.setdefault(canonicalize_name(match[1]), []).append(pin)
    return found


def problems(project: dict, locks: dict[str, str]) -> list[str]:
    """The mismatches, one line each. `locks`: the text of each file by its name without .txt."""
    groups, extras = project["dependency-groups"], project["project"]["optional-dependencies"]
    wanted = {
        "base": project["project"]["dependencies"] + groups["build"],
        "dev": project["project"]["dependencies"] + groups["build"] + groups["dev"],
        "ray": project["project"]["dependencies"] + extras["ray"],
        **{name: groups[name] for name in ("fuzz", "audit") if name in groups},
    }
    found: list[str] = []
    locked: dict[str, dict[str, list[Pin]]] = {}
    for name, text in locks.items():
        try:
            locked[name] = pins(text)
        except ValueError as error:
            found.append(f"requirements/{name}.txt: {error}")
    for name, requirements in wanted.items():
        have = locked.get(name)
        if have is None:
            found.append(f"requirements/{name}.txt is missing or cannot be read")
            continue
        for text in requirements:
            requirement = Requirement(text)
            versions = have.get(canonicalize_name(requirement.name), [])
            if not versions:
                found.append(f"requirements/{name}.txt has no {requirement.name}")
            found += [
                f"requirements/{name}.txt has {requirement.name} {pin.version}, and pyproject.toml wants {text}"
                for pin in versions
                if not requirement.specifier.contains(Version(pin.version), prereleases=True)
            ]
        found += [
            f"requirements/{name}.txt: {package} {pin.version} has no hash"
            for package, versions in have.items()
            for pin in versions
            if not pin.hashes
        ]
    for package, versions in locked.get("base", {}).items():
        if [pin.version for pin in locked.get("dev", {}).get(package, [])] != [pin.version for pin in versions]:
            found.append(f"requirements/base.txt and dev.txt have other versions of {package}")
    return found


def main() -> int:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    locks = {path.stem: path.read_text(encoding="utf-8") for path in (ROOT / "requirements").glob("*.txt")}
    found = problems(project, locks)
    for problem in found:
        print(problem, file=sys.stderr)
    if found:
        print("Run make lock (it needs uv), and commit what it changes.", file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
