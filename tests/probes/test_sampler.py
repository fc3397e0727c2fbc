import itertools
import os
import threading
from collections.abc import Sequence
from pathlib import Path

from inferometer.base.clock import SystemClock, TrialClock, trial_clock
from inferometer.core.record import Fact, Sample
from inferometer.probes.sampler import ALLOWED_CORES, READING_SHARE, Sampler, engine_probes, next_budget


class FakeClock:
    """Goes on by 10 ns with every look at it, from 1000."""

    def __init__(self) -> None:
        self.now = 990

    def monotonic_ns(self) -> int:
        self.now += 10
        return self.now

    def wall_ns(self) -> int:
        return 0


class Counting:
    """A probe that reads 1, 2, 3 …"""

    nothing = ""
    name = "counting"

    def __init__(self, stop_after: int = 10**9, interval_s: float = 0.001) -> None:
        self.reason = self.nothing
        self.interval_s = interval_s
        self.count = 0
        self.enough = threading.Event()
        self.stop_after = stop_after

    def read(self, at_ns: int) -> Sequence[Sample]:
        self.count += 1
        if self.count >= self.stop_after:
            self.enough.set()
        return [Sample(at_ns, "test", "count", float(self.count))]

    def facts(self) -> Sequence[Fact]:
        return [Fact("counted", str(self.count), "the test")]


class Broken(Counting):
    name = "broken"

    def read(self, at_ns: int) -> Sequence[Sample]:
        raise OSError("gone")


class Absent(Counting):
    name = "absent thing"
    nothing = "there is none"


class GivesUp(Counting):
    """Finds out with the first reading that there is nothing to read."""

    name = "gives up"

    def read(self, at_ns: int) -> Sequence[Sample]:
        self.reason = "the server has no such page"
        return []


def test_samples_are_stamped_in_the_trials_time():
    samples: list[Sample] = []
    sampler = Sampler([Counting()], TrialClock(1000, FakeClock()), on_sample=samples.append)
    sampler.read_due(everything=True)
    sampler.read_due(everything=True)
    assert [(sample.at_ns, sample.value) for sample in samples] == [(0, 1.0), (10, 2.0)]


def test_a_probe_that_breaks_is_left_out_and_the_others_go_on():
    samples: list[Sample] = []
    sampler = Sampler([Broken(), Counting()], TrialClock(0, FakeClock()), on_sample=samples.append)
    sampler.read_due(everything=True)
    sampler.read_due(everything=True)
    assert [sample.value for sample in samples] == [1.0, 2.0]
    assert sampler.reasons == {"broken": "it failed: OSError: gone"}


def test_a_probe_without_a_device_is_never_read_and_says_why():
    absent = Absent()
    sampler = Sampler([absent], TrialClock(0, FakeClock()), on_sample=lambda sample: None)
    sampler.read_due(everything=True)
    assert absent.count == 0
    facts = {fact.name: fact.value for fact in sampler.facts()}
    assert facts["no_absent_thing"] == "there is none"


def test_a_probe_that_finds_nothing_to_read_is_left_out_with_its_reason():
    gives_up = GivesUp()
    sampler = Sampler([gives_up], TrialClock(0, FakeClock()), on_sample=lambda sample: None)
    sampler.read_due()
    sampler.read_due()
    assert sampler.reasons == {"gives up": "the server has no such page"}


class SteppedClock:
    """Stands still until it is set."""

    now = 0

    def monotonic_ns(self) -> int:
        return self.now

    def wall_ns(self) -> int:
        return 0


MS = 1_000_000


def times_read(costs_ms: list[float], *probes: Counting, rounds: int = 101) -> list[int]:
    """How often each probe is read, in rounds of 100 ms, where a reading of it costs so much CPU."""
    clock, used, counts = SteppedClock(), 0, [0] * len(probes)

    def cpu_ns() -> int:
        """Asked before and after each reading: in between has passed what the probe costs whose count went up."""
        nonlocal used
        if next(is_after):
            (i,) = (i for i, probe in enumerate(probes) if probe.count > counts[i])
            counts[i] += 1
            used += round(costs_ms[i] * MS)
        return used

    is_after = itertools.cycle([False, True])
    clock_of_trial = TrialClock(0, clock)
    sampler = Sampler(probes, clock_of_trial, on_sample=lambda sample: None, allowed_cores=0.005, cpu_ns=cpu_ns)
    for number in range(rounds):
        clock.now = number * 100 * MS
        sampler.read_due()
    return [probe.count for probe in probes]


def every(interval_s: float) -> Counting:
    return Counting(interval_s=interval_s)


def test_each_probe_is_read_at_its_own_interval():
    assert times_read([0, 0], every(0.1), every(0.5)) == [101, 21]


def test_a_dear_probe_rests_so_long_that_it_stays_within_the_budget():
    """3.5 ms at 0.35% of a core: one a second from the second reading on (the first, which opens files, is free)."""
    assert times_read([3.5, 0], every(0.1), every(0.1)) == [11, 101]


def test_the_cheap_take_what_they_need_and_the_dear_share_the_rest():
    """0.05 ms ten times a second is 0.05%; of the other 0.3% each gets half: 3 ms every 2 s, from the third on."""
    assert times_read([0.05, 3, 3], every(0.1), every(0.1), every(0.1), rounds=202) == [202, 12, 12]


def test_a_short_trial_reads_the_memory_of_a_large_engine_once_before_its_end():
    """35 ms at 0.35% of a core: the next after 10 s. A cheap reading whose first opened files is not delayed."""
    assert times_read([35], every(5.0), rounds=91) == [1]
    assert times_read([35], every(2.0), rounds=91) == [2]


def test_no_round_comes_before_a_probe_is_due():
    clock = SteppedClock()
    sampler = Sampler([every(0.5), every(2.0)], TrialClock(0, clock), on_sample=lambda sample: None)
    sampler.read_due()
    assert sampler.idle_rounds() == 4
    clock.now = 500 * MS
    assert sampler.idle_rounds() == 0


def test_a_sampler_that_cost_too_much_so_far_reads_less_until_it_has_not():
    full = READING_SHARE * ALLOWED_CORES
    lower = next_budget(full, ALLOWED_CORES, 3 * 10**9, exceeds=True)
    assert lower < full
    assert next_budget(full, ALLOWED_CORES, 10**9, exceeds=True) > lower
    least = next_budget(lower, ALLOWED_CORES, 10**12, exceeds=True)
    assert 0 < least < full / 2
    assert least < next_budget(least, ALLOWED_CORES, 10**9, exceeds=False) < full
    assert next_budget(least, ALLOWED_CORES, 10**11, exceeds=False) == full


def test_it_reads_until_the_block_ends_and_says_what_it_cost():
    probe = Counting(stop_after=3)
    samples: list[Sample] = []
    with Sampler([probe], trial_clock(SystemClock()), 0.001, on_sample=samples.append) as sampler:
        assert probe.enough.wait(20)
    count = len(samples)
    assert count >= 3
    assert count == probe.count
    assert sampler.cpu_ns > 0
    facts = {fact.name: fact.value for fact in sampler.facts()}
    assert sampler.watched_ns > 0
    assert facts["counted"] == str(count)
    assert not any(thread.name == "sampler" for thread in threading.enumerate())


def test_it_reads_at_the_end_once_more_and_when_asked_to():
    probe = Counting(stop_after=2, interval_s=3600)
    with Sampler([probe], trial_clock(SystemClock()), 3600, on_sample=lambda sample: None) as sampler:
        sampler.read_soon()
        assert probe.enough.wait(20)
    assert probe.count == 3


def test_one_that_was_never_begun_can_be_stopped():
    Sampler([Counting()], trial_clock(SystemClock()), on_sample=lambda sample: None).stop()


def test_the_probes_of_a_started_engine_read_its_memory():
    samples: list[Sample] = []
    sampler = Sampler(engine_probes([os.getpid()])[0], trial_clock(SystemClock()), on_sample=samples.append)
    sampler.read_due(everything=True)
    quantities = {sample.quantity for sample in samples}
    assert quantities >= {"rss_bytes", "engine_threads"}
    if Path("/proc/self/smaps_rollup").exists():
        assert quantities >= {"pss_bytes", "memory_used_bytes"}
