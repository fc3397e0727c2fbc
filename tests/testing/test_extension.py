"""The example extension is installed into a separate folder; its engine, workload, probe and reader work there."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).parents[2] / "examples" / "extension"
REASON = "pip or hatchling is not installed, or the examples are not there"


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment in which the package is installed."""
    pytest.importorskip("hatchling", reason=REASON)
    pytest.importorskip("pip", reason=REASON)
    if not EXAMPLE.is_dir():
        pytest.skip(REASON)
    folder = tmp_path_factory.mktemp("installed")
    offline = ("--no-deps", "--no-build-isolation", "--no-index", "--disable-pip-version-check", "--quiet")
    subprocess.run([sys.executable, "-m", "pip", "install", *offline, "--target", folder, EXAMPLE], check=True)
    return {**os.environ, "PYTHONPATH": str(folder)}


@pytest.fixture(scope="module")
def study(installed: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example's study, run through the command line."""
    folder = tmp_path_factory.mktemp("study") / "result"
    done = inferometer(installed, "run", EXAMPLE / "study.yaml", "--out", folder)
    assert done.returncode == 0, done.stderr
    return folder


def inferometer(env: dict[str, str], *words: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "inferometer", *map(str, words)], capture_output=True, text=True, env=env, check=False
    )


def without_extension(env: dict[str, str]) -> dict[str, str]:
    return {name: value for name, value in env.items() if name != "PYTHONPATH"}


def test_a_study_runs_with_its_engine_and_workload(installed: dict[str, str], study: Path):
    shown = inferometer(installed, "compare", study, "--format", "md")
    assert "slow" in shown.stdout and "fast" in shown.stdout
    assert "kind: countdown" in (study / "study.yaml").read_text()


def test_its_probe_is_sampled(installed: dict[str, str], study: Path):
    from inferometer import read_study

    assert {sample.quantity for sample in read_study(study).trials[0].samples} >= {"engine_processes"}


def test_results_are_read_where_the_package_is_not_installed(installed: dict[str, str], study: Path):
    plain = without_extension(installed)
    with_it, without_it = (inferometer(env, "compare", study, "--format", "json") for env in (installed, plain))
    assert without_it.stdout == with_it.stdout
    assert without_it.returncode == with_it.returncode == 0


def test_a_study_cannot_be_run_where_the_package_is_not_installed(installed: dict[str, str], tmp_path: Path):
    done = inferometer(without_extension(installed), "run", EXAMPLE / "study.yaml", "--out", tmp_path / "new")
    assert done.returncode == 2
    assert "workload.kind: 'countdown' is unknown" in done.stderr
    assert "arms.fast.engine: 'example-server' is unknown" in done.stderr  # all problems at once


def test_wrong_settings_of_its_workload_are_refused_with_the_nearest_name(installed: dict[str, str], tmp_path: Path):
    text = (EXAMPLE / "study.yaml").read_text().replace("start: 3", "strat: 3, num_prompt: 0")
    (tmp_path / "study.yaml").write_text(text)
    done = inferometer(installed, "run", tmp_path / "study.yaml", "--out", tmp_path / "new")
    assert done.returncode == 2
    assert "workload.strat: unknown field; did you mean 'start'?" in done.stderr
    assert "workload.num_prompt: unknown field; did you mean 'num_prompts'?" in done.stderr


def test_files_of_its_tool_are_read(installed: dict[str, str], tmp_path: Path):
    (tmp_path / "result.txt").write_text("example tool\noutput_throughput: 12.5\n")
    done = inferometer(installed, "show", tmp_path / "result.txt")
    assert "12.5" in done.stdout, done.stderr


def test_it_passes_the_contracts(installed: dict[str, str]):
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests"],
        cwd=EXAMPLE, env=installed, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
