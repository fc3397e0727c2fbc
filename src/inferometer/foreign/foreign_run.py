"""What did another tool measure? One run of it, in our metrics where the definitions agree."""

import msgspec

from inferometer.core.record import RequestRecord
from inferometer.llama_bench.row import BenchRow


class ForeignRun(msgspec.Struct, frozen=True):
    """One run as its tool told of it.

    `name`: a heading, a model, or the file's stem. `values`: by key and in the unit of `metrics.METRICS`, mapped by
    definition and not by name. `differs`: of keys whose definition there is not quite ours, how it differs.
    `settings`: what was asked (requests, concurrency, seed, model …), by our names where we have them. `records`: each
    request, where the file holds them, with times from the start of its plan. `of_records`: the keys that our metrics
    can have from `records`, for no file tells all that a record of ours does. `rows`: what an engine did by itself
    (llama-bench). `dialect`: the metric dialect whose definitions these are to the letter; "" for none. `notes`: what
    was not understood around the run, and what a reader of its numbers must know.
    """

    name: str
    tool: str
    values: dict[str, float | None] = {}
    differs: dict[str, str] = {}
    settings: dict[str, str] = {}
    records: tuple[RequestRecord, ...] = ()
    of_records: frozenset[str] = frozenset()
    rows: tuple[BenchRow, ...] = ()
    dialect: str = ""
    notes: tuple[str, ...] = ()
