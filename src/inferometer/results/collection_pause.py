"""Python's garbage collector: a pause while a large study is read and compared, and rare work while one is measured."""

import contextlib
import gc
import threading
from collections.abc import Iterator


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


_RARE = 70_000
"""A hundred times Python's own threshold of the first generation."""
_turn = threading.Lock()
_before: list[tuple[int, int, int]] = []
"""The thresholds that the first of the blocks found, once for each block that has not ended."""


@contextlib.contextmanager
def rare_collection() -> Iterator[None]:
    """Garbage collection a hundred times less often until the block ends: what a trial makes is kept, or has no
    reference cycles. Trials that run at the same time may end in any order: the last one restores the thresholds."""
    with _turn:
        _before.append(_before[0] if _before else gc.get_threshold())
        gc.freeze()
        gc.set_threshold(max(_RARE, _before[0][0]), *_before[0][1:])
    try:
        yield
    finally:
        with _turn:
            found = _before.pop()
            if not _before:
                gc.set_threshold(*found)
