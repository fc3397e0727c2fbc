"""Findings about a trial that has just run."""

import sys
import time

import pytest

from inferometer.base.clock import slept_ns
from inferometer.study.trial_findings import retried_finding, suspended_findings


def test_a_suspended_machine_is_a_finding_with_how_long_it_slept():
    (finding,) = suspended_findings(3_600_000_000_000)
    assert (finding.severity, finding.code) == ("warning", "suspended")
    assert finding.message == "this machine was suspended for 1 h 00 min during the trial."


def test_the_time_between_reading_two_clocks_is_not_a_suspension():
    assert suspended_findings(0) == suspended_findings(40_000_000) == suspended_findings(-1_000) == []


@pytest.mark.skipif(sys.platform != "linux", reason="it is Linux that has a clock which counts sleep")
def test_how_long_this_machine_slept_is_the_difference_of_its_clocks():
    expected = time.clock_gettime_ns(time.CLOCK_BOOTTIME) - time.clock_gettime_ns(time.CLOCK_MONOTONIC)
    assert slept_ns() == pytest.approx(expected, abs=1_000_000_000)


def test_a_trial_that_ran_again_names_the_reason():
    finding = retried_finding("llama-server ended.\nIts log:")
    assert finding.message == "the first attempt failed, and the trial ran again: llama-server ended."
