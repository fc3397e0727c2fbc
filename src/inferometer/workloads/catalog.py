"""Catalog of the workloads: the settings struct of each kind, our own and those of installed packages."""

import msgspec

from inferometer.base.errors import RequestWrong
from inferometer.base.extensions import factory, names
from inferometer.core.request import Workload
from inferometer.core.workload_settings import WorkloadSettings


def workload_kinds() -> list[str]:
    """Every kind that a study file may name."""
    return names("workload")


def settings_struct(kind: str) -> type[WorkloadSettings]:
    """The struct that holds the settings of this kind. Raises RequestWrong if the workload does not state one."""
    struct = getattr(factory("workload", kind), "settings", None)
    if not (isinstance(struct, type) and issubclass(struct, WorkloadSettings)):
        raise RequestWrong(
            f"the workload {kind!r} has no `settings` that is a subclass of WorkloadSettings; the package that adds it "
            "must state one (docs/architecture.md, extension points)."
        )
    tag = struct.__struct_config__.tag
    if tag != kind:
        raise RequestWrong(
            f"the workload {kind!r} has settings with the tag {tag!r}; the tag must equal the entry point's name."
        )
    return struct


def make_workload(settings: WorkloadSettings) -> Workload:
    """The workload with these settings. Raises RequestWrong if its kind is not installed, or its values are wrong."""
    made = factory("workload", settings.kind)
    struct = settings_struct(settings.kind)
    if not isinstance(settings, struct):  # read from a stored study
        raw = msgspec.to_builtins(settings)["settings"] | {"kind": settings.kind}
        try:
            settings = msgspec.convert(raw, struct)
        except msgspec.ValidationError as error:
            raise RequestWrong(f"workload: the stored settings do not fit {settings.kind!r}: {error}") from error
    return made(settings)
