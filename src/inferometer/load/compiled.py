"""The compiled part of the load path, where it was built: the source is `_compiled.c`.

Its functions are None where it was not built, or where INFEROMETER_COMPILED=0 switches it off. The results are the
same either way.
"""

import contextlib
import importlib
import os
from collections.abc import Callable
from types import ModuleType

Kept = tuple[bytearray, bytearray, bytearray, bytearray]
"""What was read of one answer: the bytes, and of each read its length (u32), its time (i64, ns) and the kernel's
stamp."""

Ready = list[tuple[int, int]]
Receive = Callable[[Ready, dict[int, Kept], bool, int], tuple[Ready, list[int], list[tuple[int, int]], int]]
SimilarChunks = Callable[[bytes, int, int, bytes, bytes], tuple[bytearray, bytearray, bytearray] | None]
Arrivals = Callable[[bytes, bytes, int, int, int], tuple[bytearray, bytearray, int]]

_module: ModuleType | None = None
if os.environ.get("INFEROMETER_COMPILED") != "0":
    with contextlib.suppress(ImportError):
        _module = importlib.import_module("inferometer.load._compiled")

receive: Receive | None = getattr(_module, "receive", None)
similar_chunks: SimilarChunks | None = getattr(_module, "similar_chunks", None)
arrivals: Arrivals | None = getattr(_module, "arrivals", None)
