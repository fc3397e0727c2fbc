"""What must an engine be able to do?"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

from inferometer.core.endpoint import Endpoint
from inferometer.core.record import Fact
from inferometer.core.spec import Arm

OnSpawn = Callable[[int], object]
"""Is given the pid of an engine's process as soon as there is one, long before it is ready."""


def unwatched(pid: int) -> None:
    """Nobody wants to know."""


class Engine(Protocol):
    """A kind of inference server. Made with the headers that go with every request to it.

    `check` raises RequestWrong where the arm cannot be started as it stands; it starts no server. `start` gives an
    Endpoint once a real token has come from the server, and takes the server away when the `with` block ends, however
    it ends; the server's output is appended to `log_path`. It raises what `check` does, EngineNotReady where no token
    came, ServerUnusable where the server answers otherwise than its API says, and EngineDied, at the block's end, where
    the server had ended by itself. `on_spawn` is called for each root process that it starts. Model names in `arm` are
    paths of files here. `facts_at_end` is asked after the block, when the log is whole, for what was not yet known when
    the endpoint was given.
    """

    def check(self, arm: Arm) -> None: ...

    def start(self, arm: Arm, log_path: Path, on_spawn: OnSpawn = unwatched) -> AbstractContextManager[Endpoint]: ...

    def facts_at_end(self, endpoint: Endpoint) -> tuple[Fact, ...]: ...
