import msgspec
import pytest

from inferometer.base.errors import RequestWrong
from inferometer.llama_bench.row import BenchRow, BenchTest, bench_tests, flag_numbers, length_pairs


def test_tests_are_labelled_as_llama_bench_labels_them():
    tests = [BenchTest(512, 0), BenchTest(0, 128), BenchTest(512, 128), BenchTest(0, 128, 4096)]
    assert [test.label for test in tests] == ["pp512", "tg128", "pp512+tg128", "tg128 @ d4096"]


def test_every_depth_has_every_test_prompts_first():
    tests = bench_tests([512, 0], [128], [(64, 16)], [0, 4096])
    assert [test.label for test in tests] == [
        "pp512", "tg128", "pp64+tg16", "pp512 @ d4096", "tg128 @ d4096", "pp64+tg16 @ d4096",
    ]  # fmt: skip


def test_a_mean_is_of_the_rates_and_its_deviation_is_the_sample_s():
    """100 tokens in 2 s and in 1 s: rates 50 and 100, mean 75, deviation 25 × √2."""
    row = BenchRow(
        BenchTest(100, 0), "server", "server", "e", "m", "", None, None, "", samples_ns=(2_000_000_000, 1_000_000_000)
    )
    assert row.rate_per_s == 75.0
    assert row.deviation_per_s == pytest.approx(35.3553, abs=1e-4)
    once = msgspec.structs.replace(row, samples_ns=(2_000_000_000,))
    assert (once.rate_per_s, once.deviation_per_s) == (50.0, None)


@pytest.mark.parametrize(
    ("texts", "numbers"),
    [
        (["512"], [512]),
        (["128,256", "512"], [128, 256, 512]),
        (["0-8192+4096"], [0, 4096, 8192]),
        (["1-8*2"], [1, 2, 4, 8]),
        (["1-3"], [1, 2, 3]),
    ],
)
def test_lists_and_ranges_are_read_as_llama_bench_reads_them(texts: list[str], numbers: list[int]):
    assert flag_numbers(texts, "-p") == numbers


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("abc", "needs whole numbers"),
        ("", "needs whole numbers"),
        ("1,,2", "needs whole numbers"),
        ("-1", "must be at least 0, not -1"),
        ("0-8*2", "never ends"),
        ("1-8*1", "never ends"),
        ("8-1", "is empty or never ends"),
        ("1-8+0", "never ends"),
        ("0-1000000", "more than 1000 values"),
    ],
)
def test_what_is_no_list_of_numbers_is_refused_with_the_flag(text: str, why: str):
    with pytest.raises(RequestWrong, match=f"^-p.*{why}"):
        flag_numbers([text], "-p")


def test_a_pair_is_two_numbers():
    assert length_pairs(["512,128"], "-pg") == [(512, 128)]
    with pytest.raises(RequestWrong, match="-pg needs a prompt length and a generated length"):
        length_pairs(["512"], "-pg")


def test_no_test_at_all_is_refused():
    with pytest.raises(RequestWrong, match="there is no test"):
        bench_tests([0], [0], [], [0])
