"""Means and percentiles of requests that are drawn again, against numpy."""

import math

import numpy as np
import pytest

from inferometer.metrics import resampling
from inferometer.metrics.series import Series

RNG = np.random.default_rng(7)


def series(values, owners=None, requests=None) -> Series:
    values = np.asarray(values, np.float64)
    owners = np.arange(len(values)) if owners is None else np.asarray(owners)
    return Series(values, owners, requests or int(owners.max()) + 1)


def test_the_mean_drawn_again_varies_as_its_standard_error():
    values = RNG.normal(10, 2, 200)
    drawn = resampling.resampling(200).means(series(values))
    assert drawn.mean() == pytest.approx(values.mean(), abs=0.05)
    assert drawn.std() == pytest.approx(values.std() / math.sqrt(200), rel=0.1)


def test_quantiles_drawn_again_are_numpys_of_the_values_drawn():
    values = np.array([5.0, 1.0, 4.0, 2.0, 3.0])
    drawing = resampling.resampling(5)
    chosen = [np.repeat(np.arange(5), row.astype(int)) for row in drawing._weights[:50]]
    for percent in (0, 25, 50, 99, 100):
        expected = [np.percentile(values[rows], percent) for rows in chosen]
        assert drawing.quantiles(series(values), percent)[:50] == pytest.approx(expected)


def test_gaps_are_drawn_with_their_request():
    """All gaps of a request come or stay away together: with two requests, the mean of all gaps is one of three."""
    both = series([1.0] * 10 + [2.0] * 10, [0] * 10 + [1] * 10)
    assert set(resampling.resampling(2).means(both)) == {1.0, 1.5, 2.0}


def test_many_values_have_nearly_the_quantiles_of_all():
    values = RNG.lognormal(0, 1, 50_000)
    drawn = resampling.resampling(1000).quantiles(series(values, np.repeat(np.arange(1000), 50)), 99)
    assert drawn.mean() == pytest.approx(np.percentile(values, 99), rel=0.02)


def test_two_trials_of_as_many_requests_are_drawn_alike():
    one, other = resampling.Resampling(30), resampling.Resampling(30)
    values = series(RNG.normal(size=30))
    assert (one.means(values) == other.means(values)).all()
