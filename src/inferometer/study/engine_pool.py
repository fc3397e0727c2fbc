"""How long does an engine live? As long as its trial, or (`restart: never`) as its study, or until a trial fails."""

import contextlib
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Self

import msgspec

from inferometer.base.errors import TrialFailed
from inferometer.core.endpoint import Endpoint


class _Kept(msgspec.Struct, frozen=True):
    endpoint: Endpoint
    stack: contextlib.ExitStack


class EnginePool:
    """Where engines stay between trials where it `keeps` them."""

    def __init__(self, *, keeps: bool) -> None:
        self._keeps = keeps
        self._kept: dict[str, _Kept] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with contextlib.ExitStack() as all_of_them:
            for kept in self._kept.values():
                all_of_them.enter_context(contextlib.suppress(TrialFailed))  # it died when its trials were over
                all_of_them.enter_context(kept.stack)

    @contextlib.contextmanager
    def engine(self, name: str, start: Callable[[], contextlib.AbstractContextManager[Endpoint]]) -> Iterator[Endpoint]:
        """The arm's running engine, or the one that `start` starts."""
        if not self._keeps:
            with start() as endpoint:
                yield endpoint
            return
        if name not in self._kept:
            stack = contextlib.ExitStack()
            self._kept[name] = _Kept(stack.enter_context(start()), stack)
        kept = self._kept[name]
        try:
            yield kept.endpoint
        except TrialFailed:
            del self._kept[name]
            with kept.stack:  # so that the engine tells what it knows of it, and ends
                raise
