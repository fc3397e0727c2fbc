"""`inferometer calibrate`: the timing error of this client on this machine, as a table or as JSON."""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from inferometer.base.errors import Interrupted, RequestWrong

if TYPE_CHECKING:
    from inferometer.checks.calibration import Calibration, RateStep

_COLUMNS = (
    ("streams", 8),
    ("tok/s", 9),
    ("achieved", 9),
    ("error median", 13),
    ("P99", 8),
    ("worst", 8),
    ("TTFT P99", 9),
    ("late P99", 9),
    ("lag P99", 8),
    ("worst", 8),
    ("coalesced", 10),
    ("client CPU", 11),
    ("server CPU", 11),
    ("its late P99", 13),
)


def calibrate(
    max_streams: Annotated[int, typer.Option(help="Most concurrent streams, 100 tokens/s each.")] = 1600,
    seconds: Annotated[float, typer.Option(help="Duration of each rate, in seconds.")] = 2.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of the table.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print only the result, no progress.")] = False,
    out: Annotated[Path | None, typer.Option(help="Also write the JSON to this file.")] = None,
) -> None:
    """Measure the timing error and limits of this client.

    A local server records when it sent each token. The client plays known streams from it at rising rates.
    """
    from inferometer.checks.calibration import calibrate as rates_of
    from inferometer.checks.calibration import conclusion

    if out is not None and not out.parent.is_dir():
        raise RequestWrong(f"--out: the folder {out.parent} does not exist. Create it first, or name another file.")
    load = os.getloadavg()[0]
    rates: list[RateStep] = []
    try:
        for rate in rates_of(max_streams, seconds):
            rates.append(rate)
            if not quiet:
                print(_progress(rate), file=sys.stderr, flush=True)
    except KeyboardInterrupt as interrupt:
        raise Interrupted("interrupted: an incomplete calibration has no result") from interrupt
    calibration = conclusion(rates)
    document = _document(calibration, seconds, load)
    if out is not None:
        try:
            out.write_text(document, encoding="utf-8")
        except OSError as error:
            raise RequestWrong(f"{out} cannot be written: {error.strerror}. Name another file with --out.") from error
    print(document if as_json else _table(calibration, load), end="")


def _progress(rate: "RateStep") -> str:
    return (
        f"  {rate.streams} stream(s): {rate.achieved:.1%} of {rate.asked_per_s} tok/s, "
        f"error {rate.error_median_ms:.3f} ms (median), {rate.error_p99_ms:.3f} ms (P99)"
    )


def _document(calibration: "Calibration", seconds: float, load: float) -> str:
    """JSON with the unrounded values, their limits, the settings and the machine."""
    import msgspec

    from inferometer.probes.machine_facts import machine_facts

    content: dict[str, Any] = msgspec.to_builtins(calibration)
    content["seconds"] = seconds
    content["load_average_before"] = load
    content["machine"] = {fact.name: fact.value for fact in machine_facts()}
    return msgspec.json.format(msgspec.json.encode(content), indent=2).decode() + "\n"


def _table(calibration: "Calibration", load: float) -> str:
    lines = ["".join(name.rjust(width) for name, width in _COLUMNS)]
    for rate in calibration.rates:
        cells = (
            str(rate.streams),
            f"{rate.achieved_per_s:.0f}",
            f"{rate.achieved:.1%}",
            *map(_ms, (rate.error_median_ms, rate.error_p99_ms, rate.error_max_ms, rate.ttft_error_p99_ms)),
            *map(_ms, (rate.lateness_p99_ms, rate.lag_p99_ms, rate.lag_max_ms)),
            f"{rate.coalesced:.1%}",
            f"{rate.cpu_share:.0%}",
            f"{rate.server.cpu_share:.0%}",
            _ms(rate.server.lateness_p99_ms),
        )
        lines.append("".join(cell.rjust(width) for cell, (_, width) in zip(cells, _COLUMNS, strict=True)))
    stamps = "the kernel's" if not calibration.stamps else f"our own ({calibration.stamps})"
    lines += ["", f"Times in ms. Stamps: {stamps}. Load average before: {load:.2f}.", calibration.message]
    return "\n".join(lines) + "\n"


def _ms(value: float | None) -> str:
    """Three decimals below 1 ms, fewer above."""
    if value is None:
        return "n/a"
    return f"{value:.3f}" if abs(value) < 1 else f"{value:.2f}" if abs(value) < 100 else f"{value:.0f}"
