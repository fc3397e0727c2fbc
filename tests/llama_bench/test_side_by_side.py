from pathlib import Path

from inferometer.foreign.readers import read
from inferometer.llama_bench.row import BenchRow, BenchTest
from inferometer.llama_bench.side_by_side import side_by_side, side_by_side_sheet

RECORDED = Path(__file__).parents[1] / "foreign" / "recorded"


def row(test: BenchTest, rate: float | None, deviation: float | None = None, **settings: str) -> BenchRow:
    return BenchRow(
        test, "llama-bench", "llama-bench", "llama-bench b1", "", "m", None, None, "CUDA",
        settings=settings, reported_rate_per_s=rate, reported_deviation_per_s=deviation,
    )  # fmt: skip


PP, TG = BenchTest(512, 0), BenchTest(0, 128)


def test_tests_stand_beside_one_another_with_their_difference_from_the_first_run():
    content = side_by_side([("a", [row(PP, 100.0, 2.0), row(TG, 20.0)]), ("b", [row(TG, 30.0), row(PP, 50.0)])])
    assert [(test.test, test.differences_percent) for test in content.tests] == [
        ("pp512", {"b": -50.0}), ("tg128", {"b": 50.0})
    ]  # fmt: skip
    assert side_by_side_sheet(content).rows == (
        ("pp512", "100.00 ± 2.00", "50.00 ± n/a (-50.0%)"),
        ("tg128", "20.00 ± n/a", "30.00 ± n/a (+50.0%)"),
    )


def test_a_test_that_one_run_lacks_or_failed_has_no_difference():
    content = side_by_side([("a", [row(PP, 100.0)]), ("b", [row(PP, None), row(TG, 5.0)])])
    assert side_by_side_sheet(content).rows == (("pp512", "100.00 ± n/a", "n/a"), ("tg128", "n/a", "5.00 ± n/a"))


def test_what_varies_within_a_run_tells_its_tests_apart_and_what_does_not_is_said_below():
    runs = read((RECORDED / "llama-bench-b11434-fa.csv").read_text(), "x")
    content = side_by_side([(run.name, run.rows) for run in runs or ()])
    assert [test.test for test in content.tests] == ["pp16, fa 0", "tg8, fa 0", "pp16, fa 1", "tg8, fa 1"]
    assert side_by_side_sheet(content).notes[0] == (
        "x: qwen2 ?B Q8_0, 3.93 MiB, 3.87 M parameters, CPU, llama-bench b11434, ngl -1, threads 1, type_k f16, "
        "type_v f16"
    )


def test_runs_and_tests_that_come_twice_are_numbered():
    content = side_by_side([("a", [row(PP, 1.0), row(PP, 2.0)]), ("a", [row(PP, 3.0)])])
    assert content.runs == ("a", "a (2)")
    assert [(test.test, test.differences_percent) for test in content.tests] == [
        ("pp512", {"a (2)": 200.0}), ("pp512 (2)", {"a (2)": None})
    ]  # fmt: skip


def test_settings_that_differ_between_the_runs_are_named():
    a = ("a", [row(PP, 1900.0, n_ubatch="2048", use_mmap="0", n_gpu_layers="99")])
    b = ("b", [row(PP, 1500.0, n_ubatch="512", use_mmap="1", n_gpu_layers="99")])
    content = side_by_side([a, b])
    assert content.unlike == {"n_ubatch": {"a": "2048", "b": "512"}, "mmap": {"a": "0", "b": "1"}}
    assert "n_ubatch 2048, 512; mmap 0, 1" in side_by_side_sheet(content).notes[2]
    c = ("c", [row(PP, 1500.0, n_ubatch="2048", use_mmap="0", n_gpu_layers="99", split_mode="row")])
    assert side_by_side([a, c]).unlike == {"sm": {"a": "n/a", "c": "row"}}  # a table leaves out what is at its default
    varied = ("d", [row(PP, 1.0, n_ubatch="2048"), row(PP, 2.0, n_ubatch="512")])
    assert "n_ubatch" not in side_by_side([a, varied]).unlike
