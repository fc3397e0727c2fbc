"""vLLM's flags on `bench`: what they ask for, however they are written, and which are refused with the nearest way."""

from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from inferometer.base.errors import InferometerError
from inferometer.cli import app
from inferometer.cli.bench_flags import spread_flags
from inferometer.core.spec import Spec
from inferometer.study.loop import StudyRun
from inferometer.workloads.random_lengths import RandomLengths


def asked(monkeypatch: pytest.MonkeyPatch, *flags: str) -> Spec:
    """The study that these flags ask for."""
    specs: list[Spec] = []

    def kept(run: StudyRun, **_: Any) -> list[str]:
        specs.append(run.spec)
        return ["failed"]  # nothing is read afterwards

    monkeypatch.setattr("inferometer.cli.study_run.run_shown", kept)
    result = CliRunner().invoke(app, spread_flags(["bench", *flags]))
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    (spec,) = specs
    return spec


def test_the_command_of_a_post_asks_for_what_it_says(monkeypatch: pytest.MonkeyPatch):
    spec = asked(
        monkeypatch, "--endpoint-type", "openai-chat", "--model", "org/m", "--served-model-name", "m",
        "--metric_percentiles", "50,99", "--dataset_name=random", "--random-input-len", "4000",
        "--random_output_len", "500", "--random-range-ratio", "0.1", "--random-prefix-len", "16", "--num_prompts", "4",
        "--request-rate", "0.3", "--burstiness", "0.7", "--top-p", "0.9", "--top_k=20",
        "--extra-body", '{"min_p": 0.1}', "--disable_tqdm",
    )  # fmt: skip
    assert spec.arms["server"].model == "m"
    assert spec.arms["server"].api == "openai-chat"
    assert spec.sampling.extra_body == {"top_p": 0.9, "top_k": 20, "min_p": 0.1}
    assert spec.workload == RandomLengths(4, 4000, 500, range_ratio=0.1, prefix_tokens=16)


@pytest.mark.parametrize(
    ("flags", "kind"),
    [
        (["--random-input-len", "8"], "random"),
        (["--dataset-name", "custom", "--dataset-path", "FILE", "--custom-output-len", "9"], "custom"),
        (["--dataset-name", "hf", "--dataset-path", "FILE", "--hf-output-len", "9"], "custom"),
        (["serve", "--dataset-name", "custom", "--dataset-path", "FILE", "--output-len", "9"], "custom"),
        (["--dataset-name=random", "--input-len", "8", "--output_len=9"], "random"),
        (["--dataset", "FILE", "--output-len", "9"], "sharegpt"),
        ([], "builtin"),
    ],
)
def test_the_data_set_is_the_one_that_is_named_or_meant(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, flags: list[str], kind: str
):
    file = tmp_path / "p.jsonl"
    file.write_text('{"prompt": "Hi"}')
    workload = asked(monkeypatch, *(str(file) if flag == "FILE" else flag for flag in flags)).workload
    assert workload.kind == kind
    assert "--output-len" not in flags or getattr(workload, "max_tokens", 9) == 9
    assert kind != "custom" or getattr(workload, "max_tokens", None) == 9


def test_an_output_length_of_minus_1_is_each_prompt_s_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    (tmp_path / "p.jsonl").write_text('{"prompt": "Hi"}')
    flags = ("--dataset-name", "custom", "--dataset-path", str(tmp_path / "p.jsonl"), "--custom-output-len", "-1")
    assert getattr(asked(monkeypatch, *flags).workload, "max_tokens", 0) is None


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--dataset-name", "sonnet"], "unknown --dataset-name 'sonnet'. The nearest is random"),
        (["--dataset-name", "burstgpt"], "Use trace"),
        (["--dataset-name", "nonsense"], "Known: sharegpt, random, custom, hf, trace, builtin"),
        (["--dataset-name", "hf", "--dataset-path", "org/set"], "nothing is downloaded. Save the data set as JSONL"),
        (["--dataset-name", "custom"], "needs --dataset-path: JSONL with a `prompt` in each line"),
        (["--dataset-name", "builtin", "--random-input-len", "8"], "are for --dataset-name random, not builtin"),
        (["--dataset-name", "random", "--random-range-ratio", "1.5"], "range_ratio must be at least 0 and less than 1"),
        (["--goodput", "ttft:100"], "bench does not have vLLM's --goodput. Latencies of each request"),
        (["--hf_split=train"], "bench does not have vLLM's --hf-split. Save the split as JSONL"),
        (["--min-p", "0.1"], "bench does not have vLLM's --min-p. Pass it with --extra-body '{\"min_p\": …}'"),
        (["--blazedit_min_distance=1"], "bench does not have vLLM's --blazedit-min-distance. The nearest is"),
        (["--ready-check-timeout-sec", "9"], "A server that loads is waited for"),
        (["--top-p", "nan"], "--top-p must be greater than 0 and at most 1, not nan"),
        (["--top-k", "-5"], "--top-k must be at least 1"),
        (["--save-result", "--result-dir", "/dev/null/x"], "--result-dir /dev/null/x cannot be created"),
        (["--base-url", ""], "url: is missing"),
    ],
)
def test_what_is_not_taken_is_refused_by_name_with_the_nearest_way(
    monkeypatch: pytest.MonkeyPatch, flags: list[str], said: str
):
    with pytest.raises(InferometerError) as error:
        asked(monkeypatch, *flags)
    assert said in str(error.value)


def test_words_of_other_commands_keep_their_underscores():
    assert spread_flags(["show", "--a_b"]) == ["show", "--a_b"]
    assert spread_flags(["bench", "--metadata", "a_b=c_d"]) == ["bench", "--metadata", "a_b=c_d"]
