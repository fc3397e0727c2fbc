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

    def found_of(self, arm: str) -> dict[str, set[str]]:
        """Severities of an arm's findings, by their code."""
        found: dict[str, set[str]] = {}
        for one in self.content["findings"]:
            if one["arm"] == arm:
                found.setdefault(one["code"], set()).add(one["severity"])
        return found

    def verdicts(self, *metrics: str, arm: str = "") -> set[str]:
        """Of these metrics or all, and of one arm or all."""
        rows = [row for row in self.content["rows"] if not metrics or row["metric"] in metrics]
        return {one["verdict"] for row in rows for one in row["differences"] if one["arm"] == arm or not arm}


NOISE = {"machine-busy", "client", "trials-differ", "drift", "not-warm", "clocks-differ"}
"""What a busy machine may rightly raise while tests run on it."""


Compare = Callable[..., Compared]


@pytest.fixture
def compared(tmp_path: Path) -> Compare:
    """`inferometer run --json` of a server and another, or several others by the names of their arms."""

    def run(
        base: AnsweringServer, other: AnsweringServer | dict[str, AnsweringServer], prompts: int = 6, **fields: Any
    ) -> Compared:
        folder = tmp_path
        others = other if isinstance(other, dict) else {"other": other}
        with ExitStack() as stack:
            servers = {name: stack.enter_context(ScriptedServer(one)) for name, one in {"base": base, **others}.items()}
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
