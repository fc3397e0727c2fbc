import msgspec
import pytest

from inferometer.engine_bench.bench_files import known_devices
from inferometer.llama_bench.devices import CardLimits, Figure, requested_device
from inferometer.llama_bench.efficiency import Efficiency, bytes_read, cache_bytes, efficiency, facts_from_size, flop
from inferometer.llama_bench.gguf_facts import Attention, ModelFacts
from inferometer.llama_bench.row import BenchRow, BenchTest

SEED_BYTES = 19_842_768_896  # 18.48 GiB
SMALL = ModelFacts(
    architecture="a",
    size_label="",
    file_type="F16",
    weight_bytes=1200,
    parameters=600,
    token_bytes=1000,
    batch_bytes=1000,
    looked_up_bytes=200,
    multiplied=500,
    multiplied_at_output=150,
    layers=4,
    attention=Attention(layers=4, heads=2, kv_heads=1, key_width=8, value_width=8),
)


def row(test: BenchTest, rate_per_s: float, **fields: object) -> BenchRow:
    blank = BenchRow(test, "llama-bench", "llama-bench", "llama-bench", "m.gguf", "", 1200, 600, "CUDA", ("X",))
    return msgspec.structs.replace(blank, samples_ns=(round(test.tokens * 1e9 / rate_per_s),), **fields)


@pytest.mark.parametrize(("card", "rate_per_s", "percent"), [("RTX 3090", 37.71, 80), ("W7900", 23.00, 53)])
def test_the_seed_s_cards_use_of_their_bandwidth(card: str, rate_per_s: float, percent: int):
    """18.48 GiB × 37.71/s = 748.3 GB/s of 936.2; 18.48 GiB × 23.00/s = 456.4 GB/s of 864.0."""
    seed = row(BenchTest(0, 128), rate_per_s, size_bytes=SEED_BYTES, parameters=32_760_000_000)
    used = efficiency(seed, facts_from_size(seed), requested_device(known_devices(), card))
    assert round(100 * used.bandwidth_share) == percent


def test_bytes_and_arithmetic_per_second_are_those_of_a_test_times_its_rate():
    """No attention: 10 tokens a second read 10,000 bytes and do 2 × 500 × 10 operations."""
    model = msgspec.structs.replace(SMALL, attention=None)
    used = efficiency(row(BenchTest(0, 20), 10.0), model, CardLimits("X", (), Figure(1e-4, "t"), Figure(1e-7, "t")))
    assert used == Efficiency(10_000.0, 10_000.0, bandwidth_share=0.1, arithmetic_share=0.1)


def test_a_generated_token_reads_the_cache_of_all_tokens_before_it():
    """4 layers × 1 head × (8 + 8) × 2 bytes = 128 bytes a position; positions 101 + 102 + 103 = 306."""
    assert cache_bytes(SMALL.attention, {}) == 128
    assert bytes_read(BenchTest(0, 3, depth=100), SMALL, {}) == 3 * 1000 + 306 * 128


def test_a_quantized_cache_is_smaller():
    """q8_0 keeps 32 elements in 34 bytes, q4_0 in 18: 4 × 8 × (34 + 18) / 32 = 52."""
    assert cache_bytes(SMALL.attention, {"type_k": "q8_0", "type_v": "q4_0"}) == 52


def test_a_prompt_reads_the_weights_once_each_micro_batch():
    """600 tokens: a micro-batch of 512 that ends at 512 and one that ends at 600."""
    assert bytes_read(BenchTest(600, 0), SMALL, {}) == 2 * 1000 + (512 + 600) * 128
    assert bytes_read(BenchTest(600, 0), SMALL, {"n_ubatch": "1024"}) == 1000 + 600 * 128
    assert bytes_read(BenchTest(600, 0), SMALL, {"n_batch": "300"}) == 2 * 1000 + (300 + 600) * 128


def test_of_a_prompt_only_the_last_token_passes_the_output_matrix():
    """2 × ((500 − 150) × 3 + 150) + 4 × 2 × 2 × (8 + 8) × (1 + 2 + 3) = 2400 + 1536."""
    assert flop(BenchTest(3, 0), SMALL) == 2400 + 1536


def test_every_generated_token_passes_the_output_matrix_and_looks_at_all_before_it():
    """2 × 500 × 2 + 256 × (11 + 12)."""
    assert flop(BenchTest(0, 2, depth=10), SMALL) == 2000 + 256 * 23


def test_a_prompt_and_what_follows_it_are_the_two_together():
    assert bytes_read(BenchTest(5, 2), SMALL, {}) == bytes_read(BenchTest(5, 0), SMALL, {}) + bytes_read(
        BenchTest(0, 2, 5), SMALL, {}
    )
    assert flop(BenchTest(5, 2), SMALL) == flop(BenchTest(5, 0), SMALL) + flop(BenchTest(0, 2, 5), SMALL)


def test_how_much_of_experts_a_prompt_reads_is_not_known():
    model = msgspec.structs.replace(SMALL, batch_bytes=None)
    assert bytes_read(BenchTest(5, 0), model, {}) is None
    assert bytes_read(BenchTest(0, 5), model, {}) is not None


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"settings": {"n_gpu_layers": "3"}}, "only 3 of 5 layers"),
        ({"settings": {"n_gpu_layers": "4"}}, "only 4 of 5 layers"),  # the output is on the CPU
        ({"offloaded": (3, 5)}, "only 3 of 5 layers"),
        ({"settings": {"n_cpu_moe": "2"}}, "experts are on the CPU"),
        ({"settings": {"devices": "none"}}, "no card was used"),
    ],
)
def test_what_ran_partly_elsewhere_has_no_share_of_the_card(fields: dict[str, object], why: str):
    used = efficiency(row(BenchTest(0, 20), 10.0, **fields), SMALL, CardLimits("X", (), Figure(1.0, "t")))
    assert used.bandwidth_share is None
    assert used.bytes_per_s > 0
    assert why in used.unknown


@pytest.mark.parametrize("settings", [{"n_gpu_layers": "99"}, {"n_gpu_layers": "-1"}, {"n_gpu_layers": "5"}, {}])
def test_what_is_all_on_the_card_has_a_share(settings: dict[str, str]):
    used = efficiency(row(BenchTest(0, 20), 10.0, settings=settings), SMALL, CardLimits("X", (), Figure(1.0, "t")))
    assert used.bandwidth_share is not None


def test_the_log_s_word_counts_more_than_the_flag():
    tested = row(BenchTest(0, 20), 10.0, settings={"n_gpu_layers": "3"}, offloaded=(5, 5))
    assert efficiency(tested, SMALL, CardLimits("X", (), Figure(1.0, "t"))).bandwidth_share is not None


def test_a_failed_test_or_an_unknown_model_uses_nothing_that_is_known():
    failed = msgspec.structs.replace(row(BenchTest(0, 20), 10.0), samples_ns=(), error="it broke")
    assert efficiency(failed, SMALL, None).bytes_per_s is None
    assert efficiency(row(BenchTest(0, 20), 10.0), None, None) == Efficiency(
        None, None, unknown="the model file is not known"
    )
    assert facts_from_size(row(BenchTest(0, 20), 10.0, size_bytes=None)) is None


@pytest.mark.parametrize(
    "name",
    [
        *("qwen3moe 30B.A3B", "llama 8x7B Q4_0", "gpt-oss 20B", "Qwen3-30B-A3B.gguf", "llama4 17Bx16E (Scout) Q4_K"),
        *("DeepSeek-R1-Q2_K.gguf", "deepseek2 671B", "granite-3.1-1b-a400m", "Kimi-K2-Instruct", "GLM-4.5-Air", "dbrx"),
    ],
)
def test_a_model_with_experts_has_no_share_of_bandwidth_from_its_size(name):
    one = BenchRow(BenchTest(0, 128), "llama-bench", "llama-bench", "b1", name, name, 10**10, 10**10, "CUDA")
    assert facts_from_size(one) is None
    for dense in ("llama 7B Q4_0", "DeepSeek-R1-Distill-Qwen-7B", "gemma3 27B", "Qwen3-32B"):
        assert facts_from_size(msgspec.structs.replace(one, model=dense, description=dense)) is not None
