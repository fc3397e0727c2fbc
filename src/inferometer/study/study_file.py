"""Study files that are to be run: read and checked against the installed engines and workloads."""

from pathlib import Path

from inferometer.base.extensions import names
from inferometer.core.search_settings import Search
from inferometer.core.spec import Spec
from inferometer.core.spec_checks import StudyRules, checked
from inferometer.core.spec_file import parse, parse_search
from inferometer.engines.catalog import arm_problems
from inferometer.store import study_text
from inferometer.workloads.catalog import settings_struct, workload_kinds


def installed_rules() -> StudyRules:
    """What the installed engines and workloads demand of a study file."""
    return StudyRules(names("engine"), workload_kinds(), settings_struct, arm_problems)


def load_spec(path: Path | str) -> Spec:
    """The study in a file. Raises RequestWrong if the file cannot be read, SpecInvalid if the study cannot be run."""
    return parse_study(study_text(path), str(path))


def parse_study(text: str, source: str) -> Spec:
    """A study from YAML. Raises SpecInvalid with every problem at once."""
    return parse(text, source, installed_rules())


def load_search(path: Path | str) -> tuple[Spec, Search]:
    """The study in a file with its section `search:`. Raises like `load_spec`."""
    return parse_search(study_text(path), str(path), installed_rules())


def check_study(spec: Spec, source: str) -> Spec:
    """The spec itself, if it can be run. Raises SpecInvalid with every problem at once."""
    return checked(spec, source, installed_rules())
