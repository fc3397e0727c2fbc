"""Modules that take long to import and are rarely needed."""

import importlib
from typing import Any


class _LazyModule:
    """Imports the module when one of its members is first used."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, member: str) -> Any:
        found = getattr(importlib.import_module(self._name), member)
        setattr(self, member, found)
        return found


def lazy_module(name: str) -> Any:
    """The module `name`, imported at its first use."""
    return _LazyModule(name)
