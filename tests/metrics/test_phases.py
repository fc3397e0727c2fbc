from inferometer.core.quantities import ENGINE_READY_AT_NS
from inferometer.core.record import Event, Fact, RequestRecord, Trial
from inferometer.metrics.phases import Phases, peaks, phases_of


def record(index: int, sent_ns: int | None, first_ns: int | None, done_ns: int, measured: bool = True) -> RequestRecord:
    events = () if first_ns is None else (Event(first_ns, "text", "a"),)
    outcome = "ok" if events else "cut"
    return RequestRecord(index, f"r{index}", measured, outcome, None, sent_ns, done_ns, events=events)


def trial(*records: RequestRecord, ready_ns: int | None = 100) -> Trial:
    facts = () if ready_ns is None else (Fact(ENGINE_READY_AT_NS, str(ready_ns), "the trial's clock"),)
    return Trial("arm", 1, "done", 300, records, facts=facts)


def spelled(phases: Phases, *times_ns: int) -> str:
    """l, i, p or d for each moment."""
    return "".join(phases.at(at_ns)[0] for at_ns in times_ns)


def test_one_request_after_another():
    phases = phases_of(trial(record(0, 200, 250, 300, measured=False), record(1, 400, 410, 500)))
    assert spelled(phases, 0, 99, 100, 199, 200, 249, 250, 299, 300, 400, 409, 410, 499, 500) == "lliippddippddi"


def test_a_request_that_is_read_while_another_is_written_is_prefill():
    phases = phases_of(trial(record(0, 200, 220, 400), record(1, 300, 350, 500)))
    assert spelled(phases, 219, 220, 299, 300, 349, 350, 399, 450, 500) == "pddppdddi"


def test_of_several_that_are_read_at_once_the_last_first_token_ends_it():
    phases = phases_of(trial(record(0, 200, 300, 400), record(1, 210, 250, 260), record(2, 250, 260, 270)))
    assert spelled(phases, 200, 255, 299, 300, 399, 400) == "pppddi"


def test_a_request_without_output_is_prefill_to_its_end_and_one_never_sent_is_nothing():
    phases = phases_of(trial(record(0, 200, None, 300), record(1, None, None, 350)))
    assert spelled(phases, 199, 200, 299, 300, 340) == "ippii"


def test_an_older_study_which_does_not_say_when_the_engine_was_ready_has_no_load():
    assert spelled(phases_of(trial(record(0, 200, 250, 300), ready_ns=None)), 0, 200) == "ip"


def test_the_peak_of_each_phase():
    phases = phases_of(trial(record(0, 200, 250, 300)))
    values = {50: 1.0, 60: 3.0, 150: 9.0, 160: 8.0, 260: 6.0}
    assert peaks(values, phases) == {"load": 3.0, "idle": 9.0, "decode": 6.0}
    assert peaks({}, phases) == {}
