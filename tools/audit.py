"""Known vulnerabilities of the locked packages (`make audit`): pip-audit over requirements/*.txt.

It queries a service on the network. A package without an answer is reported as not audited, which is not a failure: a
mirror without this service answers for no package, and pip-audit alone would then report success.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
_SITE = ROOT / ".audit" / "site"


def said_of(report: str, complaint: str) -> tuple[str, bool]:
    """What a run of pip-audit showed, by its JSON and by its standard error; whether it found something."""
    try:
        packages = json.loads(report)["dependencies"]
    except (ValueError, KeyError):
        lines = complaint.strip().splitlines() or ["pip-audit said nothing"]
        return f"not audited, pip-audit could not ask: {lines[-1][:300]}", False
    asked = [package for package in packages if "skip_reason" not in package]
    bad = [(package, found) for package in asked for found in package.get("vulns", [])]
    lines = [f"{len(asked)} of {len(packages)} packages audited, {len(bad)} known vulnerabilities"]
    if not asked:
        lines = [f"not audited: the service knows none of {len(packages)} packages, or cannot be reached"]
    for package, found in bad:
        mended = ", ".join(found.get("fix_versions") or []) or "no version yet"
        lines.append(f"  {package['name']} {package['version']}: {found['id']}; fixed in {mended}")
    return "\n".join(lines), bool(bad)


def main() -> int:
    worst = 0
    for path in sorted((ROOT / "requirements").glob("*.txt")):
        command = [sys.executable, "-m", "pip_audit", "--disable-pip", "--require-hashes", "--format", "json"]
        done = subprocess.run(
            [*command, "--progress-spinner", "off", "-r", str(path), *sys.argv[1:]],
            env={**os.environ, "PYTHONPATH": str(_SITE)},
            capture_output=True,
            text=True,
            check=False,
        )
        said, bad = said_of(done.stdout, done.stderr)
        print(f"{path.relative_to(ROOT)}: {said}")
        worst |= bad
    return int(worst)


if __name__ == "__main__":
    sys.exit(main())
