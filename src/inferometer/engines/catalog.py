"""Catalog of the engines: descriptions of our own and of installed packages, by name."""

from inferometer.base.errors import RequestWrong
from inferometer.base.extensions import factory, names
from inferometer.core.spec import Arm
from inferometer.engines.base import Engine, EngineDescription


def engine_class(name: str) -> type[Engine]:
    """The engine registered under `name`. Raises RequestWrong if there is none, with the nearest known name."""
    found: type[Engine] = factory("engine", name)
    if not isinstance(getattr(found, "description", None), EngineDescription):
        raise RequestWrong(
            f"the engine {name!r} ({found!r}) has no `description` of type EngineDescription; the package that adds it "
            "must state one (docs/architecture.md, extension points)."
        )
    return found


def describe(name: str) -> EngineDescription:
    """Raises RequestWrong like `engine_class`."""
    return engine_class(name).description


def descriptions() -> list[EngineDescription]:
    """Every engine's description, our own first. An extension that cannot be loaded is left out."""
    found: list[EngineDescription] = []
    for name in names("engine"):
        try:
            found.append(describe(name))
        except RequestWrong:
            continue  # whoever names that engine gets the message
    return found


def arm_problems(arm: Arm) -> list[str]:
    """What is wrong with the arm for its engine, each as `field: …`. An unknown engine is one of these problems."""
    try:
        return describe(arm.engine).problems(arm)
    except RequestWrong as error:
        return [f"engine: {error}"]


def metric_names() -> dict[str, tuple[str, ...]]:
    """All engines' names on /metrics for each of our quantities: a server that we did not start may be any of them."""
    found: dict[str, tuple[str, ...]] = {}
    for description in descriptions():
        for quantity, theirs in description.metric_names.items():
            found[quantity] = tuple(dict.fromkeys((*found.get(quantity, ()), *theirs)))
    return found
