"""What is said of a trial that was just played."""

import sys
import time

import pytest

from inferometer.base.clock import slept_ns
from inferometer.study.trial_findings import retried_finding, slept_findings


def test_a_suspended_machine_is_a_finding_with_how_long_it_slept():
    (finding,) = slept_findings(3_600_000_000_000)
    assert (finding.severity, finding.code) == ("warning", "suspended")
    assert finding.message == "this machine was suspended for 1 h 00 min while the trial ran."


def test_two_clocks_that_are_read_one_after_the_other_are_no_sleep():
    assert slept_findings(0) == slept_findings(40_000_000) == slept_findings(-1_000) == []


@pytest.mark.skipif(sys.platform != "linux", reason="it is Linux that has a clock which counts sleep")
def test_how_long_this_machine_slept_is_the_difference_of_its_clocks():
    expected = time.clock_gettime_ns(time.CLOCK_BOOTTIME) - time.clock_gettime_ns(time.CLOCK_MONOTONIC)
    assert slept_ns() == pytest.approx(expected, abs=1_000_000_000)


def test_a_trial_that_was_played_again_says_why():
    finding = retried_finding("llama-server ended.\nIts log:")
    assert finding.message == "it failed at first, and was played again: llama-server ended."
