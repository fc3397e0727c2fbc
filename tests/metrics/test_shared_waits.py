"""A real line break that other answers explain passes; a blank that only keeps the connection open is found, in the
table and in the live line alike."""

import pytest

from inferometer.core.record import Event, RequestRecord, Trial
from inferometer.metrics.summary import view
from inferometer.study.progress import ProgressCounter

MS = 1_000_000
GAP_MS = 20


class Slots:
    """Answers on a virtual clock, ms. The server reads the prompt of one request at a time, and no answer goes on
    meanwhile. `streams` run at once. `breaks`: every answer begins with a line break of the model. `keeps`: a blank is
    sent as soon as the request comes."""

    def __init__(self, streams: int, prompts_ms: list[int], *, breaks: bool = False, keeps: bool = False) -> None:
        self.tokens, self.breaks, self.keeps = 12, breaks, keeps
        self.waiting = list(enumerate(prompts_ms))
        self.events: dict[int, list[Event]] = {}
        self.sent: dict[int, int] = {}
        self.unread: list[tuple[int, int]] = []
        self.running: list[int] = []
        self.now = 10
        for _ in range(streams):
            self._send()

    def _send(self) -> None:
        if self.waiting:
            index, prompt_ms = self.waiting.pop(0)
            self.sent[index], self.events[index] = self.now, []
            if self.keeps:
                self.events[index].append(Event((self.now + 2) * MS, "text", " "))
            self.unread.append((index, prompt_ms))

    def played(self) -> list[RequestRecord]:
        """The records in the order of their ends."""
        done: list[RequestRecord] = []
        while self.unread or self.running:
            self.now += GAP_MS
            if self.unread:
                index, prompt_ms = self.unread.pop(0)
                self.now += prompt_ms
                self.running.append(index)
            for index in tuple(self.running):
                self._token(index)
                if len(self.events[index]) == self.tokens:
                    done.append(self._ended(index))
                    self.running.remove(index)
                    self._send()
        return done

    def _token(self, index: int) -> None:
        first = not self.events[index]
        self.events[index].append(Event(self.now * MS, "text", "\n" if first and self.breaks else " word"))

    def _ended(self, index: int) -> RequestRecord:
        events, sent = tuple(self.events[index]), self.sent[index] * MS
        return RequestRecord(index, f"r{index}", True, "ok", None, sent, self.now * MS, events=events)


def found(records: list[RequestRecord]) -> tuple[set[int], float | None]:
    """The requests whose first token is refuted in the table, and the median TTFT of the last live line, ms."""
    whole = view(Trial("a", 1, "done", 0, tuple(records)))
    refuted = {
        one.record.index for one in whole.requests if any(it.about == "first_token" for it in one.contradictions)
    }
    counter = ProgressCounter("a", len(records))
    for record in records:
        counter.add_record(record)
        counter.progress(0)
    shown_ns = counter.progress(0).ttft_ns
    return refuted, None if shown_ns is None else shown_ns / MS


def median_ttft_ms(records: list[RequestRecord]) -> float:
    ttfts = sorted((one.outputs_ns[0] - (one.sent_ns or 0)) / MS for one in records)
    return (ttfts[(len(ttfts) - 1) // 2] + ttfts[len(ttfts) // 2]) / 2


PROMPTS_MS = [820, 640, 900, 820, 700, 300, 820, 750]


@pytest.mark.parametrize("streams", [1, 2, 3, 8])
@pytest.mark.parametrize("prompts_ms", [PROMPTS_MS, [40] * 8], ids=["on a CPU", "on a GPU"])
def test_a_line_break_before_another_slot_s_prompt_is_a_first_token(streams: int, prompts_ms: list[int]):
    records = Slots(streams, prompts_ms, breaks=True).played()
    assert found(records) == (set(), median_ttft_ms(records))


@pytest.mark.parametrize("streams", [1, 2, 3, 8])
def test_a_blank_that_keeps_every_connection_open_is_found_in_every_answer(streams: int):
    assert found(Slots(streams, PROMPTS_MS, keeps=True).played()) == (set(range(8)), None)


def answer(index: int, sent_ms: int, *times_ms: int, first: str = " word") -> RequestRecord:
    events = [Event(at_ms * MS, "text", first if at_ms == times_ms[0] else " word") for at_ms in times_ms]
    return RequestRecord(index, f"r{index}", True, "ok", None, sent_ms * MS, events[-1].at_ns, events=tuple(events))


OTHERS = {
    "nobody": ((), True),
    "one that stood still at the same moment": ((answer(1, 0, 380, 400, 1219, 1240, 1260),), False),
    "one whose first token came at the end": ((answer(1, 390, 1219, 1240, 1260),), False),
    "two, one prompt after the other": ((answer(1, 390, 800, 1240), answer(2, 395, 1219, 1240)), False),
    "one prompt read in two parts": ((answer(1, 390, 2040, 2060),), False),
    "one that stood still before": ((answer(1, 0, 100, 120, 400, 420, 440),), True),
    "one that went on": ((answer(1, 0, *range(100, 1300, 20)),), True),
    "one that stood still for far longer": ((answer(1, 0, 100, 120, 3000, 3020),), True),
    "one that waited in a queue": ((answer(1, 0, 3000, 3020),), True),
}


@pytest.mark.parametrize("kind", OTHERS)
def test_a_wait_after_a_line_break_passes_if_another_answer_explains_it(kind: str):
    others, refuted = OTHERS[kind]
    long = answer(0, 0, 400, *range(1220, 2900, 20), first="\n")
    broken = answer(0, 0, 400, 1220, 2040, *range(2060, 2900, 20), first="\n") if "two parts" in kind else long
    assert found([broken, *others])[0] == ({0} if refuted else set())


def test_a_blank_that_came_at_once_is_not_explained_by_answers_that_waited_for_its_own_prompt():
    kept = answer(0, 390, 395, 1220, 1240, 1260, 1280, first=" ")
    assert found([kept, answer(1, 0, 380, 400, 1219, 1240, 1260)])[0] == {0}
