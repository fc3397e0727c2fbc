"""The tables that leave the program, cell by cell, of a study whose numbers can be made in the head."""

import csv
import io
from pathlib import Path
from typing import Any

import pytest

from inferometer.base.errors import RequestWrong
from inferometer.exports import ExportRequest, output_files
from inferometer.exports.csv_text import csv_text
from inferometer.exports.export_columns import ExportColumn, ExportTable
from inferometer.exports.metric_table import METRIC_COLUMNS
from inferometer.exports.request_table import EVENT_COLUMNS, EVENT_TEXT, REQUEST_COLUMNS

MS = 1_000_000


@pytest.fixture
def folder(write_study) -> Path:
    """Tokens 10 ms and 5 ms apart; in trial n, n % more."""
    return write_study("mine", {"base": 10, "draft": 5}, drafts=("draft",))


def rows(folder: Path, **fields: Any) -> list[dict[str, str]]:
    (piece,) = output_files([folder], ExportRequest(format="csv", **fields), into_folder=False)
    assert piece.text is not None
    return list(csv.DictReader(io.StringIO("".join(piece.text()))))


def test_the_metrics_of_each_trial_of_each_arm_and_their_differences(folder: Path):
    found = [row for row in rows(folder) if row["metric"] == "mean_tpot_ms"]
    assert [(row["row"], row["arm"], row["baseline"], row["trial"]) for row in found] == [
        *(("trial", arm, "", str(number)) for number in (1, 2, 3) for arm in ("base", "draft")),
        ("arm", "base", "", ""),
        ("arm", "draft", "", ""),
        ("difference", "draft", "base", ""),
    ]
    assert [float(row["value"]) for row in found] == pytest.approx([10.1, 5.05, 10.2, 5.1, 10.3, 5.15, 10.2, 5.1, -50])
    assert {row["unit"] for row in found[:-1]} == {"ms"}
    base, _, difference = found[-3:]
    assert (base["n"], base["covers"], base["better"]) == ("3", "trials and prompts", "lower")
    assert float(base["low"]) < 10.2 < float(base["high"])
    assert (difference["unit"], difference["verdict"], difference["n"]) == ("%", "faster", "")
    assert float(difference["low"]) <= -50 <= float(difference["high"])


def test_a_metric_without_a_value_has_no_row_and_unknown_is_an_empty_cell(folder: Path):
    found = rows(folder)
    assert not any(row["metric"] == "memory_gib" for row in found)
    assert not any(row["value"] == "" for row in found)
    assert any(row["metric"] == "p99_ttft_ms" and row["row"] == "arm" and row["low"] == "" for row in found)


def test_each_request_with_its_times_counts_and_kind(folder: Path):
    found = rows(folder, table="requests")
    assert len(found) == 2 * 3 * 3
    assert [row["measured"] for row in found[:3]] == ["false", "true", "true"]
    one = found[1]  # base, trial 1: sent when the plan began, a token at 50 ms and each 10.1 ms after it
    expected = {
        "study": "mine",
        "arm": "base",
        "trial": "1",
        "trial_state": "done",
        "index": "1",
        "request_id": "r0",
        "outcome": "ok",
        "status": "200",
        "finish_reason": "length",
        "error": "",
        "max_tokens": "3",
        "tags": '{"task":"explain"}',
        "plan_started_ns": str(1000 * MS),
        "due_ns": "",
        "sent_ns": str(1000 * MS),
        "done_ns": str(1070 * MS + 200_000),
        "lateness_ms": "",
        "ttft_ms": "50.0",
        "latency_ms": "70.2",
        "tpot_ms": "10.1",
        "median_itl_ms": "10.1",
        "median_itl_per_token_ms": "10.1",
        "prompt_tokens": "4",
        "prompt_tokens_by": "usage",
        "cached_prompt_tokens": "1",
        "output_tokens": "3",
        "output_tokens_by": "usage",
        "bursts": "3",
        "stalls": "0",
        "drafted_tokens": "0",
        "accepted_tokens": "0",
        "server_prompt_ms": "49.0",
        "events": "5",
        "coalesced": "1",
    }
    assert {name: one[name] for name in expected} == expected
    assert "prompt" not in one and "text" not in one
    with_text = rows(folder, table="requests", with_text=True)[1]
    assert (with_text["prompt"], with_text["text"]) == ("why?", "ababab")


def test_latencies_are_those_of_the_dialect(folder: Path):
    """0.6.5's chat takes the end of the role chunk for the start of no gap, and has no gap for the first text."""
    vllm = rows(folder, table="requests", dialect="vllm-0.6.5")[1]
    assert (vllm["ttft_ms"], vllm["latency_ms"]) == ("50.0", "70.2")
    assert vllm["output_tokens_by"] == "usage"


def test_each_event_of_each_answer(folder: Path):
    found = rows(folder, table="events", arm="draft", trial=2, with_text=True)
    assert len(found) == 3 * 5
    first = found[5:10]  # of the first measured request
    assert [row["kind"] for row in first] == ["role", "text", "text", "text", "done"]
    assert [int(row["at_ns"]) - 1000 * MS for row in first] == [
        40_000_000,
        50_000_000,
        55_100_000,
        60_200_000,
        60_200_000,
    ]
    assert [row["chars"] for row in first] == ["0", "2", "2", "2", "0"]
    assert [row["tokens"] for row in first] == ["", "1", "1", "1", ""]
    assert [row["text"] for row in first] == ["", "ab", "ab", "ab", ""]
    assert [row["event"] for row in first] == ["0", "1", "2", "3", "4"]
    assert {(row["arm"], row["trial"]) for row in found} == {("draft", "2")}


def test_of_several_studies_each_row_says_whose_it_is(folder: Path, write_study):
    other = write_study("other", {"base": 20})
    (piece,) = output_files([folder, other], ExportRequest(format="csv", table="requests"), into_folder=False)
    assert piece.text is not None
    found = list(csv.DictReader(io.StringIO("".join(piece.text()))))
    assert {(row["study"], row["arm"]) for row in found} == {("mine", "base"), ("mine", "draft"), ("other", "base")}
    (piece,) = output_files([folder, other], ExportRequest(format="csv"), into_folder=False)
    assert piece.text is not None
    metrics = list(csv.DictReader(io.StringIO("".join(piece.text()))))
    assert {row["arm"] for row in metrics} == {"mine/base", "other/base"}
    assert {(row["baseline"], row["arm"]) for row in metrics if row["row"] == "difference"} == {
        ("mine/base", "other/base")
    }


def test_a_text_that_a_spreadsheet_or_a_terminal_would_act_on_is_made_harmless():
    words = ["=HYPERLINK(1)", "+1", "-x", "@a", "a\x1b[31mred", 'a,"b"\nc', "plain", None]
    table = ExportTable(
        (ExportColumn("words", "text", ""), ExportColumn("n", "float", "")), iter([[words, [-1.5] * len(words)]])
    )
    text = "".join(csv_text(table))
    assert [row["words"] for row in csv.DictReader(io.StringIO(text))] == [
        "'=HYPERLINK(1)",
        "'+1",
        "'-x",
        "'@a",
        "a�[31mred",
        'a,"b"\nc',
        "plain",
        "",
    ]
    assert text.count(",-1.5\n") == len(words)  # a number is a number


def test_parquet_holds_the_same_rows_with_types_and_meanings(folder: Path, tmp_path: Path):
    parquet = pytest.importorskip("pyarrow.parquet")
    made = output_files([folder], ExportRequest(format="parquet", with_text=True), into_folder=True)
    assert [piece.name for piece in made] == ["metrics.parquet", "requests.parquet", "events.parquet"]
    for piece in made:
        assert piece.write is not None
        piece.write(tmp_path / piece.name)
    requests = parquet.read_table(tmp_path / "requests.parquet")
    assert requests.column_names == [column.name for column in REQUEST_COLUMNS]
    assert str(requests.schema.field("ttft_ms").type) == "double"
    assert requests.schema.field("ttft_ms").metadata == {b"says": b"sent to the first token"}
    one = requests.to_pylist()[1]
    assert (one["arm"], one["index"], one["measured"], one["ttft_ms"]) == ("base", 1, True, 50.0)
    assert one["due_ns"] is None
    events = parquet.read_table(tmp_path / "events.parquet")
    assert events.column_names == [column.name for column in (*EVENT_COLUMNS, EVENT_TEXT)]
    assert events.num_rows == 2 * 3 * 3 * 5
    assert events.to_pylist()[5]["tokens"] is None
    assert parquet.read_table(tmp_path / "metrics.parquet").column_names == [column.name for column in METRIC_COLUMNS]


def test_without_pyarrow_it_is_said_how_to_get_it(folder: Path, monkeypatch: pytest.MonkeyPatch):
    import sys

    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(RequestWrong, match=r"pip install 'inferometer\[parquet\]'"):
        output_files([folder], ExportRequest(format="parquet"), into_folder=False)
