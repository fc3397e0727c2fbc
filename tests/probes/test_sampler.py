import os
import threading
from collections.abc import Sequence

from inferometer.clock import SystemClock, TrialClock, trial_clock
from inferometer.probes.sampler import Sampler, engine_probes
from inferometer.record import Sample


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

    name = "counting"
    reason = ""

    def __init__(self, stop_after: int = 10**9) -> None:
        self.count = 0
        self.enough = threading.Event()
        self.stop_after = stop_after

    def read(self, at_ns: int) -> Sequence[Sample]:
        self.count += 1
        if self.count >= self.stop_after:
            self.enough.set()
        return [Sample(at_ns, "test", "count", float(self.count))]


class Broken(Counting):
    name = "broken"

    def read(self, at_ns: int) -> Sequence[Sample]:
        raise OSError("gone")


class Absent(Counting):
    name = "absent thing"
    reason = "there is none"


def test_samples_are_stamped_in_the_trials_time():
    samples: list[Sample] = []
    sampler = Sampler([Counting()], TrialClock(1000, FakeClock()), on_sample=samples.append)
    sampler.read_once()
    sampler.read_once()
    assert [(sample.at_ns, sample.value) for sample in samples] == [(0, 1.0), (10, 2.0)]


def test_a_probe_that_breaks_is_left_out_and_the_others_go_on():
    samples: list[Sample] = []
    sampler = Sampler([Broken(), Counting()], TrialClock(0, FakeClock()), on_sample=samples.append)
    sampler.read_once()
    sampler.read_once()
    assert [sample.value for sample in samples] == [1.0, 2.0]
    assert sampler.reasons == {"broken": "it failed: OSError: gone"}


def test_a_probe_without_a_device_is_never_read_and_says_why():
    absent = Absent()
    sampler = Sampler([absent], TrialClock(0, FakeClock()), on_sample=lambda sample: None)
    sampler.read_once()
    assert absent.count == 0
    facts = {fact.name: fact.value for fact in sampler.facts()}
    assert facts["no_absent_thing"] == "there is none"


def test_it_reads_until_the_block_ends_and_says_what_it_cost():
    probe = Counting(stop_after=3)
    samples: list[Sample] = []
    with Sampler([probe], trial_clock(SystemClock()), 0.001, on_sample=samples.append) as sampler:
        assert probe.enough.wait(20)
    count = len(samples)
    assert count >= 3
    assert count == probe.count == sampler.readings
    assert sampler.cpu_ns > 0
    assert "sampler_cpu_ms" in {fact.name for fact in sampler.facts()}
    assert not any(thread.name == "sampler" for thread in threading.enumerate())


def test_the_probes_of_a_started_engine_read_its_memory():
    samples: list[Sample] = []
    sampler = Sampler(engine_probes([os.getpid()]), trial_clock(SystemClock()), on_sample=samples.append)
    sampler.read_once()
    assert {sample.quantity for sample in samples} & {"pss_bytes", "rss_bytes"}
