"""Engine pool: each arm's engine lives as long as its trial or, with `restart: never`, as long as the study."""

import contextlib
import threading
from collections.abc import Callable, Iterator, Mapping
from types import TracebackType
from typing import Self

import msgspec

from inferometer.base.errors import TrialFailed
from inferometer.core.endpoint import Endpoint
from inferometer.core.spec import Arm


class _KeptEngine:
    """`users`: the trials that use it now."""

    def __init__(self, endpoint: Endpoint, stack: contextlib.ExitStack) -> None:
        self.endpoint = endpoint
        self.stack = stack
        self.users = 0


class EnginePool:
    """`keeps`: an engine stays for the next trial of its arm, until one of its trials fails or the pool is left."""

    def __init__(self, *, keeps: bool) -> None:
        self._keeps = keeps
        self._one_at_a_time = False
        self._kept: dict[str, _KeptEngine] = {}
        self._changing = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop_all()

    def one_at_a_time(self) -> None:
        """From now on an engine that starts first ends the others: they do not fit into memory together."""
        self._one_at_a_time = True

    @contextlib.contextmanager
    def engine(self, name: str, start: Callable[[], contextlib.AbstractContextManager[Endpoint]]) -> Iterator[Endpoint]:
        """The running engine of that name, or the engine that `start` starts. Trials of several arms may use one engine
        at a time (see `engine_names`); if one of them fails, it ends after the last of them, and is not used again."""
        if not self._keeps:
            with start() as endpoint:
                yield endpoint
            return
        kept = self._joined(name, start)
        try:
            yield kept.endpoint
        except TrialFailed:
            if self._left(name, kept, failed=True):
                with kept.stack:  # the engine stops, and adds the evidence from its log to the error
                    raise
            raise
        except BaseException:
            self._left(name, kept, failed=False)
            raise
        if self._left(name, kept, failed=False):
            kept.stack.close()

    def _joined(self, name: str, start: Callable[[], contextlib.AbstractContextManager[Endpoint]]) -> _KeptEngine:
        if name not in self._kept:
            if self._one_at_a_time:
                self._stop_all()
            stack = contextlib.ExitStack()
            self._kept[name] = _KeptEngine(stack.enter_context(start()), stack)
        with self._changing:
            self._kept[name].users += 1
            return self._kept[name]

    def _left(self, name: str, kept: _KeptEngine, *, failed: bool) -> bool:
        """Whether the engine has to end now: a trial that used it has failed, and no other trial uses it."""
        with self._changing:
            kept.users -= 1
            if failed and self._kept.get(name) is kept:
                del self._kept[name]
            return not kept.users and self._kept.get(name) is not kept

    def _stop_all(self) -> None:
        with contextlib.ExitStack() as stops:
            for kept in self._kept.values():
                stops.enter_context(contextlib.suppress(TrialFailed))  # it died after its last trial
                stops.enter_context(kept.stack)
        self._kept.clear()


def engine_names(arms: Mapping[str, Arm], *, keeps: bool) -> dict[str, str]:
    """The name of each arm's engine: its own name, or that of the first arm that differs from it in nothing but the
    fields of its requests. Engines are shared only where they are kept. Equal arms have separate engines."""
    found: dict[str, str] = {}
    for name, arm in arms.items():
        alike = [
            first
            for first in dict.fromkeys(found.values())
            if keeps and msgspec.structs.replace(arms[first], request=arm.request) == arm
        ]
        users = [arms[other].request for other, engine in found.items() if alike and engine == alike[0]]
        found[name] = alike[0] if alike and arm.request not in users else name
    return found
