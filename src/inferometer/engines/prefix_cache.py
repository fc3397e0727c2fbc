"""Prefix cache of a server that outlives a trial: what it kept from earlier trials must not help the next one.

Where the server has a switch, each trial uses it: llama.cpp's `cache_prompt`, vLLM's `cache_salt`, SGLang's
/flush_cache. Another server is probed, and if it keeps prompts, all prompts of a trial begin with a number that the
server has not seen. A probe is 3 to 5 requests of about 300 words and one token.
"""

import http
import http.client
import random
import re
import threading
import time
from collections.abc import Callable
from typing import Any, Literal, cast

import msgspec

from inferometer.core import quantities
from inferometer.core.endpoint import Endpoint
from inferometer.core.record import Fact
from inferometer.core.request import user_request
from inferometer.core.spec import Arm, Sampling
from inferometer.load.event_decoding import OUTPUT_OF, EventReader
from inferometer.load.request_encoding import request_body
from inferometer.load.sse import events
from inferometer.net.http_client import HttpAnswer, ask, server_at

PROBE_TIMEOUT_S = 10.0
_CHECK_S = 0.1
_LEAST_CACHED_TOKENS = 40
"""Tokens that two fresh prompts may share: the chat template."""
_CACHED_SHARE = 0.6
_LEAST_SAVED_S = 0.015
"""A repeated prompt was cached if its answer takes less than 60% of a fresh prompt's time, and 15 ms less. A busy
machine delays a request by as much: the probe is repeated before it is believed."""
_WORDS = "amber basin cedar delta ember fjord grove haven inlet joist knoll ledge marsh notch orbit plaza quill ridge"

State = Literal["used", "not used", "unknown"]


class CacheTreatment(msgspec.Struct, frozen=True):
    """What keeps a trial free of an earlier trial's prompts: fields of each request, and a `prefix` of each prompt."""

    extra_body: dict[str, Any] = {}
    prefix: str = ""
    facts: tuple[Fact, ...] = ()


class KeptServer(msgspec.Struct, frozen=True):
    """A server that lives longer than a trial. `check`: raises when the user has interrupted the study; it is called
    while a request is under way. `nonce`: of the prompts of the probe. `keeps`: an earlier trial's probe found a cache:
    a probe of a busy machine can miss one."""

    arm: Arm
    endpoint: Endpoint
    sampling: Sampling
    nonce: random.Random
    check: Callable[[], None] = lambda: None
    keeps: bool = False

    def treatment(self, number: int) -> CacheTreatment:
        """Of a trial that begins now. `number`: of 9 digits, with which the prompts begin on a server that keeps them;
        arms that are compared need the same one."""
        endpoint = self.endpoint
        version = next((fact for fact in endpoint.facts if fact.name == quantities.ENGINE_VERSION), None)
        if any(fact.source == "/props" for fact in endpoint.facts):  # llama.cpp
            if "cache_prompt" in self.sampling.extra_body:
                return CacheTreatment(facts=(_fact("as asked", "`extra_body` of the study"),))
            source = "`cache_prompt: false` in each request"
            return CacheTreatment({"cache_prompt": False}, facts=(_fact("off", source),))
        if version is not None and version.source == "/version" and _takes_salt(version.value):
            salt = f"{self.nonce.getrandbits(64):016x}"
            return CacheTreatment({"cache_salt": salt}, facts=(_fact("per trial", "`cache_salt` in each request"),))
        if version is not None and version.value.startswith("SGLang") and self._flushed():
            return CacheTreatment(facts=(_fact("emptied", "/flush_cache before the trial"),))
        if self.keeps:
            state, source = "used", "the probe of an earlier trial"
        else:
            state, cost = self.probe()
            source = f"the probe before the trial: {cost}"
        if state == "used":
            return CacheTreatment(prefix=f"Request set {number}.\n", facts=(_fact("prefix", source),))
        return CacheTreatment(facts=(_fact(state, source),))

    def facts_after(self, before: CacheTreatment) -> tuple[Fact, ...]:
        """The probe once more at the end of a trial, if the first one found no cache."""
        if [fact.value for fact in before.facts] != ["not used"]:
            return ()
        state, cost = self.probe()
        return (Fact(quantities.PREFIX_CACHE_AT_END, state, f"the probe after the trial: {cost}"),)

    def probe(self) -> tuple[State, str]:
        """Whether the server answers a prompt that it has seen sooner, or counts its tokens as cached; and what the
        probe cost. The prompts are sent as the load's requests are."""
        began_s, seen, sent = time.monotonic(), _prompt(self.nonce), 0
        found = ""
        try:
            first, sent = self._answer(seen), 1
            for _ in range(2):
                found, sent = self._is_cached(seen, first.seconds), sent + 2
                if found != "by time":
                    break
        except (OSError, http.client.HTTPException):
            return "unknown", _cost(sent + 1, began_s)
        return ("used" if found else "not used"), _cost(sent, began_s)

    def _is_cached(self, seen: str, first_s: float) -> Literal["", "by count", "by time"]:
        again, fresh = (self._answer(prompt) for prompt in (seen, _prompt(self.nonce)))
        if again.cached - fresh.cached > _LEAST_CACHED_TOKENS:
            return "by count"
        least_s = min(first_s, fresh.seconds)
        is_sooner = again.seconds < _CACHED_SHARE * least_s and least_s - again.seconds > _LEAST_SAVED_S
        return "by time" if is_sooner else ""

    def _answer(self, prompt: str) -> "_Answer":
        """Raises OSError or HTTPException where no answer came, also for a refusal."""
        request = user_request("prefix-cache", prompt, max_tokens=1)
        body = request_body(request, self.sampling, self.arm.api, self.endpoint.model, self.endpoint.refused)
        began_s = time.monotonic()
        answer = self._ask(self.endpoint.path, body)
        if answer.status != http.HTTPStatus.OK:
            raise http.client.HTTPException(f"status {answer.status}")
        return _Answer(time.monotonic() - began_s, _cached_tokens(answer, self.arm.api))

    def _flushed(self) -> bool:
        try:
            return self._ask("/flush_cache", {}).status == http.HTTPStatus.OK
        except (OSError, http.client.HTTPException):
            return False

    def _ask(self, path: str, body: dict[str, Any]) -> HttpAnswer:
        """The answer, awaited in a thread: an interrupt does not wait for a server that is silent."""
        endpoint = self.endpoint
        server = server_at(endpoint.base_url, endpoint.headers, endpoint.verify, endpoint.ca_file)
        found: list[HttpAnswer | OSError | http.client.HTTPException] = []

        def wait() -> None:
            try:
                found.append(ask(server, path, body=body, timeout_s=PROBE_TIMEOUT_S))
            except (OSError, http.client.HTTPException) as error:
                found.append(error)

        thread = threading.Thread(target=wait, daemon=True)
        thread.start()
        while thread.is_alive():
            thread.join(_CHECK_S)
            self.check()
        answer = found[0] if found else OSError("no answer")
        if isinstance(answer, HttpAnswer):
            return answer
        raise answer


class _Answer(msgspec.Struct, frozen=True):
    seconds: float
    cached: int


def _cost(requests: int, began_s: float) -> str:
    return f"{requests} requests, {time.monotonic() - began_s:.2g} s"


def _cached_tokens(answer: HttpAnswer, api: str) -> int:
    if answer.json is None:
        reader = EventReader()
        reader.read_events(events([(0, answer.body)]), OUTPUT_OF[api], 0)
        return (reader.usage.cached_tokens or 0) if reader.usage else 0
    found: Any = answer.json
    for name in ("usage", "prompt_tokens_details", "cached_tokens"):
        found = cast("dict[str, Any]", found).get(name) if isinstance(found, dict) else None
    return found if isinstance(found, int) else 0


def _prompt(nonce: random.Random) -> str:
    """About 300 words that differ from the first one on."""
    words = [nonce.choice(_WORDS.split()) for _ in range(300)]
    return f"{nonce.randrange(10**8, 10**9)}. Say one word. {' '.join(words)}"


def _takes_salt(version: str) -> bool:
    """vLLM salts its cache since 0.8.5; earlier versions ignore the field."""
    found = re.match(r"(\d+)\.(\d+)", version)
    return found is not None and (int(found[1]), int(found[2])) >= (0, 9)


def _fact(value: str, source: str) -> Fact:
    return Fact(quantities.PREFIX_CACHE, value, source)
