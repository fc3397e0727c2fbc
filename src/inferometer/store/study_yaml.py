"""Reading of a study file (study.yaml)."""

from pathlib import Path

from inferometer.base.errors import RequestWrong
from inferometer.core.spec import Spec
from inferometer.core.spec_file import MOST_CHARACTERS, parse


def load_spec(path: Path | str) -> Spec:
    """The study in a file. Raises RequestWrong if the file cannot be read, SpecInvalid if its study cannot be run."""
    try:
        with Path(path).open(encoding="utf-8") as file:
            text = file.read(MOST_CHARACTERS + 1)
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise RequestWrong(f"the study file {path} cannot be read: {reason}") from error
    return parse(text, str(path))
