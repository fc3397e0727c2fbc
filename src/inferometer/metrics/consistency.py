"""Contradictions: numbers that a server reports and that a known fact refutes.

Known facts are the text that was sent, the text that came back, the limit that was asked for, and the server's other
numbers. A refuted number is never used: `request_timing` takes the next source, or none.
"""

from collections.abc import Iterator
from itertools import pairwise
from typing import Literal, cast

import msgspec

from inferometer.core.record import KINDS, Events, RequestRecord
from inferometer.core.request import Request
from inferometer.metrics.shared_waits import NO_WAITS, AfterBlank, Waits

ReportedNumber = Literal[
    "output_tokens", "prompt_tokens", "cached_tokens", "draft_counts", "first_token", "token_times"
]
"""What a number is about. `metrics.row_inputs` says which rows rest on it."""

UNSEEN_TOKENS = 24
"""Tokens that an answer may have beyond its text: an end token, a role's header, marks of channels and thoughts."""
UNSEEN_TOOL_TOKENS = 64
"""Tokens around a tool call that its name and arguments do not show."""
TEMPLATE_TOKENS = 512
"""Tokens that a chat template may add to a prompt: a date, a default system prompt, rules for tools. Templates in use
add up to about 300."""
MOST_BYTES_PER_TOKEN = 24
"""A prompt has more tokens than its bytes over 24: prose has 4 to 5 bytes a token, code with deep indentation up to
12."""
LEAST_PROMPT_BYTES = 480
"""Shorter prompts are not checked for having been cut: a template hides the difference."""
PIECE_BYTES = 2.5
"""Pieces of text shorter than this on average may be parts of tokens: a proxy may stream character by character."""
TWO_COUNTS = 2
"""By how much two counts of one server may differ: one of them may count an end token."""
THOUGHT_CHARACTERS = 24
TEXT_PER_TOKEN = 9
"""Reasoning of 24 characters and more is not counted if the count covers only the other pieces, or if a token of the
count has more than 9 characters of all that was written: prose has 4 to 5 a token, and code up to 8."""
HIDDEN_TOKENS = 8
"""Tokens of reasoning that were counted and not streamed: fewer are marks around an empty thought."""
LETTERS_PER_TOKEN = 2.0
LETTERS_SHARE = 0.5
HIDDEN_LEAST_PIECES = 8
"""Text that is mostly ASCII letters has 4 to 5 characters a token. With fewer than 2, and half as many tokens again as
pieces, the count is of more than the text. Digits and other scripts may have several tokens a character."""
BLANK_GAPS = 5.0
BLANK_LEAST_NS = 50_000_000
BLANK_USUAL_NS = 5_000_000
"""Blank text is not a first token if the first visible text comes more than 5 usual gaps, and 50 ms, after it; or 5 ms
where most answers of a trial do so: a busy machine stalls some. A model that begins with a line break continues at its
usual pace; a blank that only keeps the connection open does not. A wait that other answers share is not the blank's
(`shared_waits`)."""
ECHO_CHARACTERS = 48
"""A first text of 48 characters and more that the prompt begins with is its echo: no token is as long."""
_TIMES: tuple[ReportedNumber, ...] = ("first_token", "token_times")
_NO_WIDTH = "\u200b\u2060\ufeff"

_DONE_CODE = bytes([KINDS.index("done")])
_TOOL_CODE = bytes([KINDS.index("tool")])
_REASONING = KINDS.index("reasoning")


class Contradiction(msgspec.Struct, frozen=True):
    """A number that cannot be true. `about`: which; `reason`: what was reported and what refutes it."""

    about: ReportedNumber
    reason: str


def contradictions(
    record: RequestRecord, request: Request | None = None, waits: Waits = NO_WAITS
) -> tuple[Contradiction, ...]:
    """Everything that this record contradicts; empty for a request that failed. `request`: what was asked. `waits`: of
    the other answers of its trial."""
    if not record.ok:
        return ()
    return (
        *_output_counts(record, request),
        *_prompt_counts(record, request),
        *_draft_counts(record),
        *_first_token(record, waits),
        *_echo(record, request),
        *_hidden_reasoning(record),
    )


def first_token_refuted(record: RequestRecord, waits: Waits = NO_WAITS) -> bool:
    """Whether the first text was not a token. `waits`: of the other answers of its trial."""
    return record.ok and any(one.about == "first_token" for one in _first_token(record, waits))


def first_token_doubted(record: RequestRecord, waits: Waits = NO_WAITS) -> bool:
    """Whether the first text was not a token if most answers of the trial are like this one."""
    blank = _after_blank(record) if record.ok else None
    return blank is not None and is_late(blank, BLANK_USUAL_NS, waits)


def without_blanks(text: str) -> str:
    """`text` without the blanks at its beginning, also those without a width."""
    found = text.lstrip()
    while found[:1] and found[0] in _NO_WIDTH:
        found = found.lstrip(_NO_WIDTH).lstrip()
    return found


BLANK_FIRST = Contradiction("first_token", "the first text is blank in most answers, and visible text follows late")


def refuted(record: RequestRecord, request: Request | None, about: ReportedNumber, count: int | None) -> str:
    """Why `count` cannot be the answer's or the prompt's number of tokens; "" if it may be."""
    if count is None:
        return ""
    if about == "output_tokens":
        return _output_count(record, request, count)
    return _prompt_count(request, count) if about == "prompt_tokens" else ""


# --- the answer -----------------------------------------------------------------------------------


def _output_counts(record: RequestRecord, request: Request | None) -> Iterator[Contradiction]:
    by_usage = record.usage.completion_tokens if record.usage else None
    by_timings = record.timings.predicted_n if record.timings else None
    for source, count in (("usage", by_usage), ("timings", by_timings)):
        if reason := refuted(record, request, "output_tokens", count):
            yield Contradiction("output_tokens", f"{source} {reason}")
            return
    if by_usage is not None and by_timings is not None and abs(by_usage - by_timings) > TWO_COUNTS:
        yield Contradiction("output_tokens", f"usage reports {by_usage} output tokens, and timings {by_timings}")


def _output_count(record: RequestRecord, request: Request | None, count: int) -> str:
    events = cast("Events", record.events)
    size, pieces = len(events.text.encode(errors="surrogatepass")), len(events.outputs_ns())
    said = f"reports {count} output tokens"
    if count <= 0:
        return f"{said} for {size} bytes of text"
    unseen = UNSEEN_TOKENS + UNSEEN_TOOL_TOKENS * events.kinds.count(_TOOL_CODE)
    if count > size + unseen:
        return f"{said} for {size} bytes of text: a token has at least one byte"
    if request is not None and request.max_tokens is not None and count > request.max_tokens + 1:
        return f"{said}, and the request allowed {request.max_tokens}"
    if count < 0.9 * pieces - 1 and size >= PIECE_BYTES * pieces:
        return f"{said}, and the text came in {pieces} pieces"
    if _leaves_thoughts_out(events, count):
        return f"{said}: the reasoning is not counted"
    return _more_than_text(record, count)


def _leaves_thoughts_out(events: Events, count: int) -> bool:
    """Whether the count is of the text without the reasoning that was streamed with it."""
    thoughts = _thought_characters(events)
    if sum(thoughts) < THOUGHT_CHARACTERS:
        return False
    stamps, all_chars, _ = events.outputs()
    pieces, chars = len(stamps) - len(thoughts), sum(all_chars) - sum(thoughts)
    only_pieces = count <= pieces + TWO_COUNTS and chars >= PIECE_BYTES * pieces
    return only_pieces or sum(all_chars) / TEXT_PER_TOKEN > count


def mostly_letters(text: str) -> bool:
    """Whether most of the text is ASCII letters."""
    return sum(character.isascii() and character.isalpha() for character in text) >= LETTERS_SHARE * len(text)


def _thought_characters(events: Events) -> list[int]:
    """Characters of each piece of reasoning."""
    if _REASONING not in events.kinds:
        return []
    return [chars for kind, chars in zip(events.kinds, events.chars, strict=True) if kind == _REASONING]


def _more_than_text(record: RequestRecord, count: int) -> str:
    """Why the count is of more than the text and the reasoning that the server reports; "" if it need not be."""
    events = cast("Events", record.events)
    text, pieces = events.text, len(events.outputs_ns())
    seen = count - ((record.usage and record.usage.reasoning_tokens) or 0)
    if pieces < HIDDEN_LEAST_PIECES or seen <= 1.5 * pieces + UNSEEN_TOKENS or len(text) >= LETTERS_PER_TOKEN * seen:
        return ""
    if not mostly_letters(text):
        return ""
    said = f"{len(text)} characters came in {pieces} pieces"
    return f"reports {count} output tokens, but {said}: the others were not streamed"


# --- the prompt -----------------------------------------------------------------------------------


def _prompt_counts(record: RequestRecord, request: Request | None) -> Iterator[Contradiction]:
    usage, timings = record.usage, record.timings
    by_usage = usage.prompt_tokens if usage else None
    read = timings.prompt_n if timings else None
    by_timings = None if timings is None or read is None or timings.cache_n is None else read + timings.cache_n
    for source, count in (("usage", by_usage), ("timings", by_timings)):
        if reason := refuted(record, request, "prompt_tokens", count):
            yield Contradiction("prompt_tokens", f"{source} {reason}")
            break
    cached = usage.cached_tokens if usage and usage.cached_tokens is not None else timings.cache_n if timings else None
    total = by_usage if by_usage is not None else by_timings
    beyond = request is not None and cached is not None and cached > prompt_bytes(request) + TEMPLATE_TOKENS
    if cached is not None and (beyond or cached < 0 or (total is not None and cached > total)):
        yield Contradiction("cached_tokens", f"{cached} prompt tokens of {total} are reported as taken from the cache")


def _prompt_count(request: Request | None, count: int) -> str:
    said = f"reports {count} prompt tokens"
    if request is None:
        return f"{said}" if count < 0 else ""
    size = prompt_bytes(request)
    if count <= 0 and size:
        return f"{said} for a prompt of {size} bytes"
    if count > size + TEMPLATE_TOKENS:
        return f"{said} for a prompt of {size} bytes: a token has at least one byte"
    if size >= LEAST_PROMPT_BYTES and count < size / MOST_BYTES_PER_TOKEN:
        return f"{said} for a prompt of {size} bytes: only a part of the prompt was read"
    return ""


def prompt_bytes(request: Request) -> int:
    """Bytes of the texts of all its messages."""
    found = 0
    for message in request.messages:
        text = message.content
        found += len(text) if text.isascii() else len(text.encode())
    return found


# --- speculation ----------------------------------------------------------------------------------


def _draft_counts(record: RequestRecord) -> Iterator[Contradiction]:
    """The first token is never a draft; a draft may reach beyond the end of an answer, but not beyond its limit."""
    timings = record.timings
    if timings is None or (timings.draft_n is None and timings.draft_n_accepted is None):
        return
    drafted, accepted = timings.draft_n or 0, timings.draft_n_accepted or 0
    said = f"{drafted} tokens drafted and {accepted} accepted are reported"
    if drafted < 0 or accepted < 0 or accepted > drafted:
        yield Contradiction("draft_counts", said)
    elif timings.predicted_n is not None and accepted > max(
        timings.predicted_n - (record.finish_reason == "length"), 0
    ):
        yield Contradiction("draft_counts", f"{said} for an answer of {timings.predicted_n} tokens")


# --- times ----------------------------------------------------------------------------------------


def _first_token(record: RequestRecord, waits: Waits) -> Iterator[Contradiction]:
    """Text that came after the end of the stream, and a first token that is only a blank."""
    events = cast("Events", record.events)
    done = events.kinds.find(_DONE_CODE)
    if done >= 0 and sum(events.chars[done + 1 :]):
        yield Contradiction("token_times", "text came after [DONE]")
    blank = _after_blank(record)
    if blank is not None and is_late(blank, BLANK_LEAST_NS, waits):
        wait_ms = (blank.visible_ns - blank.at_ns) / 1e6
        yield Contradiction(
            "first_token", f"the first text was blank, and visible text followed {wait_ms:.0f} ms later"
        )


def is_late(blank: AfterBlank, least_ns: int, waits: Waits) -> bool:
    """Whether the wait after a blank is longer than `least_ns` and 5 usual gaps, without what other answers share."""
    limit_ns, wait_ns = max(least_ns, BLANK_GAPS * blank.usual_ns), blank.visible_ns - blank.at_ns
    return wait_ns > limit_ns and wait_ns - waits.shared_ns(blank) > limit_ns


def _echo(record: RequestRecord, request: Request | None) -> Iterator[Contradiction]:
    """A first text that is the prompt: no token was generated for it."""
    events = cast("Events", record.events)
    if request is not None and is_echo(events.text[: next(filter(None, events.chars), 0)], request):
        for about in _TIMES:
            yield Contradiction(about, "the first text is the beginning of the prompt")


def is_echo(first: str, request: Request) -> bool:
    """Whether an answer's first text is the prompt, or its beginning."""
    begin = first.strip()[:ECHO_CHARACTERS]
    return len(begin) == ECHO_CHARACTERS and request.prompt.lstrip().startswith(begin)


def _hidden_reasoning(record: RequestRecord) -> Iterator[Contradiction]:
    """Reasoning that the server counts, and does not stream: no token of it has a time."""
    events, usage = cast("Events", record.events), record.usage
    if usage is None:
        return
    thoughts = usage.reasoning_tokens or 0
    if thoughts >= HIDDEN_TOKENS and sum(_thought_characters(events)) < thoughts:
        yield Contradiction("token_times", f"{thoughts} tokens of reasoning are reported, and were not streamed")
        return
    count = usage.completion_tokens or 1
    more = _more_than_text(record, count)
    if more and more == _output_count(record, None, count):
        yield Contradiction("token_times", f"usage {more}")


def visible_after_blank_ns(record: RequestRecord) -> int | None:
    """When the first visible text came, if the first output was blank; else None."""
    events = cast("Events", record.events)
    first_chars = next(filter(None, events.chars), 0)
    if without_blanks(events.text[:first_chars]) or not events.text:
        return None
    return next((event.at_ns for event in events if without_blanks(event.text)), None)


def _after_blank(record: RequestRecord) -> AfterBlank | None:
    """The wait after the first output, if that is blank and visible text follows."""
    from statistics import median

    visible_ns = visible_after_blank_ns(record)
    if visible_ns is None:
        return None
    after = [stamp for stamp in record.outputs_ns if stamp >= visible_ns]
    gaps = [later - earlier for earlier, later in pairwise(after)]
    usual_ns = float(median(gaps)) if gaps else 0.0
    return AfterBlank(record.sent_ns, record.outputs_ns[0], visible_ns, usual_ns, record.outputs_ns)
