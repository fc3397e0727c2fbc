"""Cost of the same streams for a minimal client in C."""

import re
from pathlib import Path

from place import Load, Place, Reported

PACKAGE = None
VERSION = "C"
NOTE = "epoll, recv and the clock"


def install(place: Place) -> None:
    """Nothing: the driver compiles it."""


def command(place: Place, load: Load, url: str) -> list[str]:
    port = url.rsplit(":", 1)[1]
    return [place.bin("floor_client"), port, *map(str, (load.streams, load.requests, load.tokens))]


def parse(results: Path) -> Reported:
    line = (results / "output.log").read_text()
    ttft_p50, ttft_p99, itl_p50, itl_p99 = map(float, re.findall(r"p(?:50|99) ([\d.]+)", line))
    return Reported(ttft_p50, ttft_p99, itl_p50, itl_p99, float(re.findall(r"tok/s (\d+)", line)[0]))
