"""Prefix cache of a server that runs already: what it kept from earlier trials must not help the next one.

Where the server has a switch, each trial uses it: llama.cpp's `cache_prompt`, vLLM's `cache_salt`, SGLang's
/flush_cache. Another server is probed, and if it keeps prompts, all prompts of a trial begin with a number that the
server has not seen.
"""

import http
import http.client
import random
import re
import time
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
from inferometer.net.http_client import HttpAnswer, Server, ask, server_at

PROBE_TIMEOUT_S = 10.0
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


def treatment(arm: Arm, endpoint: Endpoint, sampling: Sampling, nonce: random.Random, number: int) -> CacheTreatment:
    """Of a trial that begins on a server that runs already; nothing for an engine that starts for it. `number`: of
    9 digits, with which the prompts begin on a server that keeps them; arms that are compared need the same one."""
    if not arm.runs_already:
        return CacheTreatment()
    facts = {fact.name: fact for fact in endpoint.facts}
    version = facts.get(quantities.ENGINE_VERSION)
    if _is_llama_cpp(endpoint):
        if "cache_prompt" in sampling.extra_body:
            return CacheTreatment(facts=(_fact("as asked", "`extra_body` of the study"),))
        return CacheTreatment({"cache_prompt": False}, facts=(_fact("off", "`cache_prompt: false` in each request"),))
    if version is not None and version.source == "/version" and _takes_salt(version.value):
        salt = f"{nonce.getrandbits(64):016x}"
        return CacheTreatment({"cache_salt": salt}, facts=(_fact("per trial", "`cache_salt` in each request"),))
    if version is not None and version.value.startswith("SGLang") and _flushed(_server(endpoint)):
        return CacheTreatment(facts=(_fact("emptied", "/flush_cache before the trial"),))
    state = probe(arm, endpoint, sampling, nonce)
    if state == "used":
        prefix = f"Request set {number}.\n"
        return CacheTreatment(prefix=prefix, facts=(_fact("prefix", "the probe: a repeated prompt was cached"),))
    return CacheTreatment(facts=(_fact(state, "the probe before the trial"),))


def facts_after(
    arm: Arm, endpoint: Endpoint, sampling: Sampling, before: CacheTreatment, nonce: random.Random
) -> tuple[Fact, ...]:
    """The probe once more at the end of a trial, if the first one found no cache."""
    if [fact.value for fact in before.facts] != ["not used"]:
        return ()
    state = probe(arm, endpoint, sampling, nonce)
    return (Fact(quantities.PREFIX_CACHE_AT_END, state, "the probe after the trial"),)


def probe(arm: Arm, endpoint: Endpoint, sampling: Sampling, nonce: random.Random) -> State:
    """Whether the server answers a prompt that it has seen sooner, or counts its tokens as cached. The prompts are sent
    as the load's requests are."""
    seen = _prompt(nonce)
    try:
        first = _answer(arm, endpoint, sampling, seen)
        found = _is_cached(arm, endpoint, sampling, seen, first.seconds, nonce)
        if found == "by time":
            found = _is_cached(arm, endpoint, sampling, seen, first.seconds, nonce)
    except (OSError, http.client.HTTPException):
        return "unknown"
    return "used" if found else "not used"


class _Answer(msgspec.Struct, frozen=True):
    seconds: float
    cached: int


def _is_cached(
    arm: Arm, endpoint: Endpoint, sampling: Sampling, seen: str, first_s: float, nonce: random.Random
) -> Literal["", "by count", "by time"]:
    again, fresh = (_answer(arm, endpoint, sampling, prompt) for prompt in (seen, _prompt(nonce)))
    if again.cached - fresh.cached > _LEAST_CACHED_TOKENS:
        return "by count"
    least_s = min(first_s, fresh.seconds)
    is_sooner = again.seconds < _CACHED_SHARE * least_s and least_s - again.seconds > _LEAST_SAVED_S
    return "by time" if is_sooner else ""


def _answer(arm: Arm, endpoint: Endpoint, sampling: Sampling, prompt: str) -> _Answer:
    """Raises OSError or HTTPException where no answer came, also for a refusal."""
    request = user_request("prefix-cache", prompt, max_tokens=1)
    body = request_body(request, sampling, arm.api, endpoint.model, endpoint.refused)
    began_s = time.monotonic()
    answer = ask(_server(endpoint), endpoint.path, body=body, timeout_s=PROBE_TIMEOUT_S)
    if answer.status != http.HTTPStatus.OK:
        raise http.client.HTTPException(f"status {answer.status}")
    seconds = time.monotonic() - began_s
    return _Answer(seconds, _cached_tokens(answer, arm.api))


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


def _flushed(server: Server) -> bool:
    try:
        return ask(server, "/flush_cache", body={}, timeout_s=PROBE_TIMEOUT_S).status == http.HTTPStatus.OK
    except (OSError, http.client.HTTPException):
        return False


def _takes_salt(version: str) -> bool:
    """vLLM salts its cache since 0.8.5; earlier versions ignore the field."""
    found = re.match(r"(\d+)\.(\d+)", version)
    return found is not None and (int(found[1]), int(found[2])) >= (0, 9)


def _is_llama_cpp(endpoint: Endpoint) -> bool:
    return any(fact.source == "/props" for fact in endpoint.facts)


def _server(endpoint: Endpoint) -> Server:
    return server_at(endpoint.base_url, endpoint.headers, endpoint.verify, endpoint.ca_file)


def _fact(value: str, source: str) -> Fact:
    return Fact(quantities.PREFIX_CACHE, value, source)
