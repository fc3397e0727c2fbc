from pathlib import Path

import pytest

from inferometer.engines.help_text import Argument, arguments_of, complaint

BUILDS = ("b4295", "hjc4869-b5163", "4227c9b", "b9093", "b11434")


def known(build: str) -> dict[str, Argument]:
    return arguments_of((Path(__file__).parent / "recorded" / f"{build}-help.txt").read_text())


@pytest.mark.parametrize(
    ("build", "count"),
    [
        ("b4295", 193),
        ("hjc4869-b5163", 214),
        ("4227c9b", 251),
        ("b9093", 387),
        ("b11434", 413),
    ],
)
def test_every_name_that_help_lists_is_known(build: str, count: int):
    arguments = known(build)
    assert len(arguments) == count
    assert arguments["--port"] == Argument(1, "PORT")
    assert arguments["-h"] == Argument(0)
    assert arguments["-ngl"] == arguments["--n-gpu-layers"]


def test_by_the_help_of_ik_llama_no_argument_is_refused():
    """It lists -m with a value and without one, and neither -ngl nor --draft-max, which the program takes."""
    assert known("ik_llama-8337e4c") == {}


def test_lines_that_explain_are_no_arguments():
    assert "--spec-ngram-mod-n-max" in known("b11434")  # in an explanation too: of what is gone
    assert known("b11434")["--spec-ngram-mod-n-max"].removed is None
    assert "--list-devices" in known("b4295")  # its own line; also told of in that of -dev


@pytest.mark.parametrize(
    ("build", "name", "takes"),
    [
        ("b4295", "-fa", 0),
        ("b11434", "-fa", 1),
        ("b4295", "--lora-scaled", 2),
        ("b11434", "--control-vector-layer-range", 2),
        ("b11434", "-otd", 1),  # <tensor name pattern>=<buffer type>,...
        ("b11434", "--spec-type", 1),
    ],
)
def test_how_many_values_an_argument_takes_is_read_from_its_line(build: str, name: str, takes: int):
    assert known(build)[name].takes == takes


@pytest.mark.parametrize("build", BUILDS)
@pytest.mark.parametrize(
    "args",
    [
        (),
        ("-ngl", "99", "-c", "4096", "-np", "2", "--metrics"),
        ("-n", "-1", "--override-kv", "a=int:1"),
        ("--ctx_size", "512"),  # as llama.cpp reads it
        ("--control-vector-layer-range", "1", "2", "-t", "4"),
    ],
)
def test_what_a_build_knows_is_not_complained_of(build: str, args: tuple[str, ...]):
    assert complaint(args, known(build)) == ""


def test_a_value_may_look_like_an_argument():
    assert complaint(("-p", "--text-that-looks-like-one", "-t", "4"), known("b4295")) == ""


@pytest.mark.parametrize(
    ("build", "args", "message"),
    [
        ("b11434", ("--flash-atn", "on"), "--flash-atn is not an argument of this build; did you mean --flash-attn?"),
        ("b11434", ("--ngl", "9"), "--ngl is not an argument of this build; did you mean -ngl?"),
        ("b11434", ("-t", "4", "--xyzzy"), "--xyzzy is not an argument of this build"),
        ("b11434", ("--port=80",), "--port=80 is written --port 80, as two words, for this program"),
        ("b11434", ("-fa",), "-fa takes a value in this build ([on|off|auto])"),
        ("b11434", ("-fa", "-ngl", "99"), "-fa takes a value in this build ([on|off|auto]), and -ngl follows it"),
        ("4227c9b", ("-fa", "on"), "'on' stands where an argument is expected; -fa takes no value(s) in this build"),
        ("b11434", ("model.gguf",), "'model.gguf' stands where an argument is expected"),
        ("b4295", ("--spec-draft-n-max", "4"), "--spec-draft-n-max is not an argument of this build"),
        (
            "b9093",
            ("--draft-max", "4"),
            "--draft-max is gone from this build; its --help says: use --spec-draft-n-max or --spec-ngram-mod-n-max",
        ),
        (
            "b11434",
            ("--draft_min", "1"),
            "--draft_min is gone from this build; its --help says: use --spec-draft-n-min or --spec-ngram-mod-n-min",
        ),
    ],
)
def test_what_a_build_does_not_know_is_named_with_the_nearest(build: str, args: tuple[str, ...], message: str):
    assert complaint(args, known(build)).startswith(message)


def test_a_text_of_another_form_refuses_nothing():
    assert arguments_of("usage: server [options]\n  -m FILE   the model\n") == {}
    assert complaint(("--anything",), {}) == ""
