"""Cost of watching a process: each probe's reading, each NVML sensor, and a sampler for some seconds.

    python benchmarks/sampling.py PID [SECONDS]

Prints CPU time of readings in microseconds (median of 50, after two that open what is needed), and the sampler's share
of one core.
"""

import sys
import time
from collections.abc import Callable
from statistics import median

from inferometer.base.clock import SystemClock, trial_clock
from inferometer.probes import nvidia_sensors as sensors
from inferometer.probes.nvidia import open_nvml
from inferometer.probes.sampler import Sampler, engine_probes

READINGS = 50


def cost_us(read: Callable[[], object]) -> float:
    """Median CPU time of a call in this thread."""
    costs: list[int] = []
    for _ in range(READINGS + 2):
        began_ns = time.thread_time_ns()
        read()
        costs.append(time.thread_time_ns() - began_ns)
    return median(costs[2:]) / 1000


def main() -> None:
    """Prints the three tables."""
    pid, seconds = int(sys.argv[1]), float(sys.argv[2]) if len(sys.argv) > 2 else 20.0
    sampled, counters = engine_probes([pid])
    print("| probe | every (s) | a reading (µs of CPU) | of a core (%) |\n|:--|--:|--:|--:|")
    for probe in (*sampled, *counters):
        if probe.reason:
            print(f"| {probe.name} | | {probe.reason} | |")
            continue
        each = cost_us(lambda probe=probe: probe.read(time.monotonic_ns()))
        print(f"| {probe.name} | {probe.interval_s:g} | {each:.0f} | {each / probe.interval_s / 1e4:.3f} |")
    nvml, devices, why_none = open_nvml(None)
    if not why_none:
        print("\n| NVML sensor | way | µs of CPU |\n|:--|--:|--:|")
        for sensor in (*sensors.SENSORS, *sensors.CLOCKS, *sensors.TEMPERATURES, *sensors.ENERGY):
            for number, way in enumerate(sensor.readers, 1):
                try:
                    each = f"{cost_us(lambda way=way: way(nvml, devices[0].handle)):.0f}"
                except (nvml.NVMLError, AttributeError) as error:
                    each = str(error)
                print(f"| {sensor.quantity} | {number} | {each} |")
    samples: list[object] = []
    with Sampler(engine_probes([pid])[0], trial_clock(SystemClock()), on_sample=samples.append) as sampler:
        time.sleep(seconds)
    percent = 100 * sampler.cpu_ns / sampler.watched_ns
    print(f"\nSampler: {percent:.2f}% of a core, {len(samples)} samples in {seconds:g} s")
    for fact in sampler.facts():
        print(f"- {fact.name}: {fact.value} ({fact.source})")


if __name__ == "__main__":
    main()
