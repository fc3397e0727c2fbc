"""Recording of one trial: everything goes into the store as it happens, and is read from there at the end of the trial.

Nothing of a finished request stays in memory, which would grow in a run of hours.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, cast

import msgspec

from inferometer.base.redactor import Redactor
from inferometer.core.record import Events, Fact, Finding, RequestRecord, Sample, Trial
from inferometer.store import Store


class TrialRecorder:
    """One trial in the store. `facts` and `findings` are collected here and stored at the end."""

    def __init__(self, store: Store, begun: Trial, redactor: Redactor) -> None:
        """`begun`: the trial as far as it is known before it starts. `redactor` hides secrets in all texts."""
        self.facts: list[Fact] = []
        self.findings: list[Finding] = []
        self._store = store
        self._begun = begun
        self._redactor = redactor
        self._id = store.begin_trial(begun.arm, begun.number, begun.draft_asked, begun.started_at)
        self._plan_started_ns: int | None = None

    def plan_started(self, at_ns: int) -> None:
        self._plan_started_ns = at_ns
        self._store.set_plan_started(self._id, at_ns)

    def add_record(self, record: RequestRecord) -> RequestRecord:
        """Stores the record; the same record without secrets in what the server wrote."""
        record = redacted_record(record, self._redactor)
        self._store.add_record(self._id, record)
        return record

    def add_samples(self, samples: Iterable[Sample]) -> None:
        self._store.add_samples(self._id, samples)

    def records(self) -> Sequence[RequestRecord]:
        """The records so far, by index."""
        return self._store.records(self._id)

    def set_our_tokens(self, counts: Mapping[int, int]) -> None:
        """`counts`: tokens of each output by our own tokenizer, by record index."""
        self._store.set_our_tokens(self._id, dict(counts))

    def hide(self, secrets: Iterable[str]) -> None:
        """Hides these too from now on: the engine's own headers."""
        self._redactor = self._redactor.with_values(secrets)

    def commit(self) -> None:
        self._store.commit()

    def commit_when_due(self) -> None:
        self._store.commit_when_due()

    def redacted(self, text: str) -> str:
        return self._redactor.redact(text)

    def end(self, state: Literal["done", "failed"], error: str) -> Trial:
        """Stores the end of the trial; the whole trial, equal to what a reader of the store gets."""
        facts = tuple(msgspec.structs.replace(fact, value=self.redacted(fact.value)) for fact in self.facts)
        findings = [
            msgspec.structs.replace(one, message=self.redacted(one.message), action=self.redacted(one.action))
            for one in self.findings
        ]
        self._store.end_trial(self._id, state, error, facts, findings)
        return msgspec.structs.replace(
            self._begun,
            state=state,
            error=error,
            plan_started_ns=self._plan_started_ns,
            records=self.records(),
            samples=self._store.samples(self._id),
            facts=facts,
            findings=tuple(findings),
        )


def redacted_record(record: RequestRecord, redactor: Redactor) -> RequestRecord:
    """The record without secrets in any text that the server wrote. The answer's text keeps its length."""
    events = cast("Events", record.events)
    masked = redactor.mask(events.text)
    if masked != events.text:
        events = Events(events.at_ns, events.kinds, events.chars, masked, events.tokens)
    return msgspec.structs.replace(
        record,
        events=events,
        error=redactor.redact(record.error),
        model=None if record.model is None else redactor.redact(record.model),
        finish_reason=None if record.finish_reason is None else redactor.redact(record.finish_reason),
    )
