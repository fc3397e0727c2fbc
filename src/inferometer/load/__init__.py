"""Load: plays a plan against an endpoint. `play` is the only entrance to the load path.

The timed path (`driver`, `connections`, `in_flight`, `polling`, `channel`, `worker`) runs in separate worker processes:
it waits, sends, receives, stamps and stores bytes. Encoding and decoding happen in the program's own process. The
linter keeps the modules pure that need no clock, socket, process or file.
"""

from inferometer.load.player import LoadEvent, Started, WorkerLost, play

__all__ = ["LoadEvent", "Started", "WorkerLost", "play"]
