"""Time limits as a user gives them, by flags."""

import itertools
from collections.abc import Iterable
from pathlib import Path

from warm_program import run

from inferometer.results.read import read_study
from inferometer.testing.scripted_server import (
    STREAM_HEAD,
    Received,
    ScriptedServer,
    Send,
    Step,
    Wait,
    chunk,
    delta,
    event,
    inference_server,
    is_probe,
)


def test_bench_ends_what_stalls_by_the_flags_limits_and_keeps_the_rest(tmp_path: Path):
    good, streams = inference_server(tokens=3), itertools.count()
    stalls: dict[int, list[Step]] = {
        2: [Wait(60.0)],
        4: [Send(STREAM_HEAD + chunk(event(delta("a")))), Wait(60.0)],
        6: [Send(STREAM_HEAD), *[Send(chunk(event(delta("a")))), Wait(0.1)] * 100],
    }

    def answer(request: Received) -> Iterable[Step]:
        return (
            stalls.get(next(streams), good(request))
            if request.body.get("stream") and not is_probe(request)
            else good(request)
        )

    flags = (
        "--first-token-timeout",
        "0.5",
        "--between-tokens-timeout",
        "0.7",
        "--timeout",
        "2",
        "--connect-timeout",
        "3",
    )
    with ScriptedServer(answer) as server:
        words = ("--base-url", server.url, "--num-prompts", "8", "--max-concurrency", "1", "--skip-tokenizer-init")
        code, shown, said = run("bench", "--backend", "openai-chat", *words, *flags, "--out", "s", cwd=tmp_path)
    assert code == 3, said  # three of eight are more than a tenth
    assert "Successful requests:                     5" in shown
    study = read_study(tmp_path / "s")
    limits = study.spec.timeouts
    assert (limits.first_token_s, limits.between_tokens_s, limits.request_s, limits.connect_s) == (0.5, 0.7, 2.0, 3.0)
    (trial,) = study.trials
    assert [record.error for record in trial.records if record.outcome == "timeout"] == [
        "waited 0.5 s for the first token",
        "waited 0.7 s for the next token",
        "waited 2 s for the answer",
    ]
    assert [record.outcome for record in trial.records].count("ok") == 6
    account = next(fact.value for fact in trial.facts if fact.name == "requests_accounted")
    assert account == "8 = 5 ok + 3 failed + 0 cancelled + 0 lost"


def test_a_limit_that_is_none_and_an_unknown_word_are_refused(tmp_path: Path):
    (tmp_path / "study.yaml").write_text("arms: {a: {engine: external, url: 'http://127.0.0.1:9'}}")
    code, _, said = run("run", "study.yaml", "--timeout", "0", "--on-failure", "often", cwd=tmp_path)
    assert code == 2
    assert "timeouts.request_s must be more than 0 s, not 0" in said
    assert "on_failure: must be one of next, retry, stop, not 'often'" in said
    text = "timeouts: {first_token_s: -1, read_s: 3}\non_failure: stopp\narms: {a: {engine: external, url: 'http://h'}}"
    (tmp_path / "study.yaml").write_text(text)
    code, _, said = run("run", "study.yaml", cwd=tmp_path)
    assert code == 2
    assert "timeouts.read_s: unknown field" in said
    assert "on_failure: 'stopp' is unknown; did you mean 'stop'?" in said
