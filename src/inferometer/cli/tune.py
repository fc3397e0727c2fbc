"""`inferometer tune`: search the best settings of an arm, confirm the winner, and say when no setting pays."""

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from inferometer.cli.options import OutFolder, Quiet

if TYPE_CHECKING:
    from inferometer.core.search_settings import Search
    from inferometer.core.spec import Spec
    from inferometer.report.search_report import TuneResult
    from inferometer.study.tuning import Tuning


def tune(
    study: Annotated[Path, typer.Argument(help="Study file (YAML) with one arm and a section `search:`.")],
    out: OutFolder = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue the search in --out.")] = False,
    quiet: Quiet = False,
) -> None:
    """Search settings, confirm the winner, or keep the baseline.

    Settings play the same prompts as the baseline; the worse ones leave early. The gain that is reported comes from
    fresh rounds on held-out prompts.
    """
    from inferometer.base.errors import RequestWrong
    from inferometer.cli.study_run import default_folder
    from inferometer.study.study_file import load_search

    spec, search = load_search(study)
    if resume and out is None:
        raise RequestWrong("--resume needs --out: name the folder of the search to continue.")
    raise typer.Exit(tune_and_report(spec, search, out or default_folder(study.stem), resume=resume, quiet=quiet))


def tune_and_report(spec: "Spec", search: "Search", folder: Path, *, resume: bool, quiet: bool) -> int:
    """Runs the search, prints its result, and writes summary.md, tuned.yaml and report.html. The exit code: 0, also
    where no setting pays."""
    from inferometer.base.errors import Interrupted
    from inferometer.cli.study_run import request_headers, run_shown
    from inferometer.core.spec_file import to_yaml
    from inferometer.report.search_report import markdown, terminal_lines
    from inferometer.study.tuning import SEARCH_FILE, Tuning

    tuning = Tuning(spec, search, folder, request_headers([]), resume=resume)
    try:
        for run in tuning.runs():
            run_shown(run, quiet=quiet)
    except Interrupted as error:
        again = shlex.join(["inferometer", "tune", str(folder / SEARCH_FILE), "--out", str(folder), "--resume"])
        raise Interrupted(f"interrupted. Results so far are in {folder}; continue with `{again}`") from error
    result = tuning.result()
    (folder / "summary.md").write_text(markdown(result, spec.name or folder.name), encoding="utf-8")
    print("\n".join(terminal_lines(result)), flush=True)
    (folder / "tuned.yaml").write_text(to_yaml(tuning.chosen_spec(result.decision.chosen)), encoding="utf-8")
    _write_report(tuning, result, folder)
    if not quiet:
        print(f"search: {folder}\nto run it: {folder / 'tuned.yaml'}", file=sys.stderr)
    return 0


def _write_report(tuning: "Tuning", result: "TuneResult", folder: Path) -> None:
    """The page of the confirmation, or of the last step without one, with the search as its first part."""
    import msgspec

    from inferometer.cli.page_file import REPORT, write_page
    from inferometer.report.search_report import page_part
    from inferometer.results.study_page import page_of

    page = page_of([tuning.last_study], "inferometer")
    write_page(msgspec.structs.replace(page, extra=(page_part(result), *page.extra)), folder / REPORT)
