"""What happened? Facts only: one record a request, samples of the machine, and the trial that holds them.

All times are int nanoseconds from the trial's start (before its engine is started), on one host's monotonic clock.
"""

import array
import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import Literal, cast, get_args, overload

import msgspec

EventKind = Literal["role", "text", "reasoning", "tool", "empty", "usage", "done", "error"]
"""What one server-sent event brought: `role` names the speaker without content; `text`, `reasoning` and `tool` are
output (`text` may be "": some engines send `content: ""`); `empty` has choices without output (a finish chunk); `usage`
has no choices; `done` is [DONE]."""

KINDS: tuple[EventKind, ...] = get_args(EventKind)
OUTPUT_KINDS: frozenset[EventKind] = frozenset({"text", "reasoning", "tool"})
_OUTPUT_CODES = frozenset(KINDS.index(kind) for kind in OUTPUT_KINDS)
_TEXT_CODE = KINDS.index("text")
_UNSEEN_CODES = tuple(code for code in range(len(KINDS)) if KINDS[code] in ("reasoning", "tool", "error"))

Outcome = Literal[
    "ok", "http_error", "refused", "cut", "no_tokens", "bad_stream", "timeout", "cancelled", "server_error", "lost"
]
"""How a request ended: `refused` = no connection; `cut` = closed in the middle; `no_tokens` = a complete answer without
output; `bad_stream` = not the API's format; `server_error` = an error object inside the stream; `lost` = the
load worker that sent it died."""


class Fact(msgspec.Struct, frozen=True):
    """Something known about the machine or the engine, and how it is known."""

    name: str
    value: str
    source: str


class Event(msgspec.Struct, frozen=True, gc=False):
    """One server-sent event as it arrived. `text` is the output it brought ("" for other kinds); `tokens` how many
    tokens that is by the server's own word, 0 where the event did not tell."""

    at_ns: int
    kind: EventKind
    text: str = ""
    tokens: int = 0


class Events(Sequence[Event]):
    """The events of one answer in columns: `at_ns` (i64), `kinds` (each a place in KINDS), `chars` (u32: code points),
    all texts in one, and `tokens` (u32; empty where no event told, as is common). 13 bytes an event and the text, where
    an Event is 140."""

    __slots__ = ("_outputs_ns", "at_ns", "chars", "kinds", "text", "tokens")

    def __init__(
        self,
        at_ns: "array.array[int]",
        kinds: bytes,
        chars: "array.array[int]",
        text: str,
        tokens: "array.array[int] | None" = None,
    ) -> None:
        """Raises ValueError where the columns do not fit one another."""
        tokens = array.array("I") if tokens is None else tokens
        fit = len(at_ns) == len(kinds) == len(chars) and sum(chars) == len(text) and len(tokens) in (0, len(kinds))
        if not fit or (kinds and max(kinds) >= len(KINDS)):
            raise ValueError("the columns of these events do not fit one another")
        self.at_ns = at_ns
        self.kinds = kinds
        self.chars = chars
        self.text = text
        self.tokens = tokens
        self._outputs_ns: array.array[int] | None = None

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

    def outputs_ns(self) -> list[int]:
        """When each event came that brought output (see `brings_output`), in order."""
        if self._outputs_ns is None:  # asked for by many
            rows = zip(self.at_ns, self.kinds, self.chars, strict=True)
            found = [at_ns for at_ns, kind, chars in rows if kind in _OUTPUT_CODES and (chars or kind != _TEXT_CODE)]
            self._outputs_ns = array.array("q", found)
            return found
        return self._outputs_ns.tolist()

    def answer(self) -> str:
        """All of the text, without reasoning and tool calls."""
        if not any(code in self.kinds for code in _UNSEEN_CODES):
            return self.text
        return "".join(event.text for event in self if event.kind == "text")

    def outputs(self) -> tuple[list[int], list[int], list[int]]:
        """Of the events that brought output (see `brings_output`), in order: when each came, its code points, and the
        tokens that it told of, empty where none did."""
        if not self.tokens:
            rows = zip(self.at_ns, self.kinds, self.chars, strict=True)
            some = [
                (at_ns, chars) for at_ns, kind, chars in rows if kind in _OUTPUT_CODES and (chars or kind != _TEXT_CODE)
            ]
            return [at_ns for at_ns, _ in some], [chars for _, chars in some], []
        full = zip(self.at_ns, self.kinds, self.chars, self.tokens, strict=True)
        told = [(a, c, t) for a, kind, c, t in full if kind in _OUTPUT_CODES and (c or kind != _TEXT_CODE)]
        return [a for a, _, _ in told], [c for _, c, _ in told], [t for _, _, t in told]

    def first_output_ns(self) -> int | None:
        """When the first of those came; None where none did."""
        rows = zip(self.at_ns, self.kinds, self.chars, strict=True)
        return next((at for at, kind, chars in rows if kind in _OUTPUT_CODES and (chars or kind != _TEXT_CODE)), None)

    def __len__(self) -> int:
        return len(self.kinds)

    def __iter__(self) -> Iterator[Event]:
        start = 0
        told = self.tokens or itertools.repeat(0)
        for at_ns, kind, chars, tokens in zip(self.at_ns, self.kinds, self.chars, told, strict=False):
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
    """Token counts by the server. `cached_tokens`: prompt tokens taken from its prefix cache, None if not told."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cached_tokens: int | None = None


class ServerTimings(msgspec.Struct, frozen=True, omit_defaults=True):
    """llama.cpp's `timings` of one request; None where the server did not say. Times in ms, by the server's clock."""

    cache_n: int | None = None
    prompt_n: int | None = None
    prompt_ms: float | None = None
    predicted_n: int | None = None
    predicted_ms: float | None = None
    draft_n: int | None = None
    draft_n_accepted: int | None = None


class RequestRecord(msgspec.Struct, frozen=True):
    """What happened to one request.

    `due_ns`: when it should have been sent; None in a closed loop before a slot was free, where it is due at once.
    `sent_ns`: just before its first byte was handed to the kernel. `done_ns`: the end of the response or of the hope
    for one. `events` in order of arrival; `coalesced`: events that were read together with the one before, so that
    they share its stamp. `stamp_errors`: reads whose kernel stamp lay before the sending or after the reading, and
    which have the time of the reading instead. `our_tokens`: the output counted again by our tokenizer, if any.
    `resent`: how often an idle connection turned out to be closed and the request went out again.
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
        """When each event came that brought output, in order."""
        return cast("Events", self.events).outputs_ns()

    @property
    def first_output_ns(self) -> int | None:
        """When the first of them came; None where none did."""
        return cast("Events", self.events).first_output_ns()

    @property
    def text(self) -> str:
        """The output as a reader sees it: answer text without reasoning and tool calls."""
        return cast("Events", self.events).answer()


def brings_output(event: Event) -> bool:
    """Whether a reader got something by it: a chunk of text that is empty shows nothing."""
    return event.kind in OUTPUT_KINDS and (event.kind != "text" or event.text != "")


class Sample(msgspec.Struct, frozen=True):
    """One reading of a probe. `pid` or `device` says of what; both None: of the whole machine or process tree."""

    at_ns: int
    source: str
    quantity: str
    value: float
    pid: int | None = None
    device: str | None = None


class Finding(msgspec.Struct, frozen=True):
    """Something that bears on whether a result may be believed: `message` says what with its evidence, `action` what to
    do about it. `arm` "" is all of them, `trial` None all of the arm's. `withholds`: the inputs (`metrics.row_inputs`)
    whose rows get no verdict; an invalid finding without any withholds all verdicts of its arm."""

    severity: Literal["note", "warning", "invalid"]
    code: str
    message: str
    action: str = ""
    arm: str = ""
    trial: int | None = None
    withholds: tuple[str, ...] = ()

    @property
    def sentence(self) -> str:
        """Where, what, and what to do."""
        trial = "" if self.trial is None else f", trial {self.trial}"
        where = f"{self.arm}{trial}: " if self.arm else ""
        return f"{where}{self.message}{f' {self.action}' if self.action else ''}"


class Trial(msgspec.Struct, frozen=True):
    """One plan played against one started arm: facts only, judgement is made elsewhere.

    `number` counts this arm's trials from 1. `plan_started_ns`: when the measured part of the plan began; None when it
    never did. `state`: `failed` trials carry `error`; `running` ones were cut off. `started_at`: the time of day, ISO
    8601 with its zone.
    """

    arm: str
    number: int
    state: Literal["running", "done", "failed"]
    plan_started_ns: int | None = None
    records: tuple[RequestRecord, ...] = ()
    samples: tuple[Sample, ...] = ()
    facts: tuple[Fact, ...] = ()
    findings: tuple[Finding, ...] = ()
    draft_asked: bool = False
    error: str = ""
    started_at: str = ""
