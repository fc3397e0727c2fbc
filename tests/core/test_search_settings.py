"""The section `search:` of a study file, and its short form on the command line."""

import pytest

from inferometer.base.errors import SpecInvalid
from inferometer.core.search_settings import LEVELS, Budget, Parameter, constraint, parameter_of
from inferometer.core.spec_file import parse, parse_search

STUDY = """
arms: {a: {engine: embedded, model: m.gguf}}
search:
  parameters:
    draft.n_max: {int: [1, 32], scale: log}
    draft.p_min: {float: [0.0, 0.9]}
    args.-ub: {choice: ["128", "512", "2048"]}
  objective: output_throughput
  constraints: ["memory < 24 GiB", "p95_ttft_ms < 500", "checks_passed not worse than baseline"]
  budget: {minutes: 30}
"""


def test_the_example_of_the_documentation_is_read():
    spec, search = parse_search(STUDY, "study.yaml")
    assert list(spec.arms) == ["a"]
    assert search.parameters["draft.n_max"] == Parameter(int=(1, 32), scale="log")
    assert search.parameters["args.-ub"].choice == ("128", "512", "2048")
    assert search.budget == Budget(minutes=30)
    limits = [constraint(text) for text in search.constraints]
    assert [(one.metric, one.sign, one.limit) for one in limits] == [
        ("memory", "<", 24),
        ("p95_ttft_ms", "<", 500),
        ("checks_passed", "", None),
    ]


def test_a_study_with_a_search_is_for_another_command():
    with pytest.raises(SpecInvalid, match=r"inferometer tune study\.yaml"):
        parse(STUDY, "study.yaml")


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ("{}", "parameters: is empty"),
        ("{threads: {int: [4, 2]}}", "range from 4 to 2 is empty"),
        ("{threads: {int: [0, 8], scale: log}}", "log needs a range above 0"),
        ("{threads: {choice: [1]}}", "none of them varies"),
        ("{threads: {choice: [1, 1]}}", "has a value twice"),
        ("{threads: {int: [1, 2], choice: [1, 2]}}", "one of int, float and choice, and has 2"),
        ("{threads: {integer: [1, 2]}}", "did you mean 'int'"),
        ("{args.ub: {choice: [1, 2]}}", "args.ub: is not a flag"),
    ],
)
def test_a_space_without_a_choice_is_refused(parameters: str, message: str):
    with pytest.raises(SpecInvalid, match=message):
        parse_search(f"arms: {{a: {{engine: embedded}}}}\nsearch: {{parameters: {parameters}}}", "study.yaml")


@pytest.mark.parametrize("text", ["memory", "memory == 3", "memory < GiB", "ttft not better than baseline"])
def test_an_unreadable_constraint_is_refused(text: str):
    with pytest.raises(ValueError, match="is not a constraint"):
        constraint(text)


def test_a_grid_has_few_levels_with_both_ends():
    lengths = Parameter(int=(1, 32), scale="log").levels()
    assert (lengths[0], lengths[-1]) == (1, 32)
    assert lengths == (1, 2, 3, 5, 7, 10, 15, 22, 32)
    thresholds = Parameter(float=(0.0, 0.9)).levels()
    assert len(thresholds) == LEVELS and thresholds[1] == 0.1
    assert Parameter(int=(1, 4)).levels() == (1, 2, 3, 4)


@pytest.mark.parametrize(
    ("text", "path", "parameter"),
    [
        ("draft.n_max=1..32", "draft.n_max", Parameter(int=(1, 32), scale="log")),
        ("threads=1..4", "threads", Parameter(int=(1, 4))),
        ("draft.p_min=0.0..0.9", "draft.p_min", Parameter(float=(0.0, 0.9))),
        ("args.-fa=on,off", "args.-fa", Parameter(choice=("on", "off"))),
        ("draft.model=a.gguf", "draft.model", Parameter(choice=("a.gguf",))),
        ("args.-ub=128,512", "args.-ub", Parameter(choice=(128, 512))),
    ],
)
def test_a_parameter_is_read_from_the_command_line(text: str, path: str, parameter: Parameter):
    assert parameter_of(text) == (path, parameter)


@pytest.mark.parametrize("text", ["threads", "=1..2", "threads=", "threads=4..2"])
def test_a_parameter_without_values_is_refused_on_the_command_line(text: str):
    with pytest.raises(ValueError, match=text):
        parameter_of(text)
