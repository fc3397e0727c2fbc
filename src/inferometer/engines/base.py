"""The contract of an engine: what it can do, and what it states about itself."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple, Protocol, runtime_checkable

import msgspec

from inferometer.core.endpoint import Endpoint
from inferometer.core.record import Fact
from inferometer.core.spec import Arm, Sampling

OnSpawn = Callable[[int], object]
"""Called with the pid of an engine's root process as soon as the process exists, before the engine is ready."""

LLAMA_CPP = "llama.cpp"
"""The family of engines that run llama.cpp's server."""


DEFAULT_SAMPLING = Sampling()


def unwatched(pid: int) -> None:
    """An `OnSpawn` that does nothing."""


class Machine(NamedTuple):
    """Input of an engine's doctor check: programs on PATH, and the number of GPUs that each driver knows."""

    which: Callable[[str], str | None]
    nvidia_gpus: int = 0
    amd_gpus: int = 0


class Inspection(NamedTuple):
    """A doctor check's result. `has`: usable; `part`: usable with limits; `none`: not installed. `detail`: the
    evidence. `fix`: what to do."""

    state: Literal["has", "part", "none"]
    detail: str
    fix: str = ""


class EngineDescription(msgspec.Struct, frozen=True):
    """What the rest of the program needs to know about an engine without starting it.

    `summary`: one line for help texts. `family`: engines of one family share flags and server answers (LLAMA_CPP);
    "" for none. `is_started`: False where the server runs already and the arm gives its `url`. `needs_model`: the arm
    must name a model. `takes_command`: the arm may give its own start command (`command:`); `needs_command`: it must.
    `draft_flags`: flags in `args` that switch speculative decoding on; `draft_file_flags`: those of them whose value is
    a model file. `metric_names`: the names on the server's
    /metrics page, newest first, for each of our quantities (probes/engine_metrics.py). `inspect`: the check of
    `inferometer doctor`; None if there is nothing to check. `arm_of_command`: the fields of the arm that a command line
    describes (`inferometer vs`), None if the command line is not this engine's; raises RequestWrong. None: the engine
    has no command line. `typed_command`: what starts an equal server from a shell, for an engine whose own command line
    is not one to type; None: its own. `flags`: a line for each flag that `args` may hold; None if they depend on the
    build.
    """

    name: str
    summary: str
    family: str = ""
    is_started: bool = True
    needs_model: bool = True
    takes_command: bool = True
    needs_command: bool = False
    draft_flags: tuple[str, ...] = ()
    draft_file_flags: tuple[str, ...] = ()
    metric_names: Mapping[str, tuple[str, ...]] = {}
    inspect: Callable[[Machine], Inspection] | None = None
    arm_of_command: Callable[[Sequence[str]], dict[str, Any] | None] | None = None
    typed_command: Callable[[Arm], Sequence[str]] | None = None
    flags: Callable[[], Sequence[str]] | None = None

    def problems(self, arm: Arm) -> list[str]:
        """Settings of the arm that do not fit this engine, each as `field: what is wrong; what to do`."""
        found: list[str] = []
        if not self.is_started and not arm.url:
            found.append(f"url: is missing; the engine {self.name} needs the address where the server answers")
        if not self.is_started and arm.draft is not None:
            found.append(f"draft: the engine {self.name} starts no server; start your server with its draft model")
        if self.needs_model and not arm.model and not arm.command:
            found.append("model: is missing; name a GGUF file, or standin:demo to try without one")
        if arm.command and not self.takes_command:
            found.append(f"command: the engine {self.name} takes no start command; use engine: command")
        if self.needs_command and not arm.command:
            found.append("command: is missing; give the start command as a list of words")
        if self.is_started and arm.url and not arm.command:
            found.append(f"url: the engine {self.name} starts its own server; for a running one use engine: external")
        if self.is_started and (arm.pid is not None or arm.container):
            found.append(
                "pid: and container: are only for an external engine; Inferometer knows the processes that it starts"
            )
        return found


def program_on_path(name: str, fix: str) -> Callable[[Machine], Inspection]:
    """A doctor check that only looks for a program: some engines need many seconds to report their version."""

    def inspect(machine: Machine) -> Inspection:
        path = machine.which(name)
        return Inspection("has", path) if path else Inspection("none", "not on PATH", fix)

    return inspect


class Engine(Protocol):
    """A kind of inference server. Constructed with the headers that go with every request.

    `check` raises RequestWrong if the arm cannot be started; it starts no server. `start` yields an Endpoint once the
    server has produced a real token, and stops the server when the `with` block ends, however it ends. The server's
    output is appended to `log_path`. `start` raises what `check` raises; EngineNotReady if no token came;
    ServerUnusable if an answer violates the API; and, at the end of the block, EngineDied if the server had ended by
    itself. `on_spawn` is called for each root process that the engine starts. The request for that token has the
    fields of the load's requests (`sampling`), and the Endpoint names those that the server refused. Model names in
    `arm` are paths of local files. `facts_at_end` is called after the block, when the log is complete, and returns the
    facts that were not yet known when the endpoint was yielded.
    """

    description: ClassVar[EngineDescription]

    def check(self, arm: Arm) -> None: ...

    def start(
        self, arm: Arm, log_path: Path, on_spawn: OnSpawn = unwatched, sampling: Sampling = DEFAULT_SAMPLING
    ) -> AbstractContextManager[Endpoint]: ...

    def facts_at_end(self, endpoint: Endpoint) -> tuple[Fact, ...]: ...


class Gpus(msgspec.Struct, frozen=True):
    """The GPUs that an engine sees. `backend`: `CUDA`, `ROCm`, `Vulkan`, …, separated by commas; `CPU` for no GPU."""

    backend: str
    names: tuple[str, ...] = ()


@runtime_checkable
class TakesBenchSettings(Protocol):
    """An engine that `engine-bench` can start with llama-bench's settings."""

    def gpus(self, arm: Arm) -> Gpus | None:
        """The GPUs that the engine sees; None if this build cannot list them."""
        ...

    def flash_attn_flags(self, arm: Arm, word: str) -> list[str]:
        """Flags for flash attention `on`, `off` or `auto`. Raises RequestWrong for `auto` where a build lacks it."""
        ...

    def gpu_layers_word(self, value: str) -> str:
        """llama-bench's value of -ngl as this engine spells it."""
        ...

    def threads(self, arm: Arm) -> int | None:
        """The number of threads that the engine will use; None if the engine decides."""
        ...
