"""The contracts that Inferometer ships, over this package's members."""

import os

import pytest
from inferometer_example.engine import ExampleServer
from inferometer_example.probe import ProcessCount
from inferometer_example.reader import runs_of
from inferometer_example.workload import CountdownSettings

from inferometer.core.spec import Arm
from inferometer.testing.contracts import (
    EngineCase,
    EngineContract,
    ForeignReaderContract,
    ProbeCase,
    ProbeContract,
    ReaderCase,
    WorkloadCase,
    WorkloadContract,
)


class TestExampleServer(EngineContract):
    @pytest.fixture
    def case(self) -> EngineCase:
        broken = Arm("example-server", args=("--no-such-flag",))
        return EngineCase(ExampleServer(), Arm("example-server"), broken, "unrecognized arguments: --no-such-flag")


class TestCountdown(WorkloadContract):
    @pytest.fixture
    def case(self) -> WorkloadCase:
        return WorkloadCase(CountdownSettings(num_prompts=5))


class TestProcessCount(ProbeContract):
    @pytest.fixture
    def case(self) -> ProbeCase:
        return ProbeCase(ProcessCount([os.getpid()]))


class TestReader(ForeignReaderContract):
    @pytest.fixture
    def case(self) -> ReaderCase:
        return ReaderCase(runs_of, "example tool\noutput_throughput: 12.5\n")
