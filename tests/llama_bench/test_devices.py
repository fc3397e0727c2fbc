import pytest

from inferometer.base.errors import RequestWrong
from inferometer.engine_bench.bench_files import known_devices
from inferometer.llama_bench.devices import Figure, find_device, read_devices, requested_device

KNOWN = known_devices()


@pytest.mark.parametrize(
    ("driver_says", "gb_per_s", "tflops"),
    [
        ("AMD Radeon PRO W7900", 864.0, 122.6),
        ("NVIDIA GeForce RTX 3090", 936.2, 71.0),
        ("NVIDIA GeForce RTX 4090", 1008.0, 165.2),
        ("NVIDIA GeForce RTX 5090", 1792.0, 209.5),
        ("Tesla P40", 346.0, 12.0),  # FP32: it has no matrix unit, and FP16 at 1/64 of that
        ("NVIDIA A100-SXM4-40GB", 1555.0, 312.0),
        ("NVIDIA A100-PCIE-40GB", 1555.0, 312.0),
        ("NVIDIA A100-SXM4-80GB", 2039.0, 312.0),
        ("NVIDIA A100 80GB PCIe", 1935.0, 312.0),
        ("NVIDIA H100 80GB HBM3", 3352.0, 989.4),
        ("NVIDIA H100 PCIe", 2039.0, 756.0),
        ("NVIDIA H200", 4800.0, 989.5),
        ("AMD Instinct MI300X", 5300.0, 1307.4),
        ("Apple M2 Ultra", 800.0, 27.2),
        ("Radeon 8060S Graphics (RADV STRIX_HALO)", 256.0, 59.4),
    ],
)
def test_the_cards_that_people_compare_are_known_by_their_drivers_names(
    driver_says: str, gb_per_s: float, tflops: float
):
    device = find_device(KNOWN, driver_says)
    assert device.bandwidth_gb_per_s.value == gb_per_s
    assert device.peak_tflops[1].value == tflops


def test_every_figure_names_its_origin():
    figures = [
        figure
        for device in KNOWN
        for figure in (device.bandwidth_gb_per_s, device.fp16_tflops, device.fp32_tflops, device.int8_tops)
        if figure is not None
    ]
    assert len(figures) > 60
    assert min(len(figure.origin) for figure in figures) > 10


def test_no_name_means_two_cards():
    names = [name.casefold() for device in KNOWN for name in {device.name.casefold(), *map(str.casefold, device.names)}]
    assert len(names) == len(set(names))


@pytest.mark.parametrize(
    "name", ["NVIDIA GeForce RTX 3090 Ti", "NVIDIA GeForce RTX 4090 Laptop GPU", "NVIDIA A100-SXM4-40GB MIG 1g.5gb"]
)
def test_a_card_of_a_similar_name_is_another_card(name: str):
    assert find_device(KNOWN, name) is None


def test_a_card_may_be_asked_for_by_its_short_name_in_any_case():
    assert requested_device(KNOWN, "rtx 3090").name == "RTX 3090"


def test_an_unknown_card_is_refused_with_the_nearest_and_the_way_out():
    with pytest.raises(
        RequestWrong, match=r"card 'H20O' is unknown\. Did you mean 'H200'\? Known: .*MI300X.*--bandwidth"
    ):
        requested_device(KNOWN, "H20O")


def test_a_rate_that_is_not_there_is_not_known():
    text = '[origins]\na = "a datasheet"\n[[device]]\nname = "X"\nnames = []\nbandwidth_gb_per_s = {is = 5, from = "a"}'
    (device,) = read_devices(text)
    assert device.bandwidth_gb_per_s == Figure(5.0, "a datasheet")
    assert device.peak_tflops is None


def test_a_figure_without_an_origin_is_no_figure():
    with pytest.raises(ValueError, match=r"'b' is not in \[origins\]"):
        read_devices('[[device]]\nname = "X"\nnames = []\nbandwidth_gb_per_s = {is = 5, from = "b"}')
