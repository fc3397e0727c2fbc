"""Python's garbage collector: a pause while a large study is read and compared, and rare work while one is measured."""

import contextlib
import gc
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
