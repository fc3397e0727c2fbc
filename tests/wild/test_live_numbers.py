"""The last live line of a trial has the numbers of its table: without warm-ups, by the same definitions."""

import re
from collections.abc import Iterable
from pathlib import Path

import msgspec
import pytest
from typer.testing import CliRunner

from inferometer.cli import app
from inferometer.testing.answering_server import TOKENS, AnsweringServer
from inferometer.testing.scripted_server import Received, ScriptedServer, Step

PLAIN = AnsweringServer()
SLOW = AnsweringServer(first_s=0.4, gap_s=0.02)


class SlowToWarm:
    """Answers the first two streamed requests far more slowly: the first token's probe and the warm-up."""

    def __init__(self, inner: AnsweringServer) -> None:
        self._inner = inner
        self._count = 0

    def __call__(self, request: Received) -> Iterable[Step]:
        self._count += bool(request.body.get("stream"))
        return (SLOW if self._count <= 2 else self._inner)(request)


@pytest.mark.parametrize(
    "server",
    [PLAIN, AnsweringServer(usage=lambda prompt, pieces: None), AnsweringServer(thoughts=(" a", " thought"))],
    ids=["usage", "no usage", "reasoning"],
)
def test_the_last_live_line_of_a_trial_is_the_table(server: AnsweringServer, tmp_path: Path):
    with ScriptedServer(SlowToWarm(server)) as running:
        study = {
            "workload": {"kind": "builtin", "num_prompts": 6, "max_tokens": TOKENS + len(server.thoughts)},
            "trials": 1,
            "tokenizer": "none",
            "arms": {"base": {"engine": "external", "url": running.url, "model": "scripted"}},
        }
        (tmp_path / "study.yaml").write_bytes(msgspec.yaml.encode(study))
        words = ["run", str(tmp_path / "study.yaml"), "--json", "--out", str(tmp_path / "study")]
        result = CliRunner().invoke(app, words)
    (shown,) = re.findall(r"base: 6/6 requests, ([\d.]+) tok/s, TTFT ([\d.]+) ms \(median\)", result.stderr)
    rows = {row["metric"]: row["values"]["base"] for row in msgspec.json.decode(result.stdout)["rows"]}
    assert float(shown[0]) == pytest.approx(rows["output_throughput"], abs=0.051)
    assert float(shown[1]) == pytest.approx(rows["median_ttft_ms"], rel=0.01, abs=0.051)
