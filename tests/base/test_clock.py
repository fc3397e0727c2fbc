from inferometer.base.clock import SystemClock, TrialClock, trial_clock


class FakeClock:
    def __init__(self) -> None:
        self.now = 1000

    def monotonic_ns(self) -> int:
        return self.now

    def wall_ns(self) -> int:
        return 0


def test_a_trials_time_begins_at_its_origin():
    clock = FakeClock()
    trial = trial_clock(clock)
    assert trial.now_ns() == 0
    clock.now += 25
    assert trial.now_ns() == 25
    assert TrialClock(1000, clock).now_ns() == 25


def test_the_systems_clock_does_not_go_back():
    clock = SystemClock()
    looks = [clock.monotonic_ns() for _ in range(100)]
    assert looks == sorted(looks)
    assert clock.wall_ns() > 1_700_000_000 * 10**9  # after 2023
