"""The fidelity pass: each arm is asked again, untimed, and the result shows how far it is from the baseline."""

import json
import math
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path

import pytest

from inferometer.base.errors import StudyUnreadable
from inferometer.cli import main
from inferometer.core.schedule import Closed
from inferometer.core.spec import Arm, Spec
from inferometer.core.workload_settings import Builtin
from inferometer.report import json_report, markdown, terminal
from inferometer.report.short_result import short_result
from inferometer.results.read import read_study
from inferometer.results.study_comparison import comparison_of
from inferometer.store import Store
from inferometer.study.loop import run_study
from inferometer.study.progress import FindingRaised
from inferometer.testing.scripted_server import Received, ScriptedServer, Step, inference_server, whole

KL = 0.8 * math.log(0.8 / 0.6) + 0.2 * math.log(0.2 / 0.4)


def entry(text: str, shares: dict[str, float]) -> dict[str, object]:
    top = [{"token": name, "logprob": math.log(share)} for name, share in shares.items()]
    return {"token": text, "logprob": math.log(shares[text]), "top_logprobs": top}


class Model:
    """A server that gives four tokens with the probability `share`, and flips the last one; `most`: the most
    alternatives that it gives, 0 for none."""

    def __init__(self, share: float, last: str = "a", most: int = 20) -> None:
        self.share = share
        self.last = last
        self.most = most
        self.bodies: list[dict[str, object]] = []
        self._plain = inference_server(3, 0.0, 0.0)

    def __call__(self, request: Received) -> Iterable[Step]:
        body = request.body
        if not isinstance(body, dict) or "top_logprobs" not in body:
            return self._plain(request)
        self.bodies.append(body)
        if body["top_logprobs"] > self.most > 0:
            return [whole(400, json.dumps({"error": {"message": f"at most {self.most} logprobs"}}))]
        shares = {"a": self.share, "b": 1 - self.share}
        content = [entry(text, shares) for text in ("a", "a", "a", self.last)] if self.most else None
        return [whole(200, json.dumps({"choices": [{"finish_reason": "length", "logprobs": {"content": content}}]}))]


def spec(servers: dict[str, ScriptedServer], **fields: object) -> Spec:
    arms = {name: Arm(engine="external", url=server.url, model="m") for name, server in servers.items()}
    workload = Builtin(num_prompts=4, max_tokens=4)
    return Spec(arms=arms, workload=workload, schedule=Closed(2), trials=1, tokenizer="none", **fields)  # pyright: ignore[reportArgumentType] # fields of Spec


def run(folder: Path, *models: Model, fidelity: bool = True):
    with ExitStack() as stack:
        servers = {f"m{place}": stack.enter_context(ScriptedServer(model)) for place, model in enumerate(models)}
        study = run_study(spec(servers, fidelity=fidelity), folder)
        events = list(study)
    return study, events


def test_the_pass_gives_divergence_and_flips_in_every_form_of_the_result(tmp_path):
    first, second = Model(0.8), Model(0.6, last="b")
    study, _ = run(tmp_path / "s", first, second)
    assert study.study.continuations == read_study(study.folder).continuations
    comparison = comparison_of([study.folder], "inferometer")
    (found,) = comparison.fidelity
    assert (found.baseline, found.arm, found.prompts, found.places, found.identical) == ("m0", "m1", 4, 16, 0)
    assert found.mean_kl.value == pytest.approx(KL, abs=1e-5)
    assert found.flip_rate_percent.value == pytest.approx(25)
    assert found.tokens_until_difference.value == 3
    assert json.loads(json_report.render(comparison))["fidelity"][0]["mean_kl"]["value"] == pytest.approx(KL, abs=1e-5)
    for text in (terminal.render(comparison, width=400), markdown.render(comparison)):
        assert "fidelity, m1 vs m0: mean KL at least 0.0915 nats per token" in text
    assert any("Mean KL per token" in line and "0.0915 nats" in line for line in short_result(comparison))
    assert called("report", study.folder, "-o", tmp_path / "page.html") == 0
    assert "mean KL at least 0.0915" in (tmp_path / "page.html").read_text()
    body = first.bodies[0]
    assert (body["stream"], body["temperature"], body["logprobs"], body["top_logprobs"]) == (False, 0.0, True, 20)
    assert "stream_options" not in body


def test_a_server_that_gives_fewer_alternatives_is_asked_for_fewer(tmp_path):
    limited = Model(0.8, most=5)
    study, _ = run(tmp_path / "s", limited)
    assert [body["top_logprobs"] for body in limited.bodies] == [20, 5, 5, 5, 5]
    assert len(study.study.continuations["m0"]) == 4


def test_a_server_without_probabilities_is_named_and_the_study_stands(tmp_path):
    study, events = run(tmp_path / "s", Model(0.8), Model(0.8, most=0))
    (said,) = [event.text for event in events if isinstance(event, FindingRaised) and "fidelity" in event.text]
    assert said.startswith("m1: no fidelity.") and "gives no token probabilities" in said
    comparison = comparison_of([study.folder], "inferometer")
    assert comparison.fidelity == ()
    assert "fidelity" not in json.loads(json_report.render(comparison))


def test_the_command_asks_only_for_what_is_missing(tmp_path, capsys):
    models = Model(0.8), Model(0.6)
    with ExitStack() as stack:
        servers = {f"m{place}": stack.enter_context(ScriptedServer(model)) for place, model in enumerate(models)}
        folder = tmp_path / "s"
        list(run_study(spec(servers), folder))
        for asked, words in ((4, ()), (4, ()), (8, ("--again",))):
            assert called("fidelity", folder, "--format", "md", *words) == 0
            assert [len(model.bodies) for model in models] == [asked, asked]
            assert "4 of 4 answers identical" in capsys.readouterr().out
    with pytest.raises(StudyUnreadable):
        Store.amend(tmp_path)


def called(*words: object) -> object:
    """The exit code of the program."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["inferometer", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            main()
    return ended.value.code or 0
