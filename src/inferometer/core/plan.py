"""Plan of a trial: every request and its due time, fixed before the clock starts and equal for every arm."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec

from inferometer.base.errors import RequestWrong
from inferometer.core.request import Request, user_request
from inferometer.core.schedule import Replay, Schedule, concurrency_limit

if TYPE_CHECKING:
    from numpy.random import RandomState


class PlanItem(msgspec.Struct, frozen=True, omit_defaults=True):
    """One request and its due time, ns from the plan's start; None: when a slot becomes free (closed loop).

    Items that are not `measured` are warm-ups: they are sent and answered before the plan's clock starts.
    """

    index: int
    request: Request
    due_ns: int | None
    measured: bool = True


class Plan(msgspec.Struct, frozen=True):
    """The warm-ups first, then the measured items by due time. `concurrency` None: no limit."""

    items: tuple[PlanItem, ...]
    concurrency: int | None
    seed: int

    @property
    def measured(self) -> tuple[PlanItem, ...]:
        return tuple(item for item in self.items if item.measured)

    @property
    def warmups(self) -> tuple[PlanItem, ...]:
        return tuple(item for item in self.items if not item.measured)


def build(
    measured: Sequence[Request],
    warmups: Sequence[Request],
    schedule: Schedule,
    seed: int,
    rng: "RandomState",
    recorded_ns: Sequence[int] = (),
) -> Plan:
    """A plan of `warmups`, then `measured` at the due times of the schedule, or at the workload's `recorded_ns`.

    Raises ValueError if a warm-up has the prompt of a measured request: it would fill the server's prefix cache.
    Raises RequestWrong for a replay of a workload without recorded times.
    """
    measured_prompts = {request.messages for request in measured}
    if any(request.messages in measured_prompts for request in warmups):
        raise ValueError("a warm-up repeats a measured prompt")
    before = [PlanItem(i, request, None, measured=False) for i, request in enumerate(warmups)]
    if isinstance(schedule, Replay):
        if len(recorded_ns) != len(measured):
            raise RequestWrong(
                "schedule: replay needs a workload with recorded times. Use such a workload, or another schedule."
            )
        due: Sequence[int | None] = schedule.due_ns_of(recorded_ns)
    else:
        due = schedule.due_ns(len(measured), rng)
    after = [PlanItem(len(before) + i, request, due[i]) for i, request in enumerate(measured)]
    return Plan((*before, *after), concurrency_limit(schedule), seed)


def shard(plan: Plan, part: int, parts: int) -> Plan:
    """Part `part` of `parts`: every `parts`-th measured item and a share of the concurrency; part 0 has all warm-ups.

    Together, the parts are the plan. Raises ValueError if `parts` exceeds the measured items or the concurrency.
    """
    if parts > len(plan.measured) or (plan.concurrency is not None and parts > plan.concurrency):
        raise ValueError(
            f"a plan of {len(plan.measured)} requests, {plan.concurrency} at once, cannot have {parts} parts"
        )
    concurrency = None
    if plan.concurrency is not None:
        concurrency = plan.concurrency // parts + (part < plan.concurrency % parts)
    return Plan((*(plan.warmups if part == 0 else ()), *plan.measured[part::parts]), concurrency, plan.seed)


def with_prefix(plan: Plan, prefix: str) -> Plan:
    """The plan with `prefix` before the first message of each request."""

    def prefixed(item: PlanItem) -> PlanItem:
        first, *others = item.request.messages
        messages = (msgspec.structs.replace(first, content=prefix + first.content), *others)
        return msgspec.structs.replace(item, request=msgspec.structs.replace(item.request, messages=messages))

    return msgspec.structs.replace(plan, items=tuple(map(prefixed, plan.items))) if prefix else plan


def warmup_request(number: int, max_tokens: int | None) -> Request:
    """A generated warm-up, for workloads without spare prompts. Warm-ups of different numbers share no prefix."""
    subjects = ("a queue", "a clock", "a matrix", "a parser", "a ledger", "a graph", "a cache", "a maze")
    subject = subjects[number % len(subjects)]
    text = f"{number + 1} warm-up: describe {subject} in a short paragraph, then name three uses of it."
    return user_request(f"warmup-{number}", text, max_tokens=max_tokens)
