"""Garbage collection while trials run."""

import contextlib
import gc

from inferometer.results.collection_pause import rare_collection


def test_trials_that_overlap_collect_rarely_together_and_leave_the_thresholds_as_they_were():
    before = gc.get_threshold()
    first, second = contextlib.ExitStack(), contextlib.ExitStack()
    first.enter_context(rare_collection())
    rare = gc.get_threshold()
    assert rare[0] > before[0]
    second.enter_context(rare_collection())
    first.close()
    assert gc.get_threshold() == rare
    second.close()
    assert gc.get_threshold() == before
