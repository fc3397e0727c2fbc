"""The folder of model files that this machine keeps."""

import os
from pathlib import Path


def default_cache_dir() -> Path:
    """$INFEROMETER_CACHE, else inferometer/ in $XDG_CACHE_HOME or ~/.cache. It need not exist yet."""
    if own := os.environ.get("INFEROMETER_CACHE"):
        return Path(own)
    shared = os.environ.get("XDG_CACHE_HOME")
    return (Path(shared) if shared else Path.home() / ".cache") / "inferometer"
