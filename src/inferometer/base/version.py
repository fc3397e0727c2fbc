"""The version of this program, also when it runs from a source tree without an installation."""

import importlib.metadata


def version() -> str:
    """The installed version, or "unknown (not installed)"."""
    try:
        return importlib.metadata.version("inferometer")
    except importlib.metadata.PackageNotFoundError:
        return "unknown (not installed)"
