"""Memory of large studies: the garbage collector pauses while one is read and compared, and works rarely while one is
measured; freed memory goes back to the system after that.
"""

import contextlib
import ctypes
import gc
import threading
from collections.abc import Iterator

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_MAPPED_BYTES, _TRIMMED_BYTES = 1 << 20, 64 << 20


@contextlib.contextmanager
def paused_collection() -> Iterator[None]:
    """No garbage collection until the block ends.

    A large study is millions of objects without reference cycles. The collector would search all of them again and
    again while they are made, which takes longer than making them.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.freeze()  # later collections skip these objects too; reference counting still frees them
            gc.enable()


class _Rare:
    """How many trials run at once, in threads, and the thresholds before the first of them."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.trials = 0
        self.before = gc.get_threshold()


_rare = _Rare()


@contextlib.contextmanager
def rare_collection() -> Iterator[None]:
    """Garbage collection a hundred times less often until the last of these blocks ends: what a trial makes is kept, or
    has no reference cycles."""
    with _rare.lock:
        if not _rare.trials:
            _rare.before = gc.get_threshold()
            gc.freeze()
            gc.set_threshold(100 * max(700, _rare.before[0]), *_rare.before[1:])
        _rare.trials += 1
    try:
        yield
    finally:
        with _rare.lock:
            _rare.trials -= 1
            if not _rare.trials:
                gc.set_threshold(*_rare.before)
                return_freed_memory()


def return_freed_memory(mapped_bytes: int = _MAPPED_BYTES) -> None:
    """With glibc: return what is free to the system, and from now on every array of `mapped_bytes` when it is freed.
    Otherwise the gaps between what stays would add to the peak of the comparison. The smaller the arrays, the more time
    that takes."""
    with contextlib.suppress(AttributeError, OSError, TypeError):  # another C library
        library = ctypes.CDLL(None)
        library.mallopt(_M_MMAP_THRESHOLD, mapped_bytes)
        library.mallopt(_M_TRIM_THRESHOLD, _TRIMMED_BYTES)
        library.malloc_trim(0)
