"""Interleaved rounds (`order: requests`): the order of the arms in each block, the length of a block, and what rules
the order out."""

import math
from collections.abc import Mapping
from itertools import islice

from inferometer.base.units import NS_PER_S
from inferometer.core.redaction import redacted_text
from inferometer.core.schedule import Closed, concurrency_limit
from inferometer.core.spec import Arm, Spec
from inferometer.core.study import arm_orders

REQUESTS_PER_STREAM = 10
"""Default block of a closed loop with several streams. At the end of each block the streams run dry one by one: with
ten requests for each stream, 80% to 90% of the time passes at the asked concurrency."""
BLOCK_S = 20.0
"""Default block of a schedule with times: several times as long as one answer takes, so that most requests of a block
meet the load that the schedule asks for; and short enough for a machine that changes from minute to minute."""
BLOCK_REQUESTS = 40
"""The least number of requests in it: the check that finds a growing queue judges no fewer."""


def block_length(spec: Spec) -> tuple[int | None, int | None]:
    """The least length of a block: a number of requests, and ns of the schedule. Raises ValueError for a `block` that
    cannot be read."""
    if isinstance(spec.block, str):
        seconds = float(spec.block.strip().removesuffix("s"))
        if not (math.isfinite(seconds) and seconds > 0):
            raise ValueError(spec.block)
        return None, round(seconds * NS_PER_S)
    if spec.block is not None:
        return spec.block, None
    if not isinstance(spec.schedule, Closed):
        return BLOCK_REQUESTS, round(BLOCK_S * NS_PER_S)
    streams = concurrency_limit(spec.schedule) or 1
    return (1 if streams == 1 else REQUESTS_PER_STREAM * streams), None


def block_orders(arms: int, number: int) -> tuple[tuple[int, ...], ...]:
    """The orders of the arms in round `number`, each for an equal run of its blocks: each arm is first equally often,
    and each round begins with another order."""
    cycle = 2 * max(1, arms if arms % 2 else arms // 2)
    begin = (number - 1) % cycle
    return tuple(tuple(row) for row in islice(arm_orders(arms), begin, begin + cycle))


def block_problems(spec: Spec) -> list[str]:
    """What is wrong with `order` and `block` of a study file."""
    problems: list[str] = []
    try:
        requests, length_ns = block_length(spec)
    except ValueError:
        return [f'block: must be a number of requests, or seconds like "20s", not {spec.block!r}']
    if requests is not None and requests < 1:
        problems.append(f"block: must be at least 1 request, not {requests}")
    if length_ns is not None and isinstance(spec.schedule, Closed):
        problems.append(
            "block: a closed loop has no times, and in the same seconds a fast arm would answer more requests than a "
            "slow one; give a number of requests, for example block: 20"
        )
    if spec.block is not None and spec.order == "trials":
        problems.append("block: belongs to order: requests; remove it, or the order")
    if spec.order == "requests" and (why := why_not_interleaved(spec)):
        problems.append(f"order: requests is not possible, because {why}. Use order: trials, or auto")
    return problems


def why_not_interleaved(spec: Spec) -> str:
    """The setting of the study that rules `order: requests` out; "" if none does."""
    if len(spec.arms) < 2:
        return "there is only one arm"
    if spec.parallel:
        return "parallel: true runs the arms at the same time"
    if isinstance(spec.schedule, Closed) and spec.schedule.concurrency is None:
        return "the schedule sends all requests at once, so that there is nothing to interleave"
    if (spec.workers or 1) > 1:
        return f"{spec.workers} workers share the load, and one worker has to hold the connections of all arms"
    return _shared_address(spec.arms)


def _shared_address(arms: Mapping[str, Arm]) -> str:
    """Two arms at one address; "" if there are none."""
    taken: dict[str, str] = {}
    for name, arm in arms.items():
        address = _address(arm)
        if address and address in taken:
            return (
                f"arms {taken[address]} and {name} have the same address, {address}: two servers cannot listen there "
                "at once, and one server would answer the second arm from its prefix cache"
            )
        taken[address] = name
    return ""


def _address(arm: Arm) -> str:
    """The fixed address of the arm's server; "" for a server that gets a free port at its start."""
    if arm.url:
        return redacted_text(arm.url.rstrip("/"))
    words = arm.command.split() if isinstance(arm.command, str) else (*arm.args, *arm.command)
    for place, word in enumerate(words):
        value = word.partition("=")[2] if word.startswith("--port=") else ""
        if word == "--port" and place + 1 < len(words):
            value = words[place + 1]
        if value.isdecimal() and value != "0":
            return f"port {value}"
    return ""
