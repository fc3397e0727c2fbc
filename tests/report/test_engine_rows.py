from pathlib import Path

import msgspec

from inferometer.engine_bench.bench_files import known_devices
from inferometer.foreign.llama_bench_output import rows_of
from inferometer.llama_bench.devices import CardLimits, requested_device
from inferometer.llama_bench.efficiency import Efficiency, efficiency, facts_from_size
from inferometer.llama_bench.gguf_facts import Attention, ModelFacts
from inferometer.llama_bench.judging import judged
from inferometer.llama_bench.row import BenchRow, BenchTest
from inferometer.llama_bench.sheet import RatedRow, Sheet, sheet, shown_settings
from inferometer.report.engine_rows import markdown, terminal

RECORDED = Path(__file__).parents[1] / "foreign" / "recorded"
MODEL = ModelFacts(
    architecture="qwen2",
    size_label="32B",
    file_type="Q4_K - Medium",
    weight_bytes=19_842_768_896,
    parameters=32_763_876_352,
    token_bytes=19_404_824_576,
    batch_bytes=19_404_824_576,
    looked_up_bytes=437_944_320,
    multiplied=31_984_189_440,
    multiplied_at_output=1_203_240_960,
    layers=64,
    attention=Attention(layers=64, heads=40, kv_heads=8, key_width=128, value_width=128),
)


def row(test: BenchTest, rate_per_s: float, **fields: object) -> BenchRow:
    """One of the seed's rows on its RTX 3090."""
    seconds = test.tokens / rate_per_s
    blank = BenchRow(
        test,
        "llama-bench",
        "llama-bench",
        "llama-bench b11434",
        "m.gguf",
        MODEL.description,
        MODEL.weight_bytes,
        MODEL.parameters,
        "CUDA",
        ("NVIDIA GeForce RTX 3090",),
        {"n_gpu_layers": "99", "n_threads": "8"},
    )
    return msgspec.structs.replace(blank, **{"samples_ns": (round(seconds * 1e9),) * 2, **fields})


def sheet_of(*rows: BenchRow, model: ModelFacts | None = MODEL, stated: CardLimits | None = None) -> Sheet:
    models = {} if model is None else {"m.gguf": model}
    return sheet(judged(rows, models, known_devices(), stated, everywhere=False), [])


def test_the_first_columns_are_llama_bench_s_to_the_byte():
    """The recorded table and JSON are of one run of llama-bench, which prints both."""
    rows = rows_of((RECORDED / "llama-bench-b11434.jsonl").read_text())
    content = sheet(judged(rows, {}, known_devices(), None, everywhere=False), ["flash_attn"])
    cut = content.llama_bench_columns
    own = Sheet(content.columns[:cut], tuple(cells[:cut] for cells in content.rows), (), cut)
    assert markdown(own).strip() == (RECORDED / "llama-bench-b11434.md").read_text().strip()


def test_beside_them_stands_what_the_rate_uses_of_the_card():
    """37.71/s × (18.07 GiB + 262,144 B × 64.5 positions) = 732.4 GB/s: 78.2% of 936.2. 37.71/s × (2 × 31.98 G + 64 ×
    40 × 2 × 256 × 64.5) = 2.42 TFLOP/s: 3.4% of 71."""
    content = sheet_of(row(BenchTest(0, 128), 37.71))
    assert [column.head for column in content.columns] == [
        "model", "size", "params", "backend", "ngl", "test", "t/s",
        "GB/s [1]", "% of card [2]", "TFLOP/s [3]", "% of card [4]", "by [5]",
    ]  # fmt: skip
    assert content.rows == (
        ("qwen2 32B Q4_K - Medium", "18.48 GiB", "32.76 B", "CUDA", "99", "tg128", "37.71 ± 0.00",
         "732", "78.2", "2.42", "3.4", "llama-bench"),
    )  # fmt: skip


def test_each_figure_has_its_source_in_a_footnote():
    notes = "\n".join(sheet_of(row(BenchTest(0, 128), 37.71), row(BenchTest(512, 0), 1294.03)).notes)
    assert (
        "[1] qwen2 32B Q4_K - Medium: bytes read × t/s. A generated token reads 18.07 GiB of weights of 18.48" in notes
    )
    assert "it reads one row of the token embedding's 417.66 MiB" in notes
    assert "[2] RTX 3090: 936.2 GB/s, from: TechPowerUp" in notes
    assert "[4] RTX 3090: FP16 matrix rate 71 TFLOP/s, from: NVIDIA Ampere GA102 GPU Architecture whitepaper" in notes
    assert "[5] llama-bench (llama-bench b11434): its own clock" in notes


def test_the_simpler_rule_is_told_beside_ours():
    """18.48 GiB × 37.71/s = 748.3 GB/s: 79.9% of 936.2; the seed's check. A prompt has no such number."""
    notes = [
        note
        for note in sheet_of(row(BenchTest(0, 128), 37.71), row(BenchTest(512, 0), 1294.03)).notes
        if "By size" in note
    ]
    assert notes == ["[2] By size × t/s, as if the whole file were read: tg128 at 37.71 t/s 748 GB/s, 79.9%."]


def test_where_only_the_size_is_known_it_counts_whole_and_that_is_said():
    content = sheet_of(row(BenchTest(0, 128), 37.71), model=None)
    assert content.rows[0][7:9] == ("748", "79.9")
    assert "the model's file is not available, so that its whole size counts" in content.notes[0]


def test_a_share_that_means_nothing_is_not_there_and_why_is_said():
    cases = {
        "it ran on the CPU": row(BenchTest(0, 8), 5.0, backend="CPU", devices=()),
        "the card that it ran on is unknown: name it with --card": row(BenchTest(0, 8), 5.0, devices=()),
        "it could use 2 cards": row(BenchTest(0, 8), 5.0, devices=("A", "B")),
        "no figures are known for the card 'GTX 1080'": row(BenchTest(0, 8), 5.0, devices=("GTX 1080",)),
        "only 20 of 65 layers": row(BenchTest(0, 8), 5.0, settings={"n_gpu_layers": "20"}),
    }
    for why, case in cases.items():
        content = sheet_of(case)
        assert (content.rows[0][-4], content.rows[0][-2]) == ("n/a", "n/a")
        assert any(note.startswith("[2] n/a: ") and why in note for note in content.notes)


def test_a_named_card_is_for_rows_on_a_gpu_and_stated_figures_are_for_all():
    h200 = requested_device(known_devices(), "H200")
    on_gpu, on_cpu = row(BenchTest(0, 8), 5.0, devices=()), row(BenchTest(0, 8), 5.0, backend="CPU", devices=())
    named = judged([on_gpu, on_cpu], {"m.gguf": MODEL}, known_devices(), h200, everywhere=False)
    assert [entry.device and entry.device.name for entry in named] == ["H200", None]
    stated = judged([on_gpu, on_cpu], {"m.gguf": MODEL}, known_devices(), CardLimits("as stated"), everywhere=True)
    assert [entry.device.name for entry in stated] == ["as stated", "as stated"]


def test_a_failed_row_stays_in_the_table_and_its_reason_is_told_once():
    failed = [row(test, 1.0, samples_ns=(), error="it broke") for test in (BenchTest(512, 0), BenchTest(0, 128))]
    content = sheet_of(*failed)
    assert [cells[6] for cells in content.rows] == ["n/a", "n/a"]
    assert content.notes[-1] == "pp512, tg128 by llama-bench failed: it broke"
    assert not any(note.startswith("[2]") for note in content.notes)


def test_settings_that_differ_between_rows_are_shown():
    one, two = row(BenchTest(0, 8), 5.0), row(BenchTest(0, 8), 5.0, settings={"n_gpu_layers": "99", "n_threads": "4"})
    assert shown_settings([one, one], []) == ["n_gpu_layers"]
    assert shown_settings([one, two], []) == ["n_gpu_layers", "n_threads"]
    assert shown_settings([one], ["flash_attn", "n_batch"]) == ["n_gpu_layers", "n_batch", "flash_attn"]


def test_experts_are_told_and_a_prompt_through_them_reads_no_one_knows_what():
    model = msgspec.structs.replace(MODEL, batch_bytes=None, experts=128, experts_used=8)
    content = sheet_of(row(BenchTest(512, 0), 100.0), model=model)
    assert content.rows[0][7] == "n/a"
    assert (
        "8 of 128 experts. For a prompt the router decides which experts are read: n/a. Reads of the KV"
        in content.notes[0]
    )


def test_the_terminal_has_the_same_cells_in_aligned_columns():
    content = sheet_of(row(BenchTest(0, 128), 37.71), row(BenchTest(512, 0), 1294.03))
    head, rule, first, second, *_ = terminal(content).splitlines()
    assert head.split("  ")[0] == "model"
    assert set(rule) == {"-"}
    assert first.index("37.71 ± 0.00") + len("37.71 ± 0.00") == second.index("1294.03 ± 0.00") + len("1294.03 ± 0.00")
    assert first.endswith("llama-bench")


def test_a_pipe_in_a_name_does_not_break_the_table():
    content = sheet_of(row(BenchTest(0, 8), 5.0, description="a|b"))
    assert "a\\|b" in markdown(content)


def test_a_row_without_anything_known_is_shown():
    blank = BenchRow(
        BenchTest(0, 8), "server", "client", "external", "http://h:1/x", "", None, None, "", samples_ns=(10**9,)
    )
    content = sheet([RatedRow(blank, Efficiency(None, None), facts_from_size(blank), None)], [])
    assert content.rows[0][:4] == ("x", "n/a", "n/a", "n/a")
    assert efficiency(blank, None, None).bytes_per_s is None
    assert "set it with -m" in content.notes[0]
