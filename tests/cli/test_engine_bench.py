"""`inferometer engine-bench` as its user calls it; the llama-bench here prints what a real one printed."""

import json
import os
import shlex
import subprocess
from pathlib import Path

import pytest
from warm_program import inferometer

from inferometer.cli.engine_bench import split_flags
from inferometer.standin.pairs import standin_pair

RECORDED = Path(__file__).parents[1] / "foreign" / "recorded"


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(standin_pair(tmp_path_factory.mktemp("models"), "tiny").target)


@pytest.fixture
def llama_bench(tmp_path: Path) -> Path:
    path = tmp_path / "bin" / "llama-bench"
    path.parent.mkdir()
    folder = shlex.quote(str(RECORDED))
    path.write_text(
        f'#!/bin/sh\n[ "$1" = --help ] && exec cat {folder}/llama-bench-b11434.help.txt\n'
        f'echo "$@" >> {shlex.quote(str(path))}.asked\nexec cat {folder}/llama-bench-b11434.jsonl\n'
    )
    path.chmod(0o755)
    return path


def engine_bench(*words: object, path: str = "") -> subprocess.CompletedProcess[str]:
    """Without any llama.cpp of this machine on PATH."""
    return inferometer("engine-bench", *words, env=os.environ | {"PATH": path + os.pathsep + "/usr/bin:/bin"})


def test_without_a_llama_bench_the_embedded_engine_is_measured(tiny: Path, tmp_path: Path):
    out = tmp_path / "out"
    done = engine_bench("-m", tiny, "-p", "32", "-n", "8", "-d", "0,16", "-r", 2, "-t", 1, "-fa", "0,1", "--out", out)
    assert done.returncode == 0, done.stderr
    head, _, *rows = [line for line in done.stdout.splitlines() if line.startswith("|")]
    assert [cell.strip() for cell in head.split("|")[1:8]] == [
        "model", "size", "params", "backend", "threads", "fa", "test",
    ]  # fmt: skip
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in rows]
    assert [(cell[5], cell[6]) for cell in cells] == [
        (fa, test) for fa in ("0", "1") for test in ("pp32", "tg8", "pp32 @ d16", "tg8 @ d16")
    ]
    assert {(cell[0], cell[4], cell[-1]) for cell in cells} == {("qwen2 ?B Q8_0", "1", "server")}
    assert "by llama.cpp's own timings" in done.stdout
    assert "qwen2 ?B Q8_0 is not a real model but a stand-in 3x256, random weights of seed 1." in done.stdout
    assert (out / "rows.md").read_text() == done.stdout
    kept = json.loads((out / "rows.json").read_text())
    assert [len(row["samples_ns"]) for row in kept["rows"]] == [2] * 8
    assert (out / "embedded.log").exists()
    again = engine_bench("--read", out, "--format", "json", "--bandwidth", 20, "--tflops", 1)
    first = json.loads(again.stdout)["rows"][1]
    assert first["label"] == "tg8"
    assert first["efficiency"]["bandwidth_share"] == pytest.approx(first["efficiency"]["bytes_per_s"] / 20e9)
    assert first["device"]["bandwidth_gb_per_s"] == {"value": 20.0, "origin": "the command line"}


def test_a_llama_bench_on_path_is_taken_with_all_flags(tiny: Path, llama_bench: Path):
    done = engine_bench(
        "-m", tiny, "-p", "16", "-n", "4-8*2", "-d", "0,32", "-pg", "16,8", "-r", 3, "-ngl", "0,99",
        "-fa", "off", "-fa", "1,auto",
        "-nkvo", "1", "-sm", "layer", path=str(llama_bench.parent),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert Path(f"{llama_bench}.asked").read_text() == (
        f"-m {tiny} -p 16 -n 4,8 -d 0,32 -pg 16,8 -r 3 -ngl 0,99 -fa 0,1,-1 -nkvo 1 -sm layer -o jsonl\n"
    )
    assert "| llama-bench |" in done.stdout
    assert "| server " not in done.stdout


def test_an_engine_that_is_asked_for_is_measured_though_there_is_a_llama_bench(tiny: Path, llama_bench: Path):
    done = engine_bench("-m", tiny, "--engine", "embedded", "-p", "8", "-n", "0", "-r", 1, path=str(llama_bench.parent))
    assert done.returncode == 0, done.stderr
    assert not Path(f"{llama_bench}.asked").exists()


def test_both_stand_side_by_side_with_the_same_threads(tiny: Path, llama_bench: Path):
    done = engine_bench("-m", tiny, "--both", "--llama-bench", llama_bench, "-p", "16", "-n", "8", "-r", 2)
    assert done.returncode == 0, done.stderr
    rows = [line.split("|") for line in done.stdout.splitlines() if line.startswith("| qwen2")]
    assert [row[-2].strip() for row in rows] == ["llama-bench"] * 4 + ["server"] * 2
    assert {row[5].strip() for row in rows} == {"1"}  # the recorded run had one thread


def test_what_llama_bench_printed_elsewhere_can_be_read(tmp_path: Path):
    """The seed's row: 18.48 GiB × 37.71/s is 80% of a 3090's 936.2 GB/s."""
    row = json.loads((RECORDED / "llama-bench-b11434.jsonl").read_text().splitlines()[1])
    row |= {"model_filename": "gone.gguf", "model_type": "qwen2 32B Q4_K - Medium", "model_size": 19_842_768_896}
    row |= {"model_n_params": 32_763_876_352, "backends": "CUDA", "gpu_info": "NVIDIA GeForce RTX 3090"}
    row |= {"n_gen": 128, "samples_ns": [round(128 / 37.71 * 1e9)] * 2, "n_gpu_layers": 99}
    file = tmp_path / "theirs.json"
    file.write_text(json.dumps([row]))
    done = engine_bench("--read", file, "--format", "terminal")
    assert done.returncode == 0, done.stderr
    assert "37.71 ± 0.00       748           79.9" in done.stdout


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ((), "-m is missing: name a GGUF file, or standin:demo"),
        (("-m", "/nowhere.gguf"), "file not found: /nowhere.gguf"),
        (("-m", "TINY", "-p", "many"), "-p needs whole numbers"),
        (("-m", "TINY", "-p", "0", "-n", "0"), "there is no test: -p and -n are both 0"),
        (("-m", "TINY", "-r", "0"), "-r must be at least 1"),
        (("-m", "TINY", "-fa", "2"), "-fa takes 0, 1, -1, off, on, auto, not '2'"),
        (("-m", "TINY", "-ngl", "many"), "-ngl needs whole numbers"),
        (("-m", "TINY", "-ctx", "q8_0"), "the embedded engine has no flag '-ctx'; did you mean"),
        (("-m", "TINY", "-nkvo", "1"), "the embedded engine has no flag '1'"),
        (("-m", "TINY", "--card", "RTX 3091"), "Did you mean 'RTX 3090'?"),
        (
            ("-m", "TINY", "--card", "H200", "--bandwidth", "5"),
            "--card and the figures (--bandwidth, --tflops) exclude each other",
        ),
        (("-m", "TINY", "--bandwidth", "0"), "--bandwidth must be greater than 0"),
        (("-m", "TINY", "--format", "html"), "unknown --format 'html'; known: md, json, terminal"),
        (("-m", "TINY", "--both"), "--both needs llama-bench"),
        (("-m", "TINY", "--engine", "vlm"), "there is no engine 'vlm'"),
        (("-m", "TINY", "--engine", "external"), "--engine external needs --url"),
        (
            ("-m", "TINY", "--engine", "embedded", "--url", "http://h"),
            "--url is for --engine external, not for embedded",
        ),
        (("-m", "TINY", "--llama-bench", "/nowhere"), "/nowhere not found"),
        (("-m", "TINY", "--out", "/usr"), "--out: /usr exists and is not empty"),
        (("--url", "http://localhost:1", "-ngl", "9"), "is already running: start it with these flags"),
        (("--read", "/nowhere.json"), "/nowhere.json cannot be read"),
    ],
)
def test_a_wrong_request_is_refused_before_anything_starts(words: tuple[str, ...], says: str, tiny: Path):
    done = engine_bench(*(str(tiny) if word == "TINY" else word for word in words))
    assert done.returncode == 2
    assert says in done.stderr
    assert "starting" not in done.stderr
    assert done.stdout == ""


def test_a_server_that_is_not_there_is_exit_1_with_the_reason():
    done = engine_bench("--url", "http://127.0.0.1:9", "-p", "8", "-n", "8")
    assert done.returncode == 1
    assert "pp8, tg8 by server failed: nothing answers at http://127.0.0.1:9" in done.stdout


def test_flags_of_others_are_taken_out_whole():
    known = {"-n", "-m", "--format"}
    words = ["-nkvo", "1", "-m", "a.gguf", "--other=3", "-n", "-1", "--format", "md", "-ts", "3/1"]
    assert split_flags(words, known) == (
        ["-m", "a.gguf", "-n", "-1", "--format", "md"],
        ["-nkvo", "1", "--other=3", "-ts", "3/1"],
    )
