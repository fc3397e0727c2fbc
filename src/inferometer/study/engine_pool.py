"""Engine pool: each arm's engine lives as long as its trial or, with `restart: never`, as long as the study."""

import contextlib
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Self

import msgspec

from inferometer.base.errors import TrialFailed
from inferometer.core.endpoint import Endpoint


class _KeptEngine(msgspec.Struct, frozen=True):
    endpoint: Endpoint
    stack: contextlib.ExitStack


class EnginePool:
    """`keeps`: an engine stays for the next trial of its arm, until one of its trials fails or the pool is left."""

    def __init__(self, *, keeps: bool) -> None:
        self._keeps = keeps
        self._one_at_a_time = False
        self._kept: dict[str, _KeptEngine] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop_all()

    def one_at_a_time(self) -> None:
        """From now on an engine that starts first ends the others: they do not fit into memory together."""
        self._one_at_a_time = True

    def _stop_all(self) -> None:
        with contextlib.ExitStack() as stops:
            for kept in self._kept.values():
                stops.enter_context(contextlib.suppress(TrialFailed))  # it died after its last trial
                stops.enter_context(kept.stack)
        self._kept.clear()

    @contextlib.contextmanager
    def engine(
        self, arm_name: str, start: Callable[[], contextlib.AbstractContextManager[Endpoint]]
    ) -> Iterator[Endpoint]:
        """The arm's running engine, or the engine that `start` starts."""
        if not self._keeps:
            with start() as endpoint:
                yield endpoint
            return
        if arm_name not in self._kept:
            if self._one_at_a_time:
                self._stop_all()
            stack = contextlib.ExitStack()
            self._kept[arm_name] = _KeptEngine(stack.enter_context(start()), stack)
        kept = self._kept[arm_name]
        try:
            yield kept.endpoint
        except TrialFailed:
            del self._kept[arm_name]
            with kept.stack:  # the engine stops, and adds the evidence from its log to the error
                raise
