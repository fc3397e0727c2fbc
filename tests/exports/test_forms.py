"""Which format is meant, and what goes into which file."""

import json
from pathlib import Path

import pytest

from inferometer.base.errors import RequestWrong
from inferometer.exports import FORMATS, ExportRequest, OutputFile, format_named, output_files
from inferometer.report.vllm_block import serving_block
from inferometer.results.read import read_study


@pytest.fixture
def folder(write_study) -> Path:
    return write_study("mine", {"base": 10, "draft": 5})


def text_of(made: OutputFile) -> str:
    assert made.text is not None
    return "".join(made.text())


@pytest.mark.parametrize(
    ("name", "file", "format"),
    [
        (None, "a.csv", "csv"),
        (None, "a.MD", "md"),
        (None, "a.json", "json"),
        (None, "a.jsonl", "vllm-json"),
        (None, "a.txt", "vllm-block"),
        (None, "a.parquet", "parquet"),
        (None, "my.study.zip", "zip"),
        ("Markdown", "a.csv", "md"),
        ("vllm", None, "vllm-json"),
        (".csv", None, "csv"),
    ],
)
def test_a_format_is_known_by_its_name_or_by_the_file_s_ending(name, file, format):
    assert format_named(name, file and Path(file)) == format


@pytest.mark.parametrize(
    ("name", "file", "said"),
    [
        ("xlsx", None, "no format 'xlsx'"),
        ("parkuet", None, "Did you mean 'parquet'"),
        (None, "a.out", "a.out has no known ending"),
        (None, None, "no format is given. Name it with --to"),
    ],
)
def test_an_unknown_format_is_answered_with_the_known_ones(name, file, said):
    with pytest.raises(RequestWrong, match=said) as caught:
        format_named(name, file and Path(file))
    assert all(known in str(caught.value) for known in FORMATS)


def test_vllm_s_block_of_one_trial_is_the_block_and_nothing_else(folder: Path):
    (made,) = output_files(
        [folder], ExportRequest(format="vllm-block", arm="base", trial=1, dialect="vllm-0.6.5"), into_folder=False
    )
    study = read_study(folder)
    assert text_of(made) == serving_block(study.summary(study.trials[0], "vllm-0.6.5")) + "\n"
    assert "Mean TPOT (ms):                          10.10     \n" in text_of(made)
    assert "Peak" not in text_of(made)


def test_vllm_s_blocks_of_several_trials_have_a_heading_each(folder: Path):
    made = output_files([folder], ExportRequest(format="vllm-block", arm="draft"), into_folder=False)
    assert [text_of(one).splitlines()[0] for one in made] == [f"## mine: draft, trial {number}" for number in (1, 2, 3)]
    assert "Peak concurrent requests:" in text_of(made[0])  # 0.33's, unless another is asked for


@pytest.mark.parametrize(
    ("dialect", "first"),
    [
        ("vllm-0.6.5", ["date", "backend", "model_id", "tokenizer_id", "best_of", "num_prompts"]),
        ("vllm-0.33", ["date", "endpoint_type", "backend", "label", "model_id", "tokenizer_id", "num_prompts"]),
    ],
)
def test_vllm_s_json_has_the_keys_of_its_version_and_says_whose_it_is(folder: Path, dialect, first):
    (made,) = output_files(
        [folder], ExportRequest(format="vllm-json", arm="draft", trial=3, dialect=dialect), into_folder=False
    )
    assert made.name == "draft-trial3.json"
    result = json.loads(text_of(made))
    assert list(result)[: len(first)] == first
    assert (result["study"], result["arm"], result["trial"]) == ("mine", "draft", "3")
    assert result["date"] == "20260504-010301"
    assert (result["completed"], result["total_output_tokens"], result["max_concurrency"]) == (2, 6, 1)
    assert result["mean_ttft_ms"] == 50
    assert result["mean_tpot_ms"] == pytest.approx(5.15)
    assert ("ttfts" in result) == (dialect == "vllm-0.6.5")


def test_0_33_has_its_lists_where_they_are_asked_for(folder: Path):
    wish = ExportRequest(format="vllm-json", arm="base", trial=1, save_detailed=True)
    result = json.loads(text_of(output_files([folder], wish, into_folder=False)[0]))
    assert result["ttfts"] == [0.05, 0.05]
    assert result["itls"][0] == [0.0101, 0.0101]
    assert result["generated_texts"] == ["ababab", "ababab"]


def test_a_folder_gets_a_file_for_each_table_or_trial(folder: Path):
    def names(**fields) -> list[str]:
        return [made.name for made in output_files([folder], ExportRequest(**fields), into_folder=True)]

    assert names(format="csv") == ["metrics.csv", "requests.csv", "events.csv"]
    assert names(format="csv", arm="base") == ["requests.csv", "events.csv"]
    assert names(format="csv", table="events") == ["events.csv"]
    assert names(format="md") == ["comparison.md"]
    assert names(format="zip") == ["mine.zip"]
    assert names(format="vllm-json", trial=2) == ["base-trial2.json", "draft-trial2.json"]


def test_a_file_is_called_by_what_a_folder_can_hold(write_study):
    folder = write_study("odd", {"../up/a b": 10}, trials=1)
    (made,) = output_files([folder], ExportRequest(format="vllm-json"), into_folder=True)
    assert made.name == "_up_a b-trial1.json"


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"format": "md", "table": "events"}, "--table works with csv and parquet only"),
        ({"format": "md", "arm": "base"}, "--arm and --trial select trials"),
        ({"format": "csv", "trial": 1}, "--arm and --trial select trials"),
        ({"format": "vllm-json", "arm": "nobody"}, "no trial matches --arm and --trial. Trials: base 1, draft 1"),
        ({"format": "csv", "table": "requests", "trial": 9}, "no trial matches"),
    ],
)
def test_a_request_that_fits_nothing_is_refused(folder: Path, fields, said):
    with pytest.raises(RequestWrong, match=said):
        output_files([folder], ExportRequest(**fields), into_folder=False)


def test_a_zip_is_of_one_study(folder: Path, write_study):
    with pytest.raises(RequestWrong, match="a zip holds one study"):
        output_files([folder, write_study("other", {"a": 1})], ExportRequest(format="zip"), into_folder=False)
