"""Limits of cards (memory bandwidth, arithmetic rates) with their sources: parsing and lookup of devices.toml."""

import difflib
from collections.abc import Sequence
from typing import Any, cast

import msgspec

from inferometer.base.errors import RequestWrong


class Figure(msgspec.Struct, frozen=True):
    """A number and where it comes from. Its unit is in the name of the field that holds it."""

    value: float
    origin: str


class CardLimits(msgspec.Struct, frozen=True):
    """A card. `names`: the names that drivers use. None: unknown. `fp16_tflops` and `int8_tops` are dense matrix
    rates."""

    name: str
    names: tuple[str, ...] = ()
    bandwidth_gb_per_s: Figure | None = None
    fp16_tflops: Figure | None = None
    fp32_tflops: Figure | None = None
    int8_tops: Figure | None = None

    @property
    def peak_tflops(self) -> tuple[str, Figure] | None:
        """Name and value of the rate that arithmetic is compared with: FP16 matrix if the card has it, else FP32."""
        if self.fp16_tflops is not None:
            return "FP16 matrix rate", self.fp16_tflops
        return None if self.fp32_tflops is None else ("FP32 rate", self.fp32_tflops)


_FIGURES = ("bandwidth_gb_per_s", "fp16_tflops", "fp32_tflops", "int8_tops")


def read_devices(text: str) -> tuple[CardLimits, ...]:
    """The devices of a file like devices.toml, in its order. Raises ValueError for any other file."""
    content = cast("dict[str, Any]", msgspec.toml.decode(text))  # any TOML; checked below
    origins = msgspec.convert(content.get("origins", {}), dict[str, str])
    return tuple(_device(entry, origins) for entry in msgspec.convert(content.get("device"), list[dict[str, Any]]))


def find_device(devices: Sequence[CardLimits], name: str) -> CardLimits | None:
    """The card with that short name or driver's name; None if it is unknown."""
    wanted = _plain(name)
    return next((d for d in devices if wanted in {_plain(known) for known in (d.name, *d.names)}), None)


def requested_device(devices: Sequence[CardLimits], name: str) -> CardLimits:
    """The card that a user names. Raises RequestWrong with the nearest name and all known names."""
    found = find_device(devices, name)
    if found is not None:
        return found
    by_plain = {_plain(known): device.name for device in devices for known in (device.name, *device.names)}
    near = difflib.get_close_matches(_plain(name), by_plain, n=1)
    hint = f" Did you mean {by_plain[near[0]]!r}?" if near else ""
    raise RequestWrong(
        f"the card {name!r} is unknown.{hint} Known: {', '.join(device.name for device in devices)}. "
        "For another card, give its limits: --bandwidth (GB/s) and --tflops."
    )


def _device(entry: dict[str, Any], origins: dict[str, str]) -> CardLimits:
    unknown = entry.keys() - {"name", "names", *_FIGURES}
    if unknown:
        raise ValueError(f"{entry.get('name')}: unknown field {min(unknown)}")
    figures = {name: _figure(entry[name], origins) for name in _FIGURES if name in entry}
    return CardLimits(str(entry["name"]), msgspec.convert(entry["names"], tuple[str, ...]), **figures)


def _figure(entry: dict[str, Any], origins: dict[str, str]) -> Figure:
    if entry["from"] not in origins:
        raise ValueError(f"the origin {entry['from']!r} is not in [origins]")
    return Figure(msgspec.convert(entry["is"], float), origins[entry["from"]])


def _plain(name: str) -> str:
    return " ".join(name.casefold().split())
