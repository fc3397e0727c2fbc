"""Reading a data set's file, and the rules that hold for the prompts of every data set."""

from pathlib import Path

from inferometer.base.errors import DatasetUnusable
from inferometer.base.units import bytes_text

MOST_CHARACTERS = 16 * 1024**2
"""Limit for one turn of a conversation: 100 times the largest context."""
MOST_FILE_BYTES = 4 * 1024**3


def file_bytes(path: Path) -> bytes:
    """The whole file. Raises DatasetUnusable if there is none, if it cannot be read, or if it is too large."""
    try:
        with path.open("rb") as file:
            data = file.read(MOST_FILE_BYTES + 1) if not path.is_char_device() else b""
    except FileNotFoundError as error:
        raise DatasetUnusable(
            f"there is no data set at {path}.\nCheck the path, or leave it out and use the built-in coding set "
            "(--dataset-name builtin; in a study file: workload: {kind: builtin})."
        ) from error
    except OSError as error:
        raise DatasetUnusable(f"{path} cannot be read: {error.strerror}.") from error
    if len(data) > MOST_FILE_BYTES:
        raise DatasetUnusable(f"{path} is larger than {bytes_text(MOST_FILE_BYTES)}; take a part of it.")
    return data


def is_prompt(text: str) -> bool:
    """Whether the text says something: False for a blank text, and for the words that other programs write for null."""
    return text.strip() not in ("", "None", "null", "nan")
