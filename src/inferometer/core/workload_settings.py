"""Settings of a workload in a study: the base of every workload's own struct, and the default."""

from typing import Any, ClassVar

import msgspec


class WorkloadSettings(msgspec.Struct, frozen=True, tag_field="kind", forbid_unknown_fields=True):
    """Base of a workload's settings. A subclass states its kind: `class Mine(WorkloadSettings, frozen=True, tag="m")`.

    `HAS_TIMES`: the workload knows when its requests were sent, which `schedule: {kind: replay}` needs. `ALIASES`:
    other names of fields, which study files may use.
    """

    HAS_TIMES: ClassVar[bool] = False
    ALIASES: ClassVar[dict[str, str]] = {}

    @property
    def kind(self) -> str:
        return str(self.__struct_config__.tag)

    def request_count(self) -> int | None:
        """How many requests the workload is asked for; None if that is known only once the workload has been read."""
        return None

    def problems(self) -> list[str]:
        """Values that do not make sense, each beginning with the field's name."""
        return []


class Builtin(WorkloadSettings, frozen=True, tag="builtin"):
    """The coding set that ships with the program. `max_tokens`: the most output tokens of each request. `max_chars`:
    only prompts of at most this many characters; None: all."""

    num_prompts: int = 50
    max_tokens: int = 256
    max_chars: int | None = None

    def request_count(self) -> int | None:
        return self.num_prompts

    def problems(self) -> list[str]:
        return [
            problem
            for name in ("num_prompts", "max_tokens", "max_chars")
            for problem in at_least_one(name, getattr(self, name))
        ]


class KeptWorkload(WorkloadSettings, frozen=True, tag="(kept)"):
    """Settings of a stored study's workload, kept as they are: to read results the workload need not be installed."""

    stored_kind: str
    settings: dict[str, Any]  # any values: only the workload itself knows them

    @property
    def kind(self) -> str:
        return self.stored_kind

    def request_count(self) -> int | None:
        count = self.settings.get("num_prompts")
        return count if isinstance(count, int) else None


def at_least_one(name: str, value: int | None) -> list[str]:
    """The problem of a setting that must be 1 or more, or None; empty if there is none."""
    return [] if value is None or value >= 1 else [f"{name} must be at least 1, not {value}"]
