"""Garbage collection while trials run."""

import gc

from inferometer.results.collection_pause import rare_collection


def test_trials_that_end_in_another_order_than_they_began_leave_the_collector_as_it_was():
    before = gc.get_threshold()
    for _ in range(20):
        first, second = rare_collection(), rare_collection()
        first.__enter__()
        second.__enter__()
        assert gc.get_threshold()[0] == max(70_000, before[0])
        first.__exit__(None, None, None)
        assert gc.get_threshold()[0] == max(70_000, before[0])
        second.__exit__(None, None, None)
        assert gc.get_threshold() == before
