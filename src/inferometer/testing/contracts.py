"""Contract tests that every engine, workload, probe and foreign reader must pass: ours and those of other packages.

Each contract is a class of tests for pytest. A package subclasses it and gives the `case` fixture:

    class TestMyEngine(EngineContract):
        @pytest.fixture
        def case(self) -> EngineCase:
            return EngineCase(MyEngine(), Arm("mine", model="m"), broken=Arm("mine", model="gone"), broken_says="gone")

`tmp_path` is pytest's own fixture. This module does not import pytest.
"""

import contextlib
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from inferometer.base import extensions
from inferometer.base.errors import InferometerError, RequestWrong, SpecInvalid
from inferometer.core import quantities
from inferometer.core.record import Fact
from inferometer.core.request import Sampled, TokenCounter
from inferometer.core.spec import Arm, Spec
from inferometer.core.spec_file import to_yaml
from inferometer.core.workload_settings import WorkloadSettings
from inferometer.engines import readiness
from inferometer.engines.base import DEFAULT_SAMPLING, Engine
from inferometer.engines.catalog import engine_class
from inferometer.engines.process_group import is_alive
from inferometer.foreign.foreign_run import ForeignRun
from inferometer.metrics.rows import metric_rows
from inferometer.net.http_client import server_at
from inferometer.probes.base import Probe
from inferometer.study.study_file import parse_study
from inferometer.workloads.catalog import make_workload, settings_struct

PERCENTILES = (50.0, 90.0, 95.0, 99.0, 99.9)


class EngineCase(msgspec.Struct):
    """An engine, an arm that works and one that does not.

    `broken_says`: evidence that the broken arm's error must show. `token_line`: what the engine's log has for each
    answer; "" if the log does not show answers.
    """

    engine: Engine
    arm: Arm
    broken: Arm
    broken_says: str
    token_line: str = ""


class EngineContract:
    """Ready means that a real token came; no process is left; the version is reported; a failure shows its cause."""

    def test_it_is_registered_under_the_name_in_its_description(self, case: EngineCase) -> None:
        assert engine_class(case.arm.engine) is type(case.engine)
        assert case.engine.description.name == case.arm.engine
        assert case.engine.description.summary

    def test_its_description_accepts_the_arm(self, case: EngineCase) -> None:
        assert case.engine.description.problems(case.arm) == []

    def test_a_check_of_a_good_arm_raises_nothing(self, case: EngineCase) -> None:
        case.engine.check(case.arm)

    def test_ready_means_that_a_token_comes(self, case: EngineCase, tmp_path: Path) -> None:
        with case.engine.start(case.arm, tmp_path / "log") as endpoint:
            server = server_at(endpoint.base_url, endpoint.headers)
            assert readiness.ask_for_token(server, case.arm, endpoint.model, DEFAULT_SAMPLING, timeout_s=30.0).came
            if case.token_line:  # one answer for us, and one before the engine was called ready
                assert (tmp_path / "log").read_text().count(case.token_line) >= 2

    def test_it_reports_its_version(self, case: EngineCase, tmp_path: Path) -> None:
        with case.engine.start(case.arm, tmp_path / "log") as endpoint:
            names = {fact.name for fact in endpoint.facts}
        assert "engine" in names
        assert names & {quantities.ENGINE_VERSION, quantities.ENGINE_BUILD}
        _require_sources(endpoint.facts)

    def test_facts_at_the_end_are_new_and_have_a_source(self, case: EngineCase, tmp_path: Path) -> None:
        with case.engine.start(case.arm, tmp_path / "log") as endpoint:
            pass
        late = case.engine.facts_at_end(endpoint)
        _require_sources(late)
        assert {fact.name for fact in late}.isdisjoint(fact.name for fact in endpoint.facts)

    def test_a_good_end_leaves_no_process(self, case: EngineCase, tmp_path: Path) -> None:
        self._require_no_process_left(case, tmp_path, None)

    def test_an_error_leaves_no_process(self, case: EngineCase, tmp_path: Path) -> None:
        self._require_no_process_left(case, tmp_path, ValueError())

    def test_an_interrupt_leaves_no_process(self, case: EngineCase, tmp_path: Path) -> None:
        self._require_no_process_left(case, tmp_path, KeyboardInterrupt())

    def test_a_failure_shows_its_evidence_and_what_to_try(self, case: EngineCase, tmp_path: Path) -> None:
        said = ""
        try:
            with case.engine.start(case.broken, tmp_path / "log"):
                pass
        except InferometerError as error:
            said = str(error)
        assert case.broken_says in said
        assert "Try: " in said or "start the server" in said

    def _require_no_process_left(self, case: EngineCase, folder: Path, error: BaseException | None) -> None:
        pids: tuple[int, ...] = ()
        with contextlib.suppress(ValueError, KeyboardInterrupt):
            with case.engine.start(case.arm, folder / "log") as endpoint:
                pids = endpoint.pids
                assert all(map(is_alive, pids))
                if error is not None:
                    raise error
            assert error is None, "the engine swallowed an exception"
        assert bool(pids) == case.engine.description.is_started
        assert not any(map(is_alive, pids))


class WorkloadCase(msgspec.Struct):
    """Settings of a registered workload, and the tokenizer that it samples with."""

    settings: WorkloadSettings
    counter: TokenCounter | None = None

    def sample(self, seed: int) -> Sampled:
        return make_workload(self.settings).sample(seed, self.counter)


class WorkloadContract:
    """The same seed gives the same requests; the settings are checked strictly and survive the study file."""

    def test_the_same_seed_gives_the_same_requests(self, case: WorkloadCase) -> None:
        assert case.sample(7) == case.sample(7)

    def test_requests_are_not_empty_and_have_names_of_their_own(self, case: WorkloadCase) -> None:
        sampled = case.sample(1)
        names = [request.id for request in (*sampled.requests, *sampled.spare)]
        assert sampled.requests
        assert len(set(names)) == len(names)
        assert all(request.prompt for request in sampled.requests)

    def test_there_are_at_most_as_many_requests_as_the_settings_ask_for(self, case: WorkloadCase) -> None:
        wanted = case.settings.request_count()
        assert wanted is None or len(case.sample(1).requests) <= wanted

    def test_send_times_are_there_if_the_settings_promise_them(self, case: WorkloadCase) -> None:
        sampled = case.sample(1)
        assert len(sampled.recorded_ns) == (len(sampled.requests) if case.settings.HAS_TIMES else 0)
        assert list(sampled.recorded_ns) == sorted(sampled.recorded_ns)

    def test_the_source_is_named(self, case: WorkloadCase) -> None:
        source = case.sample(1).source
        assert source and all(name and value for name, value in source)

    def test_the_study_file_gives_the_settings_back(self, case: WorkloadCase) -> None:
        assert settings_struct(case.settings.kind) is type(case.settings)
        assert parse_study(to_yaml(_study_of(case.settings)), "study.yaml").workload == case.settings

    def test_an_unknown_setting_is_refused_with_the_nearest_name(self, case: WorkloadCase) -> None:
        name = case.settings.__struct_fields__[0]
        raw: dict[str, Any] = msgspec.yaml.decode(to_yaml(_study_of(case.settings)))
        raw["workload"][name + "x"] = raw["workload"].pop(name)
        said = ""
        try:
            parse_study(msgspec.yaml.encode(raw).decode(), "study.yaml")
        except SpecInvalid as error:
            said = str(error)
        assert f"workload.{name}x: unknown field; did you mean {name!r}?" in said


class ProbeCase(msgspec.Struct):
    """A probe, and whether it has something to read here."""

    probe: Probe
    reads_here: bool = True


class ProbeContract:
    """Readings carry the given time and finite values; a probe with nothing to read says why and reads nothing."""

    def test_it_has_a_name_and_an_interval(self, case: ProbeCase) -> None:
        assert case.probe.name
        assert case.probe.interval_s > 0

    def test_readings_have_the_given_time_a_source_and_finite_values(self, case: ProbeCase) -> None:
        for sample in case.probe.read(123):
            assert sample.at_ns == 123
            assert sample.source and sample.quantity
            assert math.isfinite(sample.value)

    def test_it_reads_something_or_says_why_not(self, case: ProbeCase) -> None:
        found = [*case.probe.read(0), *case.probe.read(1)]  # some probes need two readings for a rate
        if case.reads_here:
            assert found and not case.probe.reason
        if case.probe.reason:
            assert not case.probe.read(2)

    def test_its_facts_have_a_value_and_a_source(self, case: ProbeCase) -> None:
        case.probe.read(0)
        _require_sources(case.probe.facts())


class ReaderCase(msgspec.Struct):
    """A foreign reader and the text of a real file of its tool."""

    runs_of: Callable[[str, str], Sequence[ForeignRun] | None]
    text: str


class ForeignReaderContract:
    """A reader gives its own tool's runs, None for other texts, and RequestWrong for damaged ones; it never crashes."""

    def test_its_own_file_gives_runs_in_our_metrics(self, case: ReaderCase) -> None:
        runs = case.runs_of(case.text, "name")
        assert runs
        keys = {row.key for row in metric_rows(PERCENTILES)}
        for run in runs:
            assert run.name and run.tool
            assert run.values.keys() <= keys
            assert run.differs.keys() <= run.values.keys()

    def test_other_texts_are_not_its_own(self, case: ReaderCase) -> None:
        for text in ("", "{}", "[]", "a text\n", '{"other": [1, 2]}'):
            assert not case.runs_of(text, "name")

    def test_a_file_cut_off_anywhere_is_read_or_refused(self, case: ReaderCase) -> None:
        for tenths in range(10):
            with contextlib.suppress(RequestWrong):
                case.runs_of(case.text[: len(case.text) * tenths // 10], "name")


def require_registered(kind: extensions.Kind, name: str) -> None:
    """Fails unless the entry point of this name is installed and can be imported."""
    assert name in extensions.names(kind)
    assert extensions.factory(kind, name) is not None


def _require_sources(facts: Sequence[Fact]) -> None:
    assert all(fact.value and fact.source for fact in facts)


def _study_of(settings: WorkloadSettings) -> Spec:
    return Spec(arms={"a": Arm("external", url="http://localhost:1")}, workload=settings)
