"""Reading of a stored study's file (study.yaml)."""

from pathlib import Path

from inferometer.base.errors import RequestWrong
from inferometer.core.spec import Spec
from inferometer.core.spec_file import MOST_CHARACTERS, parse


def stored_spec(path: Path | str) -> Spec:
    """The spec of a stored study. Its engines and workloads need not be installed. Raises like `study_text`, and
    SpecInvalid."""
    return parse(study_text(path), str(path))


def study_text(path: Path | str) -> str:
    """The text of a study file. Raises RequestWrong if the file cannot be read."""
    try:
        with Path(path).open(encoding="utf-8") as file:
            return file.read(MOST_CHARACTERS + 1)
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise RequestWrong(f"the study file {path} cannot be read: {reason}") from error
