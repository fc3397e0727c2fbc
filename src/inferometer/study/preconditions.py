"""Conditions that a study needs before it starts: servers that load workers can reach, and the machine it began on."""

from collections.abc import Mapping, Sequence

from inferometer.base.errors import RequestWrong
from inferometer.core import quantities
from inferometer.core.record import Fact
from inferometer.core.spec import Arm
from inferometer.net.target import is_local


def require_reachable(arms: Mapping[str, Arm]) -> None:
    """Raises RequestWrong for an arm that only this host can reach."""
    for name, arm in arms.items():
        if not arm.runs_already:
            raise RequestWrong(
                f"--ray sends the requests from other machines, and arm {name} is an engine that Inferometer starts on "
                "127.0.0.1, where other machines cannot reach it. Start the server yourself on an address that they "
                "can reach, and give it with `engine: external` and `url:`."
            )
        if is_local(arm.url):
            raise RequestWrong(
                f"--ray sends the requests from other machines, and arm {name}'s {arm.url} means a different server on "
                "each of them. Give an address at which all of them reach this server."
            )


def require_same_machine(before: Sequence[Fact], now: Sequence[Fact]) -> None:
    """Raises RequestWrong where a study would continue on another CPU or GPU. `before` is empty for a new study."""
    known = {fact.name: fact.value for fact in now}
    for fact in before:
        if fact.name == quantities.CPU or fact.name.startswith("gpu_"):
            here = known.get(fact.name, "none")
            if here != fact.value:
                raise RequestWrong(
                    f"this study began on another machine: its {fact.name} is {fact.value}, and here it is {here}. "
                    "Trials from two machines cannot be compared. Run the whole study here with another --out."
                )
