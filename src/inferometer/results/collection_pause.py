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
