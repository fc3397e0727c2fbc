"""A study of two servers, run as a user runs it."""

import json
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import msgspec
import pytest
from typer.testing import CliRunner

from inferometer.cli import app
from inferometer.testing.answering_server import TOKENS, AnsweringServer
from inferometer.testing.scripted_server import ScriptedServer


class Compared(msgspec.Struct, frozen=True):
    code: int
    content: dict[str, Any]

    @property
    def found(self) -> set[str]:
        """Codes of the findings above a note."""
        return {one["code"] for one in self.content["findings"] if one["severity"] != "note"} - NOISE

    @property
    def noise(self) -> set[str]:
        """Codes of warnings that a busy machine raised."""
        return {one["code"] for one in self.content["findings"] if one["severity"] != "note"} & NOISE

    def verdicts(self, *metrics: str) -> set[str]:
        rows = [row for row in self.content["rows"] if not metrics or row["metric"] in metrics]
        return {one["verdict"] for row in rows for one in row["differences"]}


NOISE = {"machine-busy", "client", "trials-differ", "drift", "not-warm", "clocks-differ"}
"""What a busy machine may rightly raise while tests run on it."""


Compare = Callable[..., Compared]


@pytest.fixture
def compared(tmp_path: Path) -> Compare:
    """`inferometer run --json` of two servers."""

    def run(base: AnsweringServer, other: AnsweringServer, prompts: int = 6, **fields: Any) -> Compared:
        folder = tmp_path
        with ExitStack() as stack:
            servers = {
                name: stack.enter_context(ScriptedServer(one)) for name, one in (("base", base), ("other", other))
            }
            arms = {name: {"engine": "external", "url": one.url, "model": "scripted"} for name, one in servers.items()}
            study = {
                "workload": {"kind": "builtin", "num_prompts": prompts, "max_tokens": TOKENS},
                "trials": 2,
                "tokenizer": "none",
                "arms": arms,
                **fields,
            }
            (folder / "study.yaml").write_bytes(msgspec.yaml.encode(study))
            words = ["run", str(folder / "study.yaml"), "--json", "--out", str(folder / "study")]
            result = CliRunner().invoke(app, words)
        assert result.stdout, result.output
        return Compared(result.exit_code, json.loads(result.stdout))

    return run
