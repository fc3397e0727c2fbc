"""Coverage-guided fuzzing of all readers, one target after the other, with atheris (`make fuzz`).

Each target of tests/fuzz/targets.py starts with the stored corpus and the inputs of earlier runs (.fuzz/grown/TARGET).
A find is an input that raises an unexpected exception, takes more than 10 s, or needs more than 2 GiB of memory. It is
written to .fuzz/finds/TARGET. Once fixed, move it to tests/fuzz/corpus/TARGET, which `make test` runs.
"""

import argparse
import os
import re
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FUZZ = ROOT / "tests" / "fuzz"
GROWN, FINDS = ROOT / ".fuzz" / "grown", ROOT / ".fuzz" / "finds"
MOST_INPUT_BYTES = 16_384
LIMITS = ["-timeout=10", "-rss_limit_mb=2048", f"-max_len={MOST_INPUT_BYTES}", "-print_final_stats=1", "-verbosity=1"]


def fuzz(name: str) -> None:
    """Runs one target in a separate process, which libFuzzer ends."""
    import atheris

    with atheris.instrument_imports(include=["inferometer"]):
        import targets

        for each in ("inferometer.store", "inferometer.load.framing", "inferometer.core.spec_file"):
            __import__(each)
    GROWN.joinpath(name).mkdir(parents=True, exist_ok=True)
    FINDS.joinpath(name).mkdir(parents=True, exist_ok=True)
    seconds = os.environ["FUZZ_SECONDS"]
    places = [str(GROWN / name), str(FUZZ / "corpus" / name)]
    flags = [f"-max_total_time={seconds}", f"-artifact_prefix={FINDS / name}/", *LIMITS]
    atheris.Setup([sys.argv[0], *flags, *places], lambda data: targets.run(name, data))
    atheris.Fuzz()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=60, help="for each target (60)")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    parser.add_argument("targets", nargs="*", help="which; all where none is named")
    asked = parser.parse_args()
    sys.path[:0] = [str(ROOT / "src"), str(FUZZ)]
    if asked.one:
        fuzz(asked.one)
        return 0
    names = asked.targets or sorted(path.name for path in (FUZZ / "corpus").iterdir())
    found = 0
    for name in names:
        before = set(FINDS.joinpath(name).glob("*"))
        began_s = time.monotonic()
        done = subprocess.run(
            [sys.executable, __file__, "--one", name],
            env={**os.environ, "FUZZ_SECONDS": str(asked.seconds)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=False,
        )
        said = done.stdout.decode(errors="replace")
        runs = re.findall(r"number_of_executed_units: (\d+)", said) or re.findall(r"^#(\d+)\t", said, re.MULTILINE)
        covered = re.findall(r"cov: (\d+)", said)
        new = sorted(set(FINDS.joinpath(name).glob("*")) - before)
        found += len(new) + (done.returncode != 0 and not new)
        print(
            f"{name}: {runs[-1] if runs else '0'} executions in {time.monotonic() - began_s:.0f} s, "
            f"{covered[-1] if covered else '?'} edges, {len(new)} finds",
            flush=True,
        )
        if done.returncode != 0:
            print(said[said.find("=== Uncaught") :] if "=== Uncaught" in said else said[-4000:])
        for path in new:
            print(f"  {path.relative_to(ROOT)}")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
