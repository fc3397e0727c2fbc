"""What stands in the table of llama-bench's rows, and beside it? Columns, cells and footnotes, without a form yet."""

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


class Judged(msgspec.Struct, frozen=True):
    """A row with what it says of the machine. `model`, `device` None: not known."""

    row: BenchRow
    efficiency: Efficiency
    model: ModelFacts | None
    device: CardLimits | None


class SheetColumn(msgspec.Struct, frozen=True):
    """`width`: llama-bench's; `left`: aligned so."""

    head: str
    width: int
    left: bool = False


class Sheet(msgspec.Struct, frozen=True):
    """The table: `llama_bench_columns` of the columns are llama-bench's own, and come first."""

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
"""llama-bench's flags that we only pass on, and the column that it shows for each."""

_BESIDE = (
    SheetColumn("GB/s [1]", 8),
    SheetColumn("% of card [2]", 13),
    SheetColumn("TFLOP/s [3]", 11),
    SheetColumn("% of card [4]", 13),
    SheetColumn("by [5]", 11, left=True),
)


def sheet(judged: Sequence[Judged], asked: Iterable[str]) -> Sheet:
    """The table of these rows. `asked`: the settings that were given, by llama-bench's field names."""
    settings = shown_settings([entry.row for entry in judged], asked)
    own: list[tuple[SheetColumn, Callable[[BenchRow], str]]] = [
        (SheetColumn("model", 30, left=True), _name),
        (SheetColumn("size", 10), lambda row: model_size_text(row.size_bytes)),
        (SheetColumn("params", 10), lambda row: parameters_text(row.parameters)),
        (SheetColumn("backend", 10, left=True), lambda row: row.backend or "n/a"),
        *((SETTING_COLUMNS[name], lambda row, name=name: row.settings.get(name) or "n/a") for name in settings),
        (SheetColumn("test", 15), lambda row: row.test.label),
        (SheetColumn("t/s", 20), lambda row: rate_text(row.rate_per_s, row.deviation_per_s)),
    ]
    return Sheet(
        columns=(*(column for column, _ in own), *_BESIDE),
        rows=tuple((*(cell(entry.row) for _, cell in own), *_beside(entry)) for entry in judged),
        notes=tuple(_notes(judged)),
        llama_bench_columns=len(own),
    )


def shown_settings(rows: Sequence[BenchRow], asked: Iterable[str]) -> list[str]:
    """Those that llama-bench would show: ngl with a GPU, threads without, what was asked for, and what differs."""
    backends = {row.backend for row in rows}
    shown = set(asked)
    if any(backend and "CPU" not in backend and "BLAS" not in backend for backend in backends):
        shown.add("n_gpu_layers")
    if any("CPU" in backend or "BLAS" in backend for backend in backends):
        shown.add("n_threads")
    shown |= {name for name in SETTING_COLUMNS if len({row.settings[name] for row in rows if name in row.settings}) > 1}
    return [name for name in SETTING_COLUMNS if name in shown]


def _name(row: BenchRow) -> str:
    """The model as llama-bench calls it, else its file's or the server's name for it."""
    return row.description or row.model.rpartition("/")[2]


def _beside(entry: Judged) -> tuple[str, ...]:
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


def _notes(judged: Sequence[Judged]) -> list[str]:
    """One footnote a column and case, in the order of the columns; then what failed."""
    models = {_name(entry.row): entry.model for entry in judged}
    notes = [
        f"{name} is not a real model but a {model.stand_in}."
        for name, model in models.items()
        if model is not None and model.stand_in
    ]
    notes += [f"[1] {_moved(name, model)}" for name, model in models.items()]
    notes += _distinct("[2]", (_card(entry, _bandwidth) for entry in judged))
    by_size = [text for text in map(_by_size, judged) if text]
    notes += [f"[2] By size × t/s, which counts the whole file as read: {'; '.join(by_size)}."] if by_size else []
    notes += [f"[3] {_done(name, model)}" for name, model in models.items()]
    notes += _distinct("[4]", (_card(entry, _arithmetic) for entry in judged))
    notes += _distinct("[5]", (_way(entry.row) for entry in judged))
    failed: dict[tuple[str, str], list[str]] = {}
    for row in (entry.row for entry in judged if entry.row.error):
        failed.setdefault((row.way, row.error), []).append(row.test.label)
    return notes + [f"{', '.join(labels)} by {way} failed: {error}" for (way, error), labels in failed.items()]


def _distinct(mark: str, texts: Iterable[str]) -> list[str]:
    return [f"{mark} {text}" for text in dict.fromkeys(texts) if text]


def _moved(name: str, model: ModelFacts | None) -> str:
    if model is None:
        return f"{name}: bytes read are not known, because the model's file is not: give it with -m."
    if model.token_bytes is None:
        return f"{name}: bytes read are not known; the file does not say how many experts a token uses."
    text = (
        f"{name}: bytes read × t/s. A generated token reads {model_size_text(model.token_bytes)} of weights of "
        f"{model_size_text(model.weight_bytes)}"
    )
    if model.looked_up_bytes:
        text += f"; of the token embedding's {model_size_text(model.looked_up_bytes)} it takes one row"
    if model.experts:
        text += f"; {model.experts_used} of {model.experts} experts"
    text += ". A prompt reads them once each micro-batch"
    if model.batch_bytes is None:
        text = f"{text.rpartition('.')[0]}. For a prompt it depends on the router which experts are read: n/a"
    cache = "The KV cache read is counted" if model.attention else f"No KV cache is counted: {model.attention_unknown}"
    return f"{text}. {cache}."


def _done(name: str, model: ModelFacts | None) -> str:
    if model is None or model.multiplied is None:
        return f"{name}: the arithmetic is not known, for the reason in [1]."
    attention = "and attention" if model.attention else f"without attention ({model.attention_unknown})"
    return (
        f"{name}: 2 × {parameters_text(model.multiplied)} parameters that multiply, a generated token, {attention}; "
        "for a prompt the output matrix and the last layer's feed-forward part count once."
    )


def _bandwidth(device: CardLimits) -> str:
    figure = device.bandwidth_gb_per_s
    return (
        f"{device.name}: {figure.value:g} GB/s, from: {figure.origin}." if figure else f"{device.name}: n/a, not known."
    )


def _arithmetic(device: CardLimits) -> str:
    peak = device.peak_tflops
    if peak is None:
        return f"{device.name}: n/a, not known."
    kind, figure = peak
    return f"{device.name}: {kind} {figure.value:g} TFLOP/s, from: {figure.origin}."


def _card(entry: Judged, figure: Callable[[CardLimits], str]) -> str:
    """The card's figure, or why there is no share of it. Nothing for a row that failed: that is said elsewhere."""
    if entry.row.error:
        return ""
    if entry.efficiency.unknown or entry.device is None:
        return f"n/a: {entry.efficiency.unknown or 'no card is known'}."
    return figure(entry.device)


def _by_size(entry: Judged) -> str:
    """A row's share by the simpler rule that many use; "" where it says nothing else than ours, or means nothing."""
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
        "prompt's time ends with its first token; N generated tokens are the N after that one; sampling is in both. "
        "A depth is in the slot before, and not timed."
    ),
    "client": (
        "requests of exact lengths (random token ids, never the same), by our clock around whole requests: a prompt's "
        "time is that of a request for one token; generation and depth are differences of two requests."
    ),
}


def _way(row: BenchRow) -> str:
    return f"{row.way} ({row.engine}): {_CLOCKS[row.clock]}"
