"""The load path with its compiled part, and without."""

from collections.abc import Iterator

import pytest

from inferometer.load import compiled, event_decoding


@pytest.fixture(scope="module", params=["compiled", "python"])
def way(request: pytest.FixtureRequest) -> Iterator[str]:
    """Both ways of reading and decoding, one after the other."""
    if request.param == "compiled" and compiled.receive is None:
        pytest.skip("the compiled part of the load path is not built here")
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "python":
            patch.setenv("INFEROMETER_COMPILED", "0")  # of the workers
            patch.setattr(compiled, "arrivals", None)
            patch.setattr(event_decoding, "similar_chunks", None)
        yield request.param
