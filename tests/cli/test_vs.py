"""`inferometer vs`: set-ups in quotes, one table; every wrong request has a message that names the fix."""

import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from inferometer.base.errors import InferometerError
from inferometer.cli import app
from inferometer.core.spec import Spec
from inferometer.study.study_file import load_spec

SERVER = f"{sys.executable} -m inferometer.testing.scripted_engine --port {{port}} --tokens 12"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def vs(*words: str) -> Result:
    result = CliRunner().invoke(app, ["vs", *words])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def spec_of(*words: str) -> Spec:
    """The study that would run, as `--save-spec` writes it."""
    assert vs(*words, "--save-spec", "s.yaml", "--dry-run").exit_code == 0
    return load_spec("s.yaml")


def test_set_ups_that_begin_with_a_dash_are_set_ups_and_the_saved_study_is_the_one_that_runs():
    spec = spec_of("-m", "standin:tiny", "-t 1", "-t 2", "-n", "5", "--rounds", "4", "--max-tokens", "9", "-c", "2")
    assert {name: (arm.engine, arm.model, arm.args) for name, arm in spec.arms.items()} == {
        "-t 1": ("embedded", "standin:tiny", ("-t", "1")),
        "-t 2": ("embedded", "standin:tiny", ("-t", "2")),
    }
    assert (spec.trials, spec.workload.request_count(), spec.schedule.concurrency) == (4, 5, 2)  # type: ignore[union-attr]


def test_a_complete_flag_is_a_set_up_without_a_blank_in_it():
    spec = spec_of("-m", "standin:tiny", "--no-mmap", "-ctk=q8_0", "--spec-type=ngram-mod", "-fa=on", "--seed=3")
    assert [arm.args for arm in spec.arms.values()] == [
        *(("--no-mmap",), ("-ctk=q8_0",), ("--spec-type=ngram-mod",), ("-fa=on",))
    ]
    assert spec.seed == 3


def test_the_saved_study_has_only_what_was_set(folder: Path):
    spec_of("-m", "standin:tiny", "", "-t 2", "-n", "5", "--ignore-eos")
    assert (folder / "s.yaml").read_text() == SAVED


SAVED = """\
name: plain vs -t 2
arms:
  plain:
    engine: embedded
    model: standin:tiny
  -t 2:
    engine: embedded
    model: standin:tiny
    args:
    - -t
    - '2'
workload:
  kind: builtin
  num_prompts: 5
  max_tokens: 32
  max_chars: 450
sampling:
  ignore_eos: true
trials: 3
"""


def test_a_sweep_makes_a_set_up_of_each_combination():
    spec = spec_of("-m", "standin:tiny", "-t {t} -ub {u}", "--sweep", "t=1,2", "--sweep", "u=32, 64")
    assert list(spec.arms) == ["-t 1 -ub 32", "-t 1 -ub 64", "-t 2 -ub 32", "-t 2 -ub 64"]


def test_own_prompts_come_from_words_and_files(folder: Path):
    (folder / "p.txt").write_text("Two lines\nof text")
    spec = spec_of("-m", "standin:tiny", "", "-t 2", "--prompt", "- a list", "-p", "b", "-f", "p.txt")
    assert spec.workload.prompts == ("- a list", "b", "Two lines\nof text")  # type: ignore[attr-defined]


def test_checked_sends_the_built_in_problems():
    spec = spec_of("-m", "standin:tiny", "", "-t 2", "--checked", "-n", "3")
    assert (spec.workload.kind, spec.workload.request_count()) == ("builtin-checked", 3)


def test_a_dry_run_starts_nothing_and_shows_arms_requests_and_time(folder: Path):
    said = vs("-m", "standin:tiny", "", "-t 2", "-n", "3", "--dry-run").stdout
    assert "plain  embedded standin:tiny" in said
    assert "3 requests per trial" in said
    assert "Nothing was started" in said
    assert list(folder.iterdir()) == []


WRONG = [
    (["a.gguf"], "vs compares two set-ups or more"),
    (["-m", "standin:tiny", "-t 1", "-tt 2"], "-tt"),
    (["-m", "none.gguf", "", "-t 2"], "none.gguf"),
    (["", "-t 2"], "model: is missing"),
    (["ollama serve", "-t 2"], "Write {port} where the port belongs"),
    (["localhost:8080", "localhost:8081"], "write it as http://localhost:8080"),
    (["-m", "standin:tiny", "llama-server-of-nobody {port}", "-t 2"], "llama-server-of-nobody"),
    (["study.yaml", "b.gguf"], "inferometer run study.yaml"),
    (["-m", "standin:tiny", "-t", "1", "-t", "2"], 'inferometer vs -m a.gguf "-t 1" "-t 2"'),
    (["-m", "standin:tiny", "-t '1", "-t 2"], "one pair of quotes"),
    (["-m", "smollm2-135", "", "-t 2"], "did you mean smollm2-135m?"),
    (["localhost", "-t 2"], "http://localhost:PORT"),
    (["-m", "standin:tiny", "-t {t}", "-t 2"], "--sweep t=1,2"),
    (["-m", "standin:tiny", "", "-t 2", "-n", "0"], "num_prompts must be at least 1"),
    (["-m", "standin:tiny", "", "-t 2", "--fail-if", "ttft_median slower 5%"], "Did you mean 'median_ttft_ms'?"),
    (["-m", "standin:tiny", "-t {t}", "--sweep", "t"], "write NAME=VALUE,VALUE"),
    (["-m", "standin:tiny", "-t 1", "--sweep", "t=1,2"], "no set-up contains {t}"),
    (["-m", "standin:tiny", "-t {t}", "--sweep", "port=1,2"], "use another name"),
    (["-m", "standin:tiny", "", "-t 2", "--dataset-path", "x.txt"], "use --prompt-file"),
    (["-m", "standin:tiny", "", "-t 2", "--dataset-path", "none.jsonl", "--dry-run"], "none.jsonl"),
    (["-m", "standin:tiny", "", "-t 2", "--prompt", "x", "-n", "3"], "remove -n"),
    (["-m", "standin:tiny", "", "-t 2", "--prompt", "x", "--checked"], "--checked gives the problems"),
    (["-m", "standin:tiny", "", "-ub"], "vs has no option -ub. If it belongs to a set-up"),
    (["-m", "standin:tiny", "", "-t 2", "-p", "x", "-p", "y", "-c", "3"], "2 prompts cannot keep 3 streams busy"),
    (["-m", "standin:tiny", "-t 2", "--tune", "threads=3"], "none of them varies"),
    (["-m", "standin:tiny", "", "-t 2", "--prompt-file", "none.txt"], "none.txt cannot be read"),
    (["-m", "standin:tiny", "", "-t 2", "--fail-if", "throughput slower"], "output_throughput slower 2%"),
    (["-m", "standin:tiny", "", "-t 2", "--fail-if", "output_troughput slower 2%"], "output_throughput"),
    (["-m", "standin:tiny", "", "-t 2", "--metric", "speed"], "metric"),
    (["-m", "standin:tiny", "", "-t 2", "--concurrency", "0"], "concurrency"),
    (["-m", "standin:tiny", "-fa on", "-fa off", "-c", "1024"], "For the context of llama.cpp put -c into the set-up"),
    (["-m", "standin:tiny", "-fa on", "-fa off", "-c", "1024", "-n", "2000"], "at most 256 slots"),
    (["-m", "standin:tiny", "", "-t 2", "--rounds", "0"], "trials: must be at least 1"),
    (["-m", "standin:tiny", "", "-t 2", "--save-spec", "/dev/null", "--dry-run"], "add --force to replace it"),
]


@pytest.mark.parametrize(("words", "says"), WRONG, ids=[" ".join(words) for words, _ in WRONG])
def test_a_wrong_request_has_a_message_that_names_the_fix(words: list[str], says: str):
    with pytest.raises(InferometerError) as caught:
        vs(*words)
    assert caught.value.exit_code == 2
    assert says in str(caught.value)


def test_the_rows_of_the_seed_are_printed_for_a_study_that_just_ran():
    done = vs(
        *(f"{name}={SERVER}" for name in ("a", "b")), "-n", "2", "--rows", "seed", "--format", "md", "-q", "--out", "s"
    )
    assert done.stdout.startswith("| Metric") and "| Mean TTFT" in done.stdout and "P95" not in done.stdout


def test_force_replaces_a_study_and_nothing_else(folder: Path):
    (folder / "notes").mkdir()
    (folder / "notes" / "mine.txt").write_text("mine")
    with pytest.raises(InferometerError, match="is not a study and not an empty folder"):
        vs("-m", "standin:tiny", "", "-t 2", "--out", "notes", "--force")


@pytest.mark.parametrize(
    ("condition", "code"), [("output_throughput slower 2%", 4), ("output_throughput faster 2%", 0)]
)
def test_a_condition_that_holds_exits_with_4(condition: str, code: int):
    slow, fast = (f"{name}={SERVER} --gap-ms {ms}" for name, ms in (("fast", 2), ("slow", 12)))
    done = vs(slow, fast, "-n", "4", "--max-tokens", "12", "--fail-if", condition, "--out", "s", "--quiet")
    assert done.exit_code == code, done.output
