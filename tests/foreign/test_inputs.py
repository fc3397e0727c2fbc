"""Which runs an argument means, what they are called, and what is refused."""

import json
from pathlib import Path

import pytest

from inferometer.base.errors import RequestWrong
from inferometer.foreign.inputs import inputs_of, runs_in

SEED = Path(__file__).parents[1] / "golden" / "seed.md"
BLOCK = "===== Serving Benchmark Result =====\nSuccessful requests: {}\n====================================\n"


def written(folder: Path, name: str, text: str | bytes) -> str:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return str(path)


def names(*arguments: str) -> list[str]:
    return [column.name for column in inputs_of(arguments).columns]


def refused(*arguments: str) -> str:
    with pytest.raises(RequestWrong) as error:
        inputs_of(arguments)
    return str(error.value)


@pytest.mark.parametrize(
    ("fragment", "number"),
    [
        ("3", 3),
        ("W7900 Q4_K_M", 1),  # also the beginning of another
        ('"W7900 Q4_K_M"', 1),
        ("w7900 q4_k_m", 1),
        ("RTX 3090 Q4_K_M w", 4),
        ("fa", 4),
        ("RTX 3090 > RTX 3090 Q4_K_M", 3),
        ("w7900 q4_k_m +", 2),
        ("W7900", 6),  # its llama-bench table's own heading
    ],
)
def test_a_run_is_meant_by_number_by_heading_or_by_the_only_part_of_one(fragment: str, number: int):
    (column,) = inputs_of([f"{SEED}#{fragment}"]).columns
    assert column.origin == (str(SEED), number)


def test_a_path_alone_means_all_runs_in_order():
    found = inputs_of([str(SEED)])
    assert [column.origin[1] for column in found.columns] == [1, 2, 3, 4, 5, 6, 7, 8]
    assert (len(found.served), len(found.engine_rows)) == (5, 3)
    assert found.columns[0].name == "W7900 Q4_K_M"
    assert names(str(SEED))[5:] == ["W7900", "RTX 3090 #7", "RTX 3090 #8"]


def test_a_heading_that_is_not_there_lists_what_is():
    said = refused(f"{SEED}#W7900 Q5_K_M")
    assert "no heading 'W7900 Q5_K_M'. Did you mean 'W7900 Q4_K_M'? Its runs:" in said
    assert said.count("\n  #") == 8
    assert "has no run 9. Its runs:" in refused(f"{SEED}#9")
    assert "has no run 0." in refused(f"{SEED}#0")


def test_a_heading_of_more_than_one_run_is_refused_with_those():
    said = refused(f"{SEED}#RTX 3090")
    assert "matches more than one run" in said
    assert [line.split()[0] for line in said.splitlines()[1:]] == ["#7", "#8"]
    assert "\n  #1" in refused(f"{SEED}#W7900 Q4")


def test_a_name_before_the_path_names_the_column_and_one_name_may_stand_for_several_runs(tmp_path: Path):
    one, two = written(tmp_path, "a.txt", BLOCK.format(1)), written(tmp_path, "b.txt", BLOCK.format(2))
    found = inputs_of([f"mine={one}", f"mine={two}"])
    (trials,) = found.trials("inferometer").values()
    assert [(trial.arm, trial.number, trial.values["completed"]) for trial in trials] == [
        ("mine", 1, 1),
        ("mine", 2, 2),
    ]
    assert len({trial.study for trial in trials}) == 2


JSON = Path(__file__).parent / "recorded" / "vllm-0.33.0-poisson.json"


@pytest.mark.parametrize("form", ["the same file", "a copy", "rounded to two places"])
def test_a_copy_of_a_run_is_no_second_trial(form: str, tmp_path: Path):
    values = json.loads(JSON.read_text())
    if form == "rounded to two places":
        values = {key: round(value, 2) if isinstance(value, float) else value for key, value in values.items()}
    other = str(JSON) if form == "the same file" else written(tmp_path, "b.json", json.dumps(values))
    (trials,) = inputs_of([f"mine={JSON}", f"mine={other}"]).trials("inferometer").values()
    assert [trial.number for trial in trials] == [1]
    assert any("left out as a copy" in note for note in trials[0].notes)
    (apart,) = inputs_of([f"mine={JSON}", f"other={other}"]).trials("inferometer").values()
    assert [trial.arm for trial in apart] == ["mine", "other"]


def test_files_of_one_name_are_told_apart_by_their_folders(tmp_path: Path):
    one, two = (written(tmp_path, f"{place}/result.txt", BLOCK.format(1)) for place in ("x", "y"))
    assert names(one, two) == [one.removesuffix(".txt"), two.removesuffix(".txt")]
    assert names(one, f"result={two}") == [one.removesuffix(".txt"), "result"]


def test_a_path_may_hold_the_signs_that_part_an_argument(tmp_path: Path):
    path = written(tmp_path, "a=b#c.txt", BLOCK.format(1))
    assert names(path, f"n={path}#1") == ["a=b#c", "n"]


def test_folders_are_studies_and_keep_their_place_among_the_files(tmp_path: Path):
    found = inputs_of([f"{SEED}#1", str(tmp_path), f"{SEED}#2"])
    assert found.folders == (tmp_path,)
    assert [column.folders_before for column in found.columns] == [0, 1]
    assert "is a study, and NAME= and #" in refused(f"x={tmp_path}")
    assert "is a study, and NAME= and #" in refused(f"{tmp_path}#1")


def test_text_of_windows_is_read(tmp_path: Path):
    text = BLOCK.format(5).replace("\n", "\r\n")
    for content in (text.encode("utf-16"), b"\xef\xbb\xbf" + text.encode(), text.encode()):
        (run,) = runs_in(Path(written(tmp_path, "w.txt", content)))
        assert run.values == {"completed": 5}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is empty"),
        (b" \n\n", "is empty"),
        (b"\x89PNG\x00\x01", "is not a text file: it contains zero bytes"),
        (b"words\n", "has no known result. Supported files:\n  - vLLM's result"),
        (b'{"tool": "another"}', "has no known result"),
        (b"row,arm,baseline,trial,metric,label\n", "Compare the study itself: its folder, or its zip file."),
        (b"\xff\xfe\x00\xd8", "has no known result"),
        (b"[" * 100_000, "has no known result"),
        (b'[{"n_prompt": 1, "n_gen": 0, "avg_ts": [' + b"[" * 100_000, "the llama-bench output cannot be read"),
    ],
)
def test_what_cannot_be_read_is_refused_with_its_path(tmp_path: Path, content: bytes, said: str):
    path = written(tmp_path, "f", content)
    assert refused(path).startswith(path)
    assert said in refused(path)


def test_a_file_too_large_is_refused_before_it_is_read(tmp_path: Path):
    path = tmp_path / "huge"
    with path.open("wb") as file:
        file.truncate(200 * 1024**2)  # a hole: it takes no room
    assert "has 200.0 MiB; at most 128.0 MiB can be read" in refused(str(path))


def test_a_path_that_is_not_there_names_the_nearest(tmp_path: Path):
    written(tmp_path, "results.md", BLOCK.format(1))
    said = refused(str(tmp_path / "result.md#1"))
    assert said == f"there is no file or study folder {tmp_path / 'result.md'}. Did you mean {tmp_path / 'results.md'}?"
    assert "study folder nowhere/at/all." in refused("nowhere/at/all")


def test_a_study_s_database_is_named_by_its_folder(tmp_path: Path):
    assert f"To read a study, name its folder: {tmp_path}." in refused(written(tmp_path, "study.db", b"SQLite\0"))
