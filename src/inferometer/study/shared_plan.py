"""The plan of a study, which every trial plays: made at the first trial, when an engine's tokenizer can count."""

import threading

import msgspec
from numpy.random import RandomState

from inferometer.base.errors import RequestWrong
from inferometer.core import plan as plans
from inferometer.core.plan import Plan
from inferometer.core.request import Request, TokenCounter, Workload
from inferometer.core.spec import Spec
from inferometer.store import Store

WARMUP_TOKENS = 32


class SharedPlan:
    """`notes` and `workload` are what the study stores with the plan: remarks about the workload, and the source of the
    requests. A resumed study has all of it from the start."""

    def __init__(self, spec: Spec, source: Workload, store: Store, workers: int) -> None:
        self.plan = store.plan()
        self.notes = store.notes()
        self.workload = store.workload()
        self._spec = spec
        self._store = store
        self._workers = workers
        self._source = source
        self._turn = threading.Lock()  # of parallel trials the first one makes the plan

    def for_trial(self, counter: TokenCounter | None) -> tuple[Plan, tuple[str, ...]]:
        """The plan, and the notes of its workload where this call made it. Raises RequestWrong where the plan cannot be
        made."""
        with self._turn:
            if self.plan is not None:
                return self.plan, ()
            self.plan = self._make(counter)
            return self.plan, self.notes

    def _make(self, counter: TokenCounter | None) -> Plan:
        spec = self._spec
        sampled = self._source.sample(spec.seed, counter)
        asked = {request.messages for request in sampled.requests}  # a data set may hold a prompt more than once
        spare = [_as_warmup(request) for request in sampled.spare if request.messages not in asked][: spec.warmups]
        spare += [plans.warmup_request(n, WARMUP_TOKENS) for n in range(len(spare), spec.warmups)]
        rng = RandomState(spec.seed)
        plan = plans.build(sampled.requests, spare, spec.schedule, spec.seed, rng, sampled.recorded_ns)
        try:
            plans.shard(plan, 0, self._workers)
        except ValueError as error:
            raise RequestWrong(f"{error}: give fewer --workers, or more requests") from error
        tokenizer = counter.name if counter is not None else "none"
        self.workload = dict(sampled.source) | {"tokenizer": tokenizer}
        self.notes = sampled.notes
        self._store.set_meta("workload", self.workload)
        self._store.set_meta("notes", self.notes)
        self._store.set_meta("plan", plan)
        return plan


def _as_warmup(request: Request) -> Request:
    tokens = WARMUP_TOKENS if request.max_tokens is None else min(request.max_tokens, WARMUP_TOKENS)
    return msgspec.structs.replace(request, max_tokens=tokens)
