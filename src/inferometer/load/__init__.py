"""Load: plays a plan against an endpoint. `play` is the only entrance to the load path; with the pools of an
`InterleavedLoad`, the plans of several arms are played in turn.

The timed path (`driver`, `connections`, `in_flight`, `polling`, `channel`, `worker`) runs in separate worker processes:
it waits, sends, receives, stamps and stores bytes. Encoding and decoding happen in the program's own process. The
linter keeps the modules pure that need no clock, socket, process or file.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from inferometer.load.player import LoadEvent, Started, Turn, WorkerLost, play

__all__ = ["LoadEvent", "Started", "Turn", "WorkerLost", "play"]


def __getattr__(name: str) -> Any:  # Any: it differs from name to name
    """What `play` needs is not imported into a load worker, so that the worker starts sooner."""
    if name not in __all__:
        raise AttributeError(name)
    return getattr(importlib.import_module("inferometer.load.player"), name)
