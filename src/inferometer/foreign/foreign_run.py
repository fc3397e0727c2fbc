"""One run of another tool, in our metrics where the definitions agree."""

import msgspec

from inferometer.core.record import RequestRecord
from inferometer.llama_bench.row import BenchRow


class ForeignRun(msgspec.Struct, frozen=True):
    """One run as its tool reports it.

    `name`: a heading, a model, or the file's stem. `values`: by key and in the unit of `metrics.METRICS`, mapped by
    definition and not by name. `differs`: by key, how the tool's definition differs from ours. `settings`: the run's
    settings (requests, concurrency, seed, model …), by our names where we have them. `records`: each
    request, if the file has them, with times from the start of its plan. `keys_from_records`: the metric keys that can
    be computed from `records`, because no file has everything that our records have. `rows`: measurements of an engine
    without a server (llama-bench). `dialect`: the metric dialect with exactly these definitions; "" for none. `notes`:
    lines around the run that were not understood, and what a reader of its numbers must know.
    """

    name: str
    tool: str
    values: dict[str, float | None] = {}
    differs: dict[str, str] = {}
    settings: dict[str, str] = {}
    records: tuple[RequestRecord, ...] = ()
    keys_from_records: frozenset[str] = frozenset()
    rows: tuple[BenchRow, ...] = ()
    dialect: str = ""
    notes: tuple[str, ...] = ()
