"""Lower bounds of pyproject.toml: installs exactly these versions and runs a smoke test (`make check-lower-bounds`).

The environment is `.lower-bounds/`. `uv` is used if it is on PATH, else `venv` and `pip`. The extra `ray` is left out:
its download is large, and its tests run with the locked version.
"""

import shutil
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[1]
ENVIRONMENT = ROOT / ".lower-bounds"
EXTRAS = ("parquet", "plot")
STUDY = """\
name: smoke test of the lower bounds
workload: {kind: builtin, num_prompts: 2, max_tokens: 8}
trials: 2
arms:
  baseline: {engine: embedded, model: "standin:tiny", context: 2048, threads: 1}
  draft: {base: baseline, draft: {model: "standin:tiny", n_max: 4}}
"""
ALLOWED_EXIT_CODES = (0, 3)
"""3: the comparison of so small a study may be invalid, which is not a failure here."""


def lower_bounds(project: dict) -> list[str]:
    """Each dependency pinned to its lower bound. Raises ValueError if one has none, or more than one."""
    texts = [*project["dependencies"], *(text for extra in EXTRAS for text in project["optional-dependencies"][extra])]
    pinned: list[str] = []
    for requirement in map(Requirement, texts):
        bounds = [each.version for each in requirement.specifier if each.operator == ">="]
        if len(bounds) != 1:
            raise ValueError(f"pyproject.toml: {requirement} needs one lower bound (`>=`), and has {len(bounds)}.")
        extras = f"[{','.join(sorted(requirement.extras))}]" if requirement.extras else ""
        pinned.append(f"{requirement.name}{extras}=={bounds[0]}")
    return pinned


def install(pinned: list[str], build: list[str]) -> None:
    """Makes ENVIRONMENT with the pinned packages, the build requirements and this project."""
    python = ENVIRONMENT / "bin" / "python"
    shutil.rmtree(ENVIRONMENT, ignore_errors=True)
    if uv := shutil.which("uv"):
        _run([uv, "venv", "--quiet", "--python", sys.executable, str(ENVIRONMENT)])
        pip = [uv, "pip", "install", "--quiet", "--python", str(python)]
    else:
        _run([sys.executable, "-m", "venv", str(ENVIRONMENT)])
        pip = [str(python), "-m", "pip", "install", "--quiet"]
    _run([*pip, "--only-binary", ":all:", *pinned, *build])
    _run([*pip, "--no-deps", "--no-build-isolation", "-e", str(ROOT)])


def smoke_test() -> None:
    """Runs the commands that use each dependency. Raises SystemExit at the first failure."""
    program = str(ENVIRONMENT / "bin" / "inferometer")
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        (folder / "study.yaml").write_text(STUDY, encoding="utf-8")
        for words in (
            "--help",
            "doctor",
            "run study.yaml --out study --quiet",
            "compare study --format md",
            "compare study --json",
            "report study -o page.html",
            "plot study -o picture.png",
            "export study -o requests.parquet",
            "export study -o study.zip",
            "show study.zip",
            "list .",
        ):
            _run([program, *words.split()], folder, ALLOWED_EXIT_CODES)


def _run(command: list[str], folder: Path = ROOT, allowed: tuple[int, ...] = (0,)) -> None:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    print(f"{'ok    ' if done.returncode in allowed else 'FAILED'} {' '.join(command[:6])}", flush=True)
    if done.returncode not in allowed:
        sys.exit(f"exit status {done.returncode}\n{done.stdout}{done.stderr}")


def main() -> None:
    content = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    pinned = lower_bounds(content["project"])
    print("\n".join(pinned), flush=True)
    install(pinned, content["dependency-groups"]["build"])
    smoke_test()


if __name__ == "__main__":
    main()
