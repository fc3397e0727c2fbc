import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferometer.core.record import Sample
from inferometer.metrics.memory import LEAST_GPU_BYTES, held_bytes, memory_quantity


def read(quantity: str, *values: tuple[int, float]) -> list[Sample]:
    return [Sample(at_ns, "test", quantity, value) for at_ns, value in values]


def test_what_processes_and_devices_hold_at_one_moment_adds_up():
    samples = [
        Sample(1, "nvml", "gpu_memory_bytes", 3.0, 7, "GPU 0"),
        Sample(1, "nvml", "gpu_memory_bytes", 4.0, 7, "GPU 1"),
        Sample(2, "nvml", "gpu_memory_bytes", 5.0, 7, "GPU 0"),
        Sample(2, "nvml", "power_w", 99.0, None, "GPU 0"),
    ]
    assert held_bytes(samples, "gpu_memory_bytes") == {1: 7.0, 2: 5.0}


def test_between_two_readings_of_pss_rss_tells_less_what_it_counts_too_much():
    pss = read("pss_bytes", (0, 80), (100, 170))
    rss = read("rss_bytes", (0, 100), (50, 300), (100, 200))  # too much by 20, and by 30 later: by 25 in between
    assert held_bytes([*pss, *rss], "pss_bytes") == {0: 80.0, 50: 275.0, 100: 170.0}


def test_before_and_after_the_readings_of_pss_the_nearest_counts():
    pss = read("pss_bytes", (50, 90))
    rss = read("rss_bytes", (10, 40), (50, 100), (90, 150))
    assert held_bytes([*pss, *rss], "pss_bytes") == {10: 30.0, 50: 90.0, 90: 140.0}


@pytest.mark.parametrize(("on_gpu", "quantity"), [(0, "pss_bytes"), (LEAST_GPU_BYTES, "gpu_memory_bytes")])
def test_memory_is_that_of_the_processes_where_the_model_is_not_on_a_gpu_of_its_own(on_gpu: int, quantity: str):
    """An integrated GPU's driver counts its carve-out, and the model lies in memory shared with the CPU."""
    assert memory_quantity([*read("gpu_memory_bytes", (1, on_gpu)), *read("pss_bytes", (1, 9e9))]) == quantity


def test_one_alone_is_what_it_is():
    assert held_bytes(read("pss_bytes", (1, 5)), "pss_bytes") == {1: 5.0}
    assert held_bytes(read("rss_bytes", (1, 5)), "rss_bytes") == {1: 5.0}
    assert held_bytes(read("rss_bytes", (1, 5)), "pss_bytes") == {}
    assert held_bytes([], None) == {}


@given(
    st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 10**6), st.booleans()), min_size=1, max_size=30),
    st.booleans(),
)
def test_the_estimate_never_exceeds_the_largest_rss_reading(readings, paired):
    """PSS is at most RSS at each moment. Readings of both are taken in turn; memory jumps in between."""
    samples = read("rss_bytes", *((10 * i, rss) for i, (rss, _, _) in enumerate(readings)))
    for i, (rss, pss, is_read) in enumerate(readings):
        if is_read:
            samples += read("pss_bytes", (10 * i + 1, min(rss, pss)))
            samples += read("rss_at_pss_bytes", (10 * i + 1, rss)) if paired else []
    held = held_bytes(samples, "pss_bytes")
    assert max(held.values(), default=0) <= max(rss for rss, _, _ in readings)


def test_memory_that_grows_between_two_readings_is_not_overstated():
    rss = read("rss_bytes", (0, 100), (100, 400))
    pss = read("pss_bytes", (90, 380), (99, 380))
    of_both = read("rss_at_pss_bytes", (90, 400), (99, 400))
    assert max(held_bytes([*rss, *pss, *of_both], "pss_bytes").values()) <= 400
