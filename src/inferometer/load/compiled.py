"""The compiled part of the load path, where it was built: the source is `_compiled.c`.

Its functions are None where it was not built, or where INFEROMETER_COMPILED=0 switches it off. The results are the
same either way.
"""

import array
import contextlib
import importlib
import os
from collections.abc import Callable
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Columnar = bytes | array.array[int] | NDArray[Any]
else:
    Columnar = object  # a worker does without numpy

Kept = tuple[bytearray, bytearray, bytearray, bytearray]
"""What was read of one answer: the bytes, and of each read its length (u32), its time (i64, ns) and the kernel's
stamp."""

Ready = list[tuple[int, int]]
Receive = Callable[[int, int, int, int], tuple[Ready, list[int], list[tuple[int, int]], int]]
Follow = Callable[..., None]  # (fd, kept, stamps, in_head=False)
Unfollow = Callable[[int], None]
HandOverQuiet = Callable[[int], None]
IsWholeStream = Callable[[bytes | bytearray], bool]
SimilarChunks = Callable[[bytes, int, int, bytes, bytes], tuple[bytearray, bytearray, bytearray] | None]
Pack = Callable[[bytes | bytearray, bytes | bytearray, bytes | bytearray, bytes | bytearray], bytes | None]
Unpack = Callable[[bytes], tuple[bytes, bytes, bytes, bytes]]
Arrivals = Callable[[bytes, bytes, int, int, int], tuple[bytearray, bytearray, int]]
EventTimes = Callable[[Columnar, Columnar, Columnar, int], bytearray]
OutputTimes = Callable[[Columnar, Columnar, Columnar, bytes, int], tuple[bytearray, int]]

_module: ModuleType | None = None
if os.environ.get("INFEROMETER_COMPILED") != "0":
    with contextlib.suppress(ImportError):
        _module = importlib.import_module("inferometer.load._compiled")

receive: Receive | None = getattr(_module, "receive", None)  # this and the next three: only on Linux
follow: Follow | None = getattr(_module, "follow", None)
unfollow: Unfollow | None = getattr(_module, "unfollow", None)
hand_over_quiet: HandOverQuiet | None = getattr(_module, "hand_over_quiet", None)
is_whole_stream: IsWholeStream | None = getattr(_module, "is_whole_stream", None)
similar_chunks: SimilarChunks | None = getattr(_module, "similar_chunks", None)
arrivals: Arrivals | None = getattr(_module, "arrivals", None)
pack: Pack | None = getattr(_module, "pack", None)
unpack: Unpack | None = getattr(_module, "unpack", None)
event_times: EventTimes | None = getattr(_module, "event_times", None)
output_times: OutputTimes | None = getattr(_module, "output_times", None)
