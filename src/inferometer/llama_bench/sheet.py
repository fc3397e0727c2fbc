"""Content of the llama-bench table: columns, cells and footnotes, independent of the output format."""

from collections.abc import Callable, Iterable, Mapping, Sequence

import msgspec

from inferometer.base.units import (
    model_size_text,
    parameters_text,
    percent_text,
    rate_text,
    three_digits_text,
)
from inferometer.llama_bench.devices import CardLimits
from inferometer.llama_bench.efficiency import Efficiency
from inferometer.llama_bench.gguf_facts import ModelFacts
from inferometer.llama_bench.row import BenchRow


class RatedRow(msgspec.Struct, frozen=True):
    """A row with its efficiency. `model`, `device`: None if unknown."""

    row: BenchRow
    efficiency: Efficiency
    model: ModelFacts | None
    device: CardLimits | None


class SheetColumn(msgspec.Struct, frozen=True):
    """A column. `width`: as in llama-bench. `left`: left-aligned."""

    head: str
    width: int
    left: bool = False


class Sheet(msgspec.Struct, frozen=True):
    """The table. The first `llama_bench_columns` columns are those of llama-bench."""

    columns: tuple[SheetColumn, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...]
    llama_bench_columns: int


SETTING_COLUMNS = {
    "n_gpu_layers": SheetColumn("ngl", 3),
    "n_cpu_moe": SheetColumn("n_cpu_moe", 10),
    "n_threads": SheetColumn("threads", 7),
    "n_batch": SheetColumn("n_batch", 7),
    "n_ubatch": SheetColumn("n_ubatch", 8),
    "type_k": SheetColumn("type_k", 6, left=True),
    "type_v": SheetColumn("type_v", 6, left=True),
    "main_gpu": SheetColumn("main_gpu", 10),
    "split_mode": SheetColumn("sm", 6, left=True),
    "no_kv_offload": SheetColumn("nkvo", 10),
    "flash_attn": SheetColumn("fa", 3),
    "devices": SheetColumn("dev", 12, left=True),
    "tensor_split": SheetColumn("ts", 12, left=True),
    "use_mmap": SheetColumn("mmap", 10),
    "load_mode": SheetColumn("lm", 10, left=True),
    "embeddings": SheetColumn("embd", 10),
    "no_op_offload": SheetColumn("nopo", 4),
}
"""llama-bench's optional columns in its order, by its field names."""

PASSED_ON = {
    "-ncmoe": "n_cpu_moe",
    "-mg": "main_gpu",
    "-sm": "split_mode",
    "-nkvo": "no_kv_offload",
    "-dev": "devices",
    "-ts": "tensor_split",
    "-mmp": "use_mmap",
    "-lm": "load_mode",
    "-embd": "embeddings",
    "-nopo": "no_op_offload",
}
"""llama-bench's flags that we only pass on, and the setting that each one sets."""

_EFFICIENCY_COLUMNS = (
    SheetColumn("GB/s [1]", 8),
    SheetColumn("% of card [2]", 13),
    SheetColumn("TFLOP/s [3]", 11),
    SheetColumn("% of card [4]", 13),
    SheetColumn("by [5]", 11, left=True),
)


def sheet(judged: Sequence[RatedRow], requested: Iterable[str]) -> Sheet:
    """The table of these rows. `requested`: the settings that the user gave, by llama-bench's field names."""
    settings = shown_settings([entry.row for entry in judged], requested)
    cells: list[tuple[SheetColumn, Callable[[BenchRow], str]]] = [
        (SheetColumn("model", 30, left=True), _name),
        (SheetColumn("size", 10), lambda row: model_size_text(row.size_bytes)),
        (SheetColumn("params", 10), lambda row: parameters_text(row.parameters)),
        (SheetColumn("backend", 10, left=True), lambda row: row.backend or "n/a"),
        *((SETTING_COLUMNS[name], lambda row, name=name: row.settings.get(name) or "n/a") for name in settings),
        (SheetColumn("test", 15), lambda row: row.test.label),
        (SheetColumn("t/s", 20), lambda row: rate_text(row.rate_per_s, row.deviation_per_s)),
    ]
    return Sheet(
        columns=(*(column for column, _ in cells), *_EFFICIENCY_COLUMNS),
        rows=tuple((*(cell(entry.row) for _, cell in cells), *_efficiency_cells(entry)) for entry in judged),
        notes=tuple(_notes(judged)),
        llama_bench_columns=len(cells),
    )


def shown_settings(rows: Sequence[BenchRow], requested: Iterable[str]) -> list[str]:
    """The settings that llama-bench would show: ngl with a GPU, threads without, what was requested, and what
    differs."""
    backends = {row.backend for row in rows}
    shown = set(requested)
    if any(backend and "CPU" not in backend and "BLAS" not in backend for backend in backends):
        shown.add("n_gpu_layers")
    if any("CPU" in backend or "BLAS" in backend for backend in backends):
        shown.add("n_threads")
    shown |= {name for name in SETTING_COLUMNS if len({row.settings[name] for row in rows if name in row.settings}) > 1}
    return [name for name in SETTING_COLUMNS if name in shown]


def _name(row: BenchRow) -> str:
    """The model's name in llama-bench, else the name of its file or the server's name for it."""
    return row.description or row.model.rpartition("/")[2]


def _efficiency_cells(entry: RatedRow) -> tuple[str, ...]:
    used = entry.efficiency
    return (
        three_digits_text(_scaled(used.bytes_per_s, 1e9)),
        percent_text(_scaled(used.bandwidth_share, 0.01)),
        three_digits_text(_scaled(used.flop_per_s, 1e12)),
        percent_text(_scaled(used.arithmetic_share, 0.01)),
        entry.row.way,
    )


def _scaled(value: float | None, unit: float) -> float | None:
    return None if value is None else value / unit


def _notes(judged: Sequence[RatedRow]) -> list[str]:
    """One footnote per column and case, in the order of the columns; then failed tests."""
    models = {_name(entry.row): entry.model for entry in judged}
    notes = [
        f"{name} is not a real model but a {model.stand_in}."
        for name, model in models.items()
        if model is not None and model.stand_in
    ]
    notes += [f"[1] {_bytes_read_text(name, model)}" for name, model in models.items()]
    notes += _distinct("[2]", (_card_text(entry, _bandwidth) for entry in judged))
    by_size = [text for text in map(_share_by_size, judged) if text]
    notes += [f"[2] By size × t/s, as if the whole file were read: {'; '.join(by_size)}."] if by_size else []
    notes += [f"[3] {_arithmetic_text(name, model)}" for name, model in models.items()]
    notes += _distinct("[4]", (_card_text(entry, _arithmetic) for entry in judged))
    notes += _distinct("[5]", (_method(entry.row) for entry in judged))
    failed: dict[tuple[str, str], list[str]] = {}
    for row in (entry.row for entry in judged if entry.row.error):
        failed.setdefault((row.way, row.error), []).append(row.test.label)
    return notes + [f"{', '.join(labels)} by {way} failed: {error}" for (way, error), labels in failed.items()]


def _distinct(mark: str, texts: Iterable[str]) -> list[str]:
    return [f"{mark} {text}" for text in dict.fromkeys(texts) if text]


def _bytes_read_text(name: str, model: ModelFacts | None) -> str:
    if model is None:
        return f"{name}: bytes read are unknown, because the model's file is unknown: set it with -m."
    if model.token_bytes is None:
        return f"{name}: bytes read are unknown: the file does not state how many experts a token uses."
    text = (
        f"{name}: bytes read × t/s. A generated token reads {model_size_text(model.token_bytes)} of weights of "
        f"{model_size_text(model.weight_bytes)}"
    )
    if model.looked_up_bytes:
        text += f"; it reads one row of the token embedding's {model_size_text(model.looked_up_bytes)}"
    if model.experts:
        text += f"; {model.experts_used} of {model.experts} experts"
    text += ". A prompt reads them once per micro-batch"
    if model.batch_bytes is None:
        text = f"{text.rpartition('.')[0]}. For a prompt the router decides which experts are read: n/a"
    cache = (
        "Reads of the KV cache count"
        if model.attention
        else f"Reads of the KV cache do not count: {model.attention_unknown}"
    )
    return f"{text}. {cache}."


def _arithmetic_text(name: str, model: ModelFacts | None) -> str:
    if model is None or model.multiplied is None:
        return f"{name}: the arithmetic is unknown, for the reason in [1]."
    attention = "and attention" if model.attention else f"without attention ({model.attention_unknown})"
    return (
        f"{name}: 2 × {parameters_text(model.multiplied)} multiplying parameters per generated token, {attention}; "
        "for a prompt the output matrix and the last layer's feed-forward part count once."
    )


def _bandwidth(device: CardLimits) -> str:
    figure = device.bandwidth_gb_per_s
    return (
        f"{device.name}: {figure.value:g} GB/s, from: {figure.origin}." if figure else f"{device.name}: n/a, unknown."
    )


def _arithmetic(device: CardLimits) -> str:
    peak = device.peak_tflops
    if peak is None:
        return f"{device.name}: n/a, unknown."
    kind, figure = peak
    return f"{device.name}: {kind} {figure.value:g} TFLOP/s, from: {figure.origin}."


def _card_text(entry: RatedRow, figure: Callable[[CardLimits], str]) -> str:
    """The card's limit, or why there is no share of it; "" for a row that failed, which has its own note."""
    if entry.row.error:
        return ""
    if entry.efficiency.unknown or entry.device is None:
        return f"n/a: {entry.efficiency.unknown or 'the card is unknown'}."
    return figure(entry.device)


def _share_by_size(entry: RatedRow) -> str:
    """A row's share by the simpler rule size × t/s; "" if it equals our share, or is meaningless."""
    row, model, device = entry.row, entry.model, entry.device
    if model is None or device is None or device.bandwidth_gb_per_s is None or row.rate_per_s is None:
        return ""
    if entry.efficiency.bandwidth_share is None or row.test.prompt or not model.looked_up_bytes or model.experts:
        return ""
    by_size = model.weight_bytes * row.rate_per_s / 1e9
    share = percent_text(100 * by_size / device.bandwidth_gb_per_s.value)
    return f"{row.test.label} at {row.rate_per_s:.2f} t/s {three_digits_text(by_size)} GB/s, {share}%"


_CLOCKS: Mapping[str, str] = {
    "llama-bench": "its own clock around the computation; random tokens, no sampling, no requests.",
    "server": (
        "requests of exact lengths (random token ids, one at a time, prefix cache off), by llama.cpp's own timings. A "
        "prompt's time ends with its first token; N generated tokens are the N after it; both include sampling. "
        "A depth is filled before the test, and not timed."
    ),
    "client": (
        "requests of exact lengths (random token ids, never repeated), by our clock around whole requests: a prompt's "
        "time is that of a request for one token; generation and depth are differences of two requests."
    ),
}


def _method(row: BenchRow) -> str:
    return f"{row.way} ({row.engine}): {_CLOCKS[row.clock]}"
