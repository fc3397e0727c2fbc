"""Memory of large studies: the garbage collector pauses while one is read and compared, and works rarely while one is
measured; freed memory goes back to the system after that.
"""

import contextlib
import ctypes
import gc
from collections.abc import Iterator

_M_MMAP_THRESHOLD = -3
_MAPPED_BYTES = 1 << 20


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


@contextlib.contextmanager
def rare_collection() -> Iterator[None]:
    """Garbage collection a hundred times less often until the block ends: what a trial makes is kept, or has no
    reference cycles."""
    before = gc.get_threshold()
    gc.freeze()
    gc.set_threshold(100 * max(700, before[0]), *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)
        _return_freed_memory()


def _return_freed_memory() -> None:
    """With glibc: return what is free to the system, and from now on every array of a megabyte when it is freed.
    Otherwise the gaps between what stays would add to the peak of the comparison."""
    with contextlib.suppress(AttributeError, OSError, TypeError):  # another C library
        library = ctypes.CDLL(None)
        library.mallopt(_M_MMAP_THRESHOLD, _MAPPED_BYTES)
        library.malloc_trim(0)
