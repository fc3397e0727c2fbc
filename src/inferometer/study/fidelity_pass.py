"""The fidelity pass: after the last trial, each arm answers the prompts again, untimed, with its token probabilities.

Requests go out one at a time, so that batches do not change the tokens, and at temperature 0, so that answers differ
because of the arms and not by chance.
"""

import contextlib
import http.client
import os
from collections.abc import Iterator, Mapping
from functools import partial

import msgspec

from inferometer.base.errors import TrialFailed
from inferometer.core.continuation import Continuation
from inferometer.core.endpoint import Endpoint
from inferometer.core.redaction import redactor_for
from inferometer.core.request import Request
from inferometer.core.spec import Arm, Spec
from inferometer.engines.base import Engine, unwatched
from inferometer.load.request_encoding import request_body
from inferometer.net.http_client import HttpAnswer, HttpSession, server_at
from inferometer.quality.logprobs import FEWEST, TOP, continuation_of, fields, masked
from inferometer.store import Store
from inferometer.study.engine_pool import EnginePool
from inferometer.study.progress import AskingProbabilities, FindingRaised, Progress

_LONGEST_S = 3600.0
"""Time limit of one answer, if the study has none."""


class FidelityPass:
    """The pass of one study. An arm whose engine does not start, or whose server gives no probabilities, is reported
    and left out."""

    def __init__(self, spec: Spec, arms: Mapping[str, Arm], engines: Mapping[str, Engine], pool: EnginePool) -> None:
        self._spec = spec
        self._sampling = msgspec.structs.replace(spec.sampling, temperature=0.0)
        self._arms = arms
        self._engines = engines
        self._pool = pool

    def run(self, store: Store) -> Iterator[Progress]:
        """Asks for what `store` lacks, and stores each answer."""
        plan = store.plan()
        requests = {} if plan is None else {item.request.id: item.request for item in plan.measured}
        known = store.continuations()
        for name in self._arms:
            missing = [one for key, one in requests.items() if key not in known.get(name, {})]
            if missing:
                try:
                    yield from self._of_arm(name, missing, store)
                except (TrialFailed, OSError, http.client.HTTPException) as error:
                    yield FindingRaised(f"{name}: no fidelity. {str(error) or type(error).__name__}")
        store.commit()

    def _of_arm(self, name: str, requests: list[Request], store: Store) -> Iterator[Progress]:
        log_path = store.folder / "logs" / f"{name}-fidelity.log"
        start = partial(self._engines[name].start, self._arms[name], log_path, unwatched, self._sampling)
        with self._pool.engine(name, start) as endpoint, contextlib.closing(_Asker(endpoint, self._timeout_s)) as asker:
            redactor = redactor_for([self._arms[name]], endpoint.headers, os.environ, self._sampling)
            for done, request in enumerate(requests):
                yield AskingProbabilities(name, done, len(requests))
                body = request_body(request, self._sampling, endpoint.dialect, endpoint.model, endpoint.refused)
                store.add_continuation(name, request.id, masked(asker.ask(body), redactor))
        yield AskingProbabilities(name, len(requests), len(requests))

    @property
    def _timeout_s(self) -> float:
        return self._spec.timeouts.request_s or _LONGEST_S


class _Asker:
    """Requests to one server over one connection."""

    def __init__(self, endpoint: Endpoint, timeout_s: float) -> None:
        self._endpoint = endpoint
        server = server_at(endpoint.base_url, endpoint.headers, endpoint.verify, endpoint.ca_file)
        self._session = HttpSession(server, timeout_s)
        self._top = TOP

    def ask(self, body: dict[str, object]) -> Continuation:
        """Raises TrialFailed for an answer without probabilities, and as HttpSession does."""
        answer = self._answer(body)
        if answer.status == http.HTTPStatus.BAD_REQUEST and self._top == TOP:
            self._top = FEWEST
            answer = self._answer(body)
        if answer.status != http.HTTPStatus.OK:
            raise TrialFailed(
                f"{self._endpoint.shown_url} refuses requests for token probabilities: status {answer.status}, "
                f"{answer.shown}. Start the server so that it gives log-probabilities (vLLM: --max-logprobs 20)."
            )
        found = continuation_of(answer.json)
        if found is None:
            raise TrialFailed(
                f"{self._endpoint.shown_url} gives no token probabilities: its answer to a request with `logprobs` has "
                "none. Use a server and an API that give them (llama-server, vLLM and SGLang do)."
            )
        return found

    def _answer(self, body: dict[str, object]) -> HttpAnswer:
        whole = {name: value for name, value in body.items() if name != "stream_options"}
        return self._session.ask(self._endpoint.path, whole | fields(self._endpoint.dialect, self._top))

    def close(self) -> None:
        self._session.close()
