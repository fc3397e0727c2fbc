"""Measured facts: request records, samples of the machine, and the trial that holds them.

All times are int nanoseconds since the trial's start (before its engine starts), on one host's monotonic clock.
"""

import array
import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import Literal, cast, get_args, overload

import msgspec

EventKind = Literal["role", "text", "reasoning", "tool", "empty", "usage", "done", "error"]
"""The content of one server-sent event: `role` names the speaker without content; `text`, `reasoning` and `tool` are
output (`text` may be "": some engines send `content: ""`); `empty` has choices without output (a finish chunk); `usage`
has no choices; `done` is [DONE]."""

KINDS: tuple[EventKind, ...] = get_args(EventKind)
OUTPUT_KINDS: frozenset[EventKind] = frozenset({"text", "reasoning", "tool"})
"""Events that add something for a reader. An event of text without a character (`chars` 0) adds nothing: it is not an
output."""
OUTPUT_CODES = frozenset(KINDS.index(kind) for kind in OUTPUT_KINDS)
TEXT_CODE = KINDS.index("text")
_IS_TEXT = bytes(code == TEXT_CODE for code in range(256))
_IS_OUTPUT = bytes(code in OUTPUT_CODES for code in range(256))
_IS_SILENT = bytes(code not in OUTPUT_CODES for code in range(256))
_UNSEEN_CODES = tuple(code for code in range(len(KINDS)) if KINDS[code] in ("reasoning", "tool", "error"))

Outcome = Literal[
    "ok", "http_error", "refused", "cut", "no_tokens", "bad_stream", "timeout", "cancelled", "server_error", "lost"
]
"""How a request ended: `refused` = no connection; `cut` = connection closed during the answer; `no_tokens` = a complete
answer without output; `bad_stream` = not the API's format; `server_error` = an error object inside the stream; `lost` =
the load worker that sent it died."""


class Fact(msgspec.Struct, frozen=True):
    """A fact about the machine, the engine or the trial. `name`: from `core.quantities`; `source`: how it is known."""

    name: str
    value: str
    source: str


class Event(msgspec.Struct, frozen=True, gc=False):
    """One server-sent event as it arrived. `text`: its output ("" for other kinds). `tokens`: the number of tokens in
    it that the server states; 0 if the event states none."""

    at_ns: int
    kind: EventKind
    text: str = ""
    tokens: int = 0


class Events(Sequence[Event]):
    """The events of one answer in columns: `at_ns` (i64), `kinds` (indices in KINDS), `chars` (code points; unsigned,
    any width), all texts joined, and `tokens` (u32; usually empty, because no event states a count). An event takes 10
    to 13 bytes and its text; an Event object takes 140."""

    __slots__ = ("_outputs_ns", "at_ns", "chars", "kinds", "text", "tokens")

    def __init__(
        self,
        at_ns: "array.array[int]",
        kinds: bytes,
        chars: "array.array[int]",
        text: str,
        tokens: "array.array[int] | None" = None,
    ) -> None:
        """Raises ValueError if the columns do not fit together."""
        tokens = array.array("I") if tokens is None else tokens
        fit = len(at_ns) == len(kinds) == len(chars) and sum(chars) == len(text) and len(tokens) in (0, len(kinds))
        if not fit or (kinds and max(kinds) >= len(KINDS)):
            raise ValueError("the columns of these events do not fit together")
        self.at_ns = at_ns
        self.kinds = kinds
        self.chars = chars
        self.text = text
        self.tokens = tokens
        self._outputs_ns: array.array[int] | memoryview[int] | None = None

    @classmethod
    def of(cls, events: Iterable[Event]) -> "Events":
        events = tuple(events)
        texts = [event.text for event in events]
        return cls(
            array.array("q", [event.at_ns for event in events]),
            bytes([KINDS.index(event.kind) for event in events]),
            array.array("I", map(len, texts)),
            "".join(texts),
            array.array("I", [event.tokens for event in events]) if any(event.tokens for event in events) else None,
        )

    def outputs_ns(self) -> "array.array[int] | memoryview[int]":
        """Arrival time of each event with output (see `OUTPUT_KINDS`), in order."""
        if self._outputs_ns is None:  # several metrics use it
            if 0 in itertools.compress(self.chars, self.kinds.translate(_IS_TEXT)):
                rows = zip(self.at_ns, self.kinds, self.chars, strict=True)
                found = (at_ns for at_ns, kind, chars in rows if kind in OUTPUT_CODES and (chars or kind != TEXT_CODE))
            else:
                found = itertools.compress(self.at_ns, self.kinds.translate(_IS_OUTPUT))
            self._outputs_ns = array.array("q", found)
        return self._outputs_ns

    def keep_outputs_ns(self, found: "memoryview[int]") -> None:
        """Keeps what `outputs_ns` would compute: of many answers at once it is computed faster."""
        self._outputs_ns = found

    def all_output(self) -> str:
        """Everything that the model wrote, including reasoning and tool calls."""
        if not any(itertools.compress(self.chars, self.kinds.translate(_IS_SILENT))):
            return self.text
        return "".join(event.text for event in self if event.kind in OUTPUT_KINDS)

    def answer(self) -> str:
        """The whole text, without reasoning and tool calls."""
        if not any(code in self.kinds for code in _UNSEEN_CODES):
            return self.text
        return "".join(event.text for event in self if event.kind == "text")

    def outputs(self) -> tuple[list[int], list[int], list[int]]:
        """Arrival time, code points and stated tokens of each event with output (see `OUTPUT_KINDS`), in order. The
        tokens are empty if no event states them."""
        if not self.tokens:
            rows = zip(self.at_ns, self.kinds, self.chars, strict=True)
            some = [
                (at_ns, chars) for at_ns, kind, chars in rows if kind in OUTPUT_CODES and (chars or kind != TEXT_CODE)
            ]
            return [at_ns for at_ns, _ in some], [chars for _, chars in some], []
        full = zip(self.at_ns, self.kinds, self.chars, self.tokens, strict=True)
        stated = [(a, c, t) for a, kind, c, t in full if kind in OUTPUT_CODES and (c or kind != TEXT_CODE)]
        return [a for a, _, _ in stated], [c for _, c, _ in stated], [t for _, _, t in stated]

    def first_output_ns(self) -> int | None:
        """Arrival time of the first event with output; None without one."""
        rows = zip(self.at_ns, self.kinds, self.chars, strict=True)
        return next((at for at, kind, chars in rows if kind in OUTPUT_CODES and (chars or kind != TEXT_CODE)), None)

    def __len__(self) -> int:
        return len(self.kinds)

    def __iter__(self) -> Iterator[Event]:
        start = 0
        tokens_of_each = self.tokens or itertools.repeat(0)
        for at_ns, kind, chars, tokens in zip(self.at_ns, self.kinds, self.chars, tokens_of_each, strict=False):
            yield Event(at_ns, KINDS[kind], self.text[start : start + chars], tokens)
            start += chars

    @overload
    def __getitem__(self, index: int) -> Event: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[Event]: ...

    def __getitem__(self, index: int | slice) -> Event | Sequence[Event]:
        return tuple(self)[index]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and tuple(self) == tuple(cast("Sequence[Event]", other))

    def __hash__(self) -> int:
        return hash(tuple(self))

    def __repr__(self) -> str:
        return repr(tuple(self))


class TokenUsage(msgspec.Struct, frozen=True, omit_defaults=True):
    """Token counts by the server. `cached_tokens`: prompt tokens from its prefix cache. `reasoning_tokens`: output
    tokens that are reasoning. None: not stated."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cached_tokens: int | None = None
    reasoning_tokens: int | None = None


class ServerTimings(msgspec.Struct, frozen=True, omit_defaults=True):
    """llama.cpp's `timings` of one request; None: not stated. Times in ms, by the server's clock."""

    cache_n: int | None = None
    prompt_n: int | None = None
    prompt_ms: float | None = None
    predicted_n: int | None = None
    predicted_ms: float | None = None
    draft_n: int | None = None
    draft_n_accepted: int | None = None


class RequestRecord(msgspec.Struct, frozen=True):
    """The course of one request.

    `due_ns`: when it should be sent; None in a closed loop, where it is due when a slot becomes free. `sent_ns`: just
    before the kernel received its first byte, the first time if it was sent again. `done_ns`: the end of the response,
    or of the wait for one. `events`: in order of arrival. `coalesced`: events that were read together with the previous
    one and share its time stamp. `stamp_errors`: reads whose kernel time stamp was before the sending or after the
    reading; they have the time of the reading instead. `our_tokens`: output tokens counted by our tokenizer, if any.
    `resent`: how often the request was sent again because an idle connection had been closed.
    """

    index: int
    request_id: str
    measured: bool
    outcome: Outcome
    due_ns: int | None
    sent_ns: int | None
    done_ns: int
    first_byte_ns: int | None = None
    events: Sequence[Event] = ()
    status: int | None = None
    finish_reason: str | None = None
    usage: TokenUsage | None = None
    timings: ServerTimings | None = None
    model: str | None = None
    error: str = ""
    coalesced: int = 0
    stamp_errors: int = 0
    resent: int = 0
    connected_ns: int | None = None
    prompt_tokens: int | None = None
    our_tokens: int | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.events, Events):
            msgspec.structs.force_setattr(self, "events", Events.of(self.events))

    @property
    def ok(self) -> bool:
        return self.outcome == "ok"

    @property
    def outputs_ns(self) -> list[int]:
        """Arrival time of each event with output, in order."""
        return cast("Events", self.events).outputs_ns().tolist()

    @property
    def first_output_ns(self) -> int | None:
        """Arrival time of the first event with output; None without one."""
        return cast("Events", self.events).first_output_ns()

    @property
    def text(self) -> str:
        """The answer text that a reader sees, without reasoning and tool calls."""
        return cast("Events", self.events).answer()


CheckResult = Literal["passed", "failed", "timeout", "no_answer", "no_toolchain"]
"""Outcome of the check of an answer: `timeout` = the program ran too long; `no_toolchain` = the machine cannot run
programs in this language, so that the answer counts neither way."""


class AnswerCheck(msgspec.Struct, frozen=True, omit_defaults=True):
    """The check of the answer to the request with this index. `reason`: why it did not pass. `base_passed`: outcome of
    the base tests alone; None where a problem set has no other tests."""

    index: int
    result: CheckResult
    reason: str = ""
    base_passed: bool | None = None

    @property
    def passed(self) -> bool | None:
        """None if the answer could not be checked."""
        return None if self.result == "no_toolchain" else self.result == "passed"


class Sample(msgspec.Struct, frozen=True):
    """One reading of a probe. `quantity`: from `core.quantities`. It describes `pid` or `device`; both None: the whole
    machine or process tree."""

    at_ns: int
    source: str
    quantity: str
    value: float
    pid: int | None = None
    device: str | None = None


class Finding(msgspec.Struct, frozen=True):
    """A problem with the validity of a result. `message`: the problem and its evidence; `action`: what to do. `arm` "":
    all arms; `trial` None: all trials of the arm. `withholds`: inputs (`metrics.row_inputs`) whose rows get no verdict;
    an invalid finding without `withholds` suppresses all verdicts of its arm."""

    severity: Literal["note", "warning", "invalid"]
    code: str
    message: str
    action: str = ""
    arm: str = ""
    trial: int | None = None
    withholds: tuple[str, ...] = ()

    @property
    def sentence(self) -> str:
        """The place, the problem and the action."""
        trial = "" if self.trial is None else f", trial {self.trial}"
        where = f"{self.arm}{trial}: " if self.arm else ""
        return f"{where}{self.message}{f' {self.action}' if self.action else ''}"


INTERRUPTED = "interrupted"
"""The error of a trial that the user interrupted."""


class Trial(msgspec.Struct, frozen=True):
    """One plan played against one started arm: measured facts without judgement.

    `number` counts this arm's trials from 1. `plan_started_ns`: the start of the measured part of the plan; None if it
    never started. `state`: `failed` trials have an `error`; `running` ones were interrupted. `started_at`: time of day,
    ISO 8601 with its zone. `checks`: outcomes of the answers' checks, as far as they have run.
    """

    arm: str
    number: int
    state: Literal["running", "done", "failed"]
    plan_started_ns: int | None = None
    records: Sequence[RequestRecord] = ()
    samples: tuple[Sample, ...] = ()
    facts: tuple[Fact, ...] = ()
    findings: tuple[Finding, ...] = ()
    draft_asked: bool = False
    error: str = ""
    started_at: str = ""
    checks: tuple[AnswerCheck, ...] = ()
