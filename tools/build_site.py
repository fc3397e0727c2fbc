"""Build the documentation site: the written pages, the files that they link to, the reference made from the code.

The pages lie in build/pages as they do in the repository, so that a link holds in both; build/site is the site.
"""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import reference

ROOT = Path(__file__).resolve().parents[1]
BUILD = ROOT / "build"
PAGES = BUILD / "pages"

NAV = {
    "Start": ["README.md", "docs/index.md"],
    "Tutorial": ["docs/tutorial/first-study.md", "docs/tutorial/reading-a-result.md"],
    "How to": [
        "docs/how-to/vs.md",
        "docs/how-to/two-models.md",
        "docs/how-to/two-gpus.md",
        "docs/how-to/vllm-against-llama-cpp.md",
        "docs/how-to/regression-gate.md",
        "docs/how-to/compare.md",
        "docs/how-to/report.md",
        "docs/how-to/python.md",
        "docs/how-to/order.md",
        "docs/how-to/load.md",
        "docs/how-to/calibration.md",
        "docs/how-to/standins.md",
    ],
    "Reference": [
        *(f"docs/reference/{name}" for name in reference.PAGES),
        "docs/reference/table.md",
        "docs/reference/metrics.md",
        "docs/reference/quality.md",
        "docs/reference/validity.md",
        "docs/reference/engines.md",
        "docs/reference/probes.md",
        "docs/reference/engine-bench.md",
        "docs/reference/export.md",
        "docs/reference/foreign-formats.md",
    ],
    "Explanation": [
        "docs/explanation/statistics.md",
        "docs/explanation/medians-of-chunks.md",
        "docs/explanation/coordinated-omission.md",
        "docs/explanation/performance.md",
        "docs/explanation/reliability.md",
        "SECURITY.md",
    ],
    "The project": ["docs/architecture.md", "CONTRIBUTING.md", "CHANGELOG.md"],
}
"""The navigation. A page that does not exist is left out. Pages of docs/ that are not listed stand under "More"."""

CONFIG = """\
[project]
site_name = "Inferometer"
site_description = "Which of your LLM server set-ups is faster, and whether the difference is real."
docs_dir = "pages"
site_dir = "site"
nav = {nav}

[project.theme]
font = false  # the system's: the site asks nobody for anything
features = ["navigation.sections", "navigation.indexes", "navigation.top", "content.code.copy", "search.highlight"]

[[project.theme.palette]]
media = "(prefers-color-scheme: light)"
scheme = "default"

[[project.theme.palette]]
media = "(prefers-color-scheme: dark)"
scheme = "slate"
"""

LINK = re.compile(r"\]\(([^)\s#:]+)(?:#[^)\s]*)?\)")


def written_pages() -> list[Path]:
    """The pages that people write, from the repository's root."""
    beside = [
        name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md") if (ROOT / name).exists()
    ]
    return [*map(Path, beside), *sorted(page.relative_to(ROOT) for page in (ROOT / "docs").rglob("*.md"))]


def linked_files(pages: list[Path]) -> list[Path]:
    """The files of the repository that these pages link to, and so on, with the pages themselves first."""
    found = list(pages)
    for page in found:
        if page.suffix != ".md":
            continue
        for target in LINK.findall((ROOT / page).read_text(encoding="utf-8")):
            path = (ROOT / page.parent / target).resolve()
            if path.is_file() and path.is_relative_to(ROOT) and path.relative_to(ROOT) not in found:
                found.append(path.relative_to(ROOT))
    return found


def nav_of(pages: list[Path]) -> dict[str, list[str]]:
    """NAV with the pages that are there, and the rest of docs/."""
    there = {str(page) for page in pages} | {f"docs/reference/{name}" for name in reference.PAGES}
    found = {group: [page for page in entries if page in there] for group, entries in NAV.items()}
    found["The project"] += sorted(page for page in there if page.startswith("docs/decisions/"))
    named = {page for entries in found.values() for page in entries}
    rest = sorted(there - named)
    return {**found, **({"More": rest} if rest else {})}


def lay_out() -> None:
    """build/pages and build/zensical.toml, anew."""
    shutil.rmtree(PAGES, ignore_errors=True)
    shutil.rmtree(BUILD / "site", ignore_errors=True)
    pages = written_pages()
    for path in linked_files(pages):
        (PAGES / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / path, PAGES / path)
    for name, text in reference.pages().items():
        (PAGES / "docs" / "reference" / name).parent.mkdir(parents=True, exist_ok=True)
        (PAGES / "docs" / "reference" / name).write_text(text, encoding="utf-8")
    groups = ", ".join(f"{{{json.dumps(group)} = {json.dumps(entries)}}}" for group, entries in nav_of(pages).items())
    (BUILD / "zensical.toml").write_text(CONFIG.replace("{nav}", f"[{groups}]"), encoding="utf-8")


def main() -> int:
    lay_out()
    zensical = Path(sys.executable).with_name("zensical")
    done = subprocess.run(
        [zensical, "build", "--clean", "--strict", "--config-file", BUILD / "zensical.toml"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    said = re.sub(r"\x1b\[[\d;]*m", "", done.stdout)  # it colours what it says, terminal or not
    print(said.partition("Traceback (most recent call last):")[0].strip())  # and ends with one where a link is dead
    if done.returncode == 0:
        print(f"{(BUILD / 'site' / 'index.html').relative_to(ROOT)}: open it in a browser")
    return done.returncode


if __name__ == "__main__":
    sys.exit(main())
