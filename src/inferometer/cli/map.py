"""`inferometer map`: the speed-up of each arm over concurrency, and where it breaks even."""

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from inferometer.base.errors import Interrupted, RequestWrong
from inferometer.cli.options import OutFolder, Quiet


def map_study(
    study: Annotated[Path, typer.Argument(help="Study file (YAML) with two or more arms.")],
    concurrency: Annotated[str, typer.Option(help="Numbers of concurrent requests.")] = "1,2,4,8,16,32",
    by: Annotated[str, typer.Option(help="Also by a tag of the prompts: task, language, category.")] = "",
    out: OutFolder = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue the map in --out.")] = False,
    quiet: Quiet = False,
) -> None:
    """Speed-up by concurrency, and where it breaks even.

    Each concurrency is a study. The break-even point has an interval. `--by` compares the time per output token.
    """
    import msgspec

    from inferometer.cli.page_file import REPORT, write_page
    from inferometer.cli.study_run import default_folder, request_headers, run_shown
    from inferometer.report.drawings.gain_map import gain_map
    from inferometer.report.page.extra_part import ExtraPart
    from inferometer.results.study_page import page_of
    from inferometer.study.concurrency_map import ConcurrencyMap
    from inferometer.study.study_file import load_spec

    folder = out or default_folder(study.stem)
    made = ConcurrencyMap(load_spec(study), _numbers(concurrency), folder, request_headers([]), by=by, resume=resume)
    failures = 0
    try:
        for run in made.runs():
            failures += len(run_shown(run, quiet=quiet))
    except Interrupted as error:
        again = shlex.join(["inferometer", "map", str(study), "--concurrency", concurrency, "--out", str(folder)])
        by_flag = f" --by {shlex.quote(by)}" if by else ""
        raise Interrupted(f"interrupted. Continue with `{again}{by_flag} --resume`") from error
    lines = made.lines()
    sentences = tuple(line.sentence for line in lines)
    print("\n".join(sentences))
    known = [(line.name, line.points) for line in lines if line.points]
    drawings = (("Gain by concurrency", gain_map(known)),) if known else ()
    rows = drawings[0][1].rows if drawings else ()
    text = "\n".join([f"- {one}" for one in sentences] + [""] + [f"    {'  '.join(row)}" for row in rows])
    (folder / "summary.md").write_text(f"# Map over concurrency\n\n{text}\n", encoding="utf-8")
    part = ExtraPart("map", "The map", sentences, drawings)
    page = page_of([made.last_study], "inferometer")
    written = write_page(msgspec.structs.replace(page, extra=(part, *page.extra)), folder / REPORT)
    if not quiet:
        print(f"map: {folder}\nreport: {written}", file=sys.stderr)
    raise typer.Exit(1 if failures else 0)


def _numbers(text: str) -> list[int]:
    try:
        return [int(one) for one in text.split(",")]
    except ValueError as error:
        raise RequestWrong(f"--concurrency {text!r}: write whole numbers with commas, such as 1,2,4,8.") from error
