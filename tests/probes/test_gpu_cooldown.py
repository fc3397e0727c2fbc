"""When the next trial may begin."""

import pytest

from inferometer.core.spec import Settle
from inferometer.probes.gpu_cooldown import GpuState, gpu_states, remaining_wait

COOL = [GpuState(40.0, 1980.0)]


def test_without_a_gpu_only_the_seconds_count():
    assert remaining_wait(Settle(seconds=5), 4.9, [], []) == "5 s of pause"
    assert remaining_wait(Settle(seconds=5, temperature_c=1), 5.0, [], []) is None
    assert remaining_wait(Settle(), 0.0, COOL, COOL) is None


@pytest.mark.parametrize(
    ("now", "said"),
    [
        (GpuState(43.0, 1980.0), None),
        (GpuState(43.1, 1980.0), "GPU 0 to cool: 43.1 °C, 40 °C at the start"),
        (GpuState(40.0, 1881.0), None),
        (GpuState(40.0, 1880.0), "GPU 0 to clock up: 1880 MHz, 1980 MHz at the start"),
        (GpuState(None, None), None),
    ],
)
def test_a_gpu_must_come_back_to_the_stated_distance(now, said):
    assert remaining_wait(Settle(temperature_c=3, clock_percent=5), 1.0, COOL, [now]) == said


def test_what_does_not_come_back_is_waited_for_no_longer_than_asked():
    assert remaining_wait(Settle(temperature_c=3, at_most_s=60), 59.0, COOL, [GpuState(80.0, None)]) is not None
    assert remaining_wait(Settle(temperature_c=3, at_most_s=60), 60.0, COOL, [GpuState(80.0, None)]) is None


class Nvml:
    """As pynvml answers for a card that tells its temperature and not its clock."""

    NVML_TEMPERATURE_GPU = 0
    NVML_CLOCK_SM = 1

    class NVMLError(Exception):
        pass

    def nvmlInit(self) -> None:
        pass

    def nvmlDeviceGetCount(self) -> int:
        return 1

    def nvmlDeviceGetHandleByIndex(self, i: int) -> int:
        return i

    def nvmlDeviceGetName(self, handle: int) -> str:
        return "NVIDIA H200"

    def nvmlDeviceGetTemperature(self, handle: int, sensor: int) -> int:
        return 51

    def nvmlDeviceGetClockInfo(self, handle: int, kind: int) -> int:
        raise self.NVMLError("Not Supported")


def test_a_card_that_does_not_tell_is_not_waited_for():
    assert gpu_states(Nvml()) == [GpuState(51.0, None)]
