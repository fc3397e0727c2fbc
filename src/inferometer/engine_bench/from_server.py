"""How are llama-bench's rows had from a server? By requests of exact lengths, with nothing taken from its cache.

Where the server gives llama.cpp's `timings`, these count: `prompt_ms` for a prompt, and `predicted_ms` for what is
generated, which begins when the first token is there. So one token more is asked for than is counted, and N tokens
are N steps, as in llama-bench. Where there are no timings, our clock around whole requests counts, and what is not
meant (a depth, the prompt before a generation, the way there and back) is taken off by a second request without it.
"""

import http.client
import itertools
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, cast

import msgspec

from inferometer.base.clock import Clock, SystemClock
from inferometer.base.errors import InferometerError, RequestWrong, ServerUnusable
from inferometer.base.extensions import factory
from inferometer.core.endpoint import Endpoint
from inferometer.core.record import Fact
from inferometer.core.spec import Arm
from inferometer.engines.base import Engine, Gpus, TakesBenchSettings
from inferometer.llama_bench.gguf_facts import ModelFacts
from inferometer.llama_bench.row import BenchRow, BenchTest
from inferometer.net.http_client import Conversation, Server, ask_json, server_at

FLAGS = {
    "n_gpu_layers": "-ngl",
    "n_threads": "-t",
    "n_batch": "-b",
    "n_ubatch": "-ub",
    "type_k": "-ctk",
    "type_v": "-ctv",
    "flash_attn": "-fa",
}
"""llama-bench's settings by the names of its fields, and the flag that llama-bench and llama-server share."""

ANSWER_TIMEOUT_S = 3600.0
"""For one request: a long prompt on a slow CPU takes many minutes."""

CONTEXT_STEP = 256
SEED = 1
_SAFE_IDS = range(100, 1000)
"""Token ids that every vocabulary has; used where its size is not known."""

FLASH_ATTN = {"0": "off", "1": "on", "-1": "auto", "off": "off", "on": "on", "auto": "auto"}
_ATTEMPTS = 3

Say = Callable[[str], None]
"""Told what begins, for whoever watches."""


class _Answer(msgspec.Struct, frozen=True):
    """What one request took and how many tokens it was by the server's own count; None where it did not say."""

    whole_ns: int
    prompt_n: int | None
    generated_n: int | None
    cached_n: int | None
    prompt_ns: int | None = None
    generated_ns: int | None = None


class _Unmeasurable(Exception):
    """This test cannot be had from this server; the message says why."""


def check(arm: Arm, settings: Mapping[str, Sequence[str]], headers: Mapping[str, str]) -> None:
    """Raises RequestWrong where any of the settings cannot be started; starts nothing."""
    if arm.runs_already and settings:
        flags = ", ".join(FLAGS[name] for name in settings)
        raise RequestWrong(
            f"{flags}: the server at {arm.url} runs already; start it with these flags, and leave them out here."
        )
    engine: Engine = factory("engine", arm.engine)(headers)
    for chosen in combinations(settings):
        engine.check(with_settings(arm, chosen, context=0))


def combinations(settings: Mapping[str, Sequence[str]]) -> list[dict[str, str]]:
    """Every choice of one value each, in llama-bench's order."""
    names = [name for name in FLAGS if name in settings]
    return [dict(zip(names, values, strict=True)) for values in itertools.product(*(settings[name] for name in names))]


def with_settings(arm: Arm, chosen: Mapping[str, str], context: int) -> Arm:
    """The arm with one request at once, the context (0: the engine's own) and these settings; its own args win."""
    engine = _bench_engine(arm)
    flags = ["-np", "1", *(["-c", str(context)] if context else [])]
    for name, value in chosen.items():
        if name == "flash_attn":
            flags += _flash_attn(arm, value)
        else:
            spelled = engine.gpu_layers_word(value) if engine is not None and name == "n_gpu_layers" else value
            flags += [FLAGS[name], spelled]
    return arm if arm.runs_already else msgspec.structs.replace(arm, args=(*flags, *arm.args))


def rows_by_server(
    arm: Arm,
    tests: Sequence[BenchTest],
    settings: Mapping[str, Sequence[str]],
    repetitions: int,
    model: ModelFacts | None,
    headers: Mapping[str, str],
    log_path: Path,
    say: Say,
    clock: Clock | None = None,
) -> Iterator[BenchRow]:
    """A row a test and combination of settings, each as it is measured; a server is started for each combination.

    What fails is a row with an error, and the next is tried. Raises RequestWrong as `check` does.
    """
    engine: Engine = factory("engine", arm.engine)(headers)
    clock = clock or SystemClock()
    context = context_tokens(tests)
    gpus = engine.gpus(arm) if isinstance(engine, TakesBenchSettings) else None
    for chosen in combinations(settings):
        started = with_settings(arm, chosen, context)
        blank = _blank(started, chosen, model, gpus)
        done = 0
        say(f"{arm.engine}{_told(chosen)}: starting")
        try:
            with engine.start(started, log_path) as endpoint:
                bench = _Bench(endpoint, arm, model, blank, clock)
                for test in tests:
                    say(f"{arm.engine}{_told(chosen)}: {test.label}")
                    yield bench.row(test, repetitions)
                    done += 1
        except RequestWrong:
            raise
        except InferometerError as error:
            for test in tests[done:]:
                yield msgspec.structs.replace(blank, test=test, error=str(error))


def context_tokens(tests: Sequence[BenchTest]) -> int:
    """What the longest test needs, with the one token that is generated beyond those counted."""
    most = max(test.depth + max(test.prompt, 1) + test.generated + 2 for test in tests)
    return -(-most // CONTEXT_STEP) * CONTEXT_STEP


def _told(chosen: Mapping[str, str]) -> str:
    return "".join(f" {FLAGS[name]} {value}" for name, value in chosen.items())


def _flash_attn(arm: Arm, value: str) -> list[str]:
    """llama-bench's -fa in the server's spelling. Raises RequestWrong."""
    word = FLASH_ATTN.get(value)
    if word is None:
        raise RequestWrong(f"-fa is 0, 1, on, off or auto, not {value!r}.")
    engine = _bench_engine(arm)
    return [FLAGS["flash_attn"], word] if engine is None else engine.flash_attn_flags(arm, word)


def _bench_engine(arm: Arm) -> TakesBenchSettings | None:
    """The arm's engine if it can be started with llama-bench's settings."""
    engine = factory("engine", arm.engine)({})
    return engine if isinstance(engine, TakesBenchSettings) else None


def _blank(arm: Arm, chosen: dict[str, str], model: ModelFacts | None, gpus: Gpus | None) -> BenchRow:
    """What is the same in every row of one start."""
    known = dict(chosen)
    if "flash_attn" in known:
        known["flash_attn"] = {"off": "0", "on": "1", "auto": "-1"}[FLASH_ATTN[known["flash_attn"]]]
    engine = _bench_engine(arm)
    threads = None if engine is None else engine.threads(arm)
    if threads is not None:
        known["n_threads"] = str(threads)
    return BenchRow(
        test=BenchTest(0, 0),
        way="server",
        clock="server",
        engine=arm.engine,
        model=arm.url or arm.model,
        description=model.description if model else "",
        size_bytes=model.weight_bytes if model else None,
        parameters=model.parameters if model else None,
        backend=gpus.backend if gpus else "",
        devices=gpus.names if gpus else (),
        settings=known,
    )


class _Bench:
    """A started server, and the tests that it is put to."""

    def __init__(self, endpoint: Endpoint, arm: Arm, model: ModelFacts | None, blank: BenchRow, clock: Clock) -> None:
        self._server: Server = server_at(endpoint.base_url, endpoint.headers, endpoint.verify, endpoint.ca_file)
        self._endpoint = endpoint
        self._clock = clock
        self._random = random.Random(SEED)
        self._native = isinstance(ask_json(self._server, "/props"), dict)
        meta = _meta(ask_json(self._server, "/v1/models"))
        self._refuse_another_model(model, _count(meta.get("size")))
        vocabulary = (model.vocabulary if model else None) or _count(meta.get("n_vocab"))
        self._ids: Sequence[int] = range(vocabulary) if vocabulary else _SAFE_IDS
        version = next((fact.value for fact in endpoint.facts if fact.name in ("engine_version", "engine_build")), "")
        self._row = msgspec.structs.replace(
            blank,
            clock="server" if self._native else "client",
            engine=f"{arm.engine}, {version}" if version else arm.engine,
            description=blank.description or endpoint.model.rpartition("/")[2],
            size_bytes=blank.size_bytes if blank.size_bytes is not None else _count(meta.get("size")),
            parameters=blank.parameters if blank.parameters is not None else _count(meta.get("n_params")),
            offloaded=_offloaded(endpoint.facts),
        )

    def _refuse_another_model(self, model: ModelFacts | None, served_bytes: int | None) -> None:
        if model is not None and served_bytes is not None and served_bytes != model.weight_bytes:
            raise ServerUnusable(
                f"{self._endpoint.base_url} serves another model than -m names: its weights are {served_bytes} bytes, "
                f"the file's {model.weight_bytes}. Name the file that it was started with, or leave -m out."
            )

    def row(self, test: BenchTest, repetitions: int) -> BenchRow:
        """The test once to warm up, as llama-bench does, and then measured. What goes wrong is the row's error."""
        samples: list[int] = []
        row = msgspec.structs.replace(self._row, test=test)
        once = self._by_timings if self._native else self._by_our_clock
        prefix = self._tokens(test.depth)
        try:
            with closing(Conversation(self._server, ANSWER_TIMEOUT_S)) as conversation:
                for repetition in range(repetitions + 1):
                    sample = once(conversation, test, prefix)
                    if repetition:
                        samples.append(sample)
        except (_Unmeasurable, ServerUnusable) as error:
            return msgspec.structs.replace(row, error=str(error))
        except (OSError, http.client.HTTPException) as error:
            said = self._server.hide(str(error)) or type(error).__name__
            return msgspec.structs.replace(row, error=f"the server broke off: {said}")
        return msgspec.structs.replace(row, samples_ns=tuple(samples))

    def _by_timings(self, conversation: Conversation, test: BenchTest, prefix: list[int]) -> int:
        """What llama.cpp's timings say of one repetition, ns."""
        answer = self._ask_at_depth(conversation, test, prefix)
        for _ in range(_ATTEMPTS - 1):
            if not test.prompt or answer.prompt_n == test.prompt:
                break  # else the first new token may by chance be the one that the slot had there
            answer = self._ask_at_depth(conversation, test, prefix)
        if answer.prompt_ns is None or answer.generated_ns is None:
            raise _Unmeasurable("the server is llama.cpp's but its answer has no timings: take a newer build")
        if test.prompt and answer.prompt_n != test.prompt:
            raise _Unmeasurable(
                f"of a prompt of {test.depth + test.prompt} tokens the server processed {answer.prompt_n} and took "
                f"{answer.cached_n} from its cache, not the {test.depth} of the depth; a model with sliding-window "
                "attention or recurrent layers cannot keep them. Ask without -d, or by llama-bench."
            )
        self._refuse_short(answer, test.generated + 1)
        return (answer.prompt_ns if test.prompt else 0) + (answer.generated_ns if test.generated else 0)

    def _ask_at_depth(self, conversation: Conversation, test: BenchTest, prefix: list[int]) -> _Answer:
        if test.depth and test.prompt:
            self._ask(conversation, prefix, 1, keep=True)  # so that the depth is in the slot, and not timed
        prompt = prefix + self._tokens(test.prompt) or self._tokens(1)
        return self._ask(conversation, prompt, test.generated + 1, keep=bool(test.depth))

    def _by_our_clock(self, conversation: Conversation, test: BenchTest, prefix: list[int]) -> int:
        """One repetition by whole requests, ns. Every prompt is new, so that no cache can have it."""
        whole = test.depth + test.prompt or 1
        with_it = self._timed(conversation, whole, test.generated + 1)
        before = 0 if test.prompt else whole
        before = test.depth if test.prompt else before
        without = self._timed(conversation, before, 1) if before else 0
        if with_it <= without:
            raise _Unmeasurable(
                "with the tokens in question a request took no longer than without: too few to be timed"
            )
        return with_it - without

    def _timed(self, conversation: Conversation, prompt: int, generated: int) -> int:
        answer = self._ask(conversation, self._tokens(prompt), generated, keep=False)
        if answer.prompt_n != prompt:
            raise _Unmeasurable(f"the server counts {answer.prompt_n} tokens in a prompt of {prompt} token ids")
        self._refuse_short(answer, generated)
        return answer.whole_ns

    def _refuse_short(self, answer: _Answer, asked: int) -> None:
        if answer.generated_n != asked:
            raise _Unmeasurable(
                f"the server generated {answer.generated_n} tokens where {asked} were asked for; is its context too "
                "small, or does it not know ignore_eos?"
            )

    def _ask(self, conversation: Conversation, prompt: list[int], generated: int, *, keep: bool) -> _Answer:
        """`keep`: the slot's cache may be used and is kept. Raises ServerUnusable where it refuses."""
        path = "/completion" if self._native else "/v1/completions"
        if self._native:
            # The cheapest sampler there is: its time counts as the engine's, and llama-bench has none.
            body: dict[str, Any] = {"prompt": prompt, "n_predict": generated, "cache_prompt": keep, "id_slot": 0}
            body |= {"samplers": ["top_k"], "top_k": 1, "temperature": 0, "ignore_eos": True, "stream": False}
        else:
            body = {"prompt": prompt, "max_tokens": generated, "temperature": 0, "ignore_eos": True, "stream": False}
            body["model"] = self._endpoint.model
        began_ns = self._clock.monotonic_ns()
        answer = conversation.ask(path, body)
        whole_ns = self._clock.monotonic_ns() - began_ns
        if answer.status != http.HTTPStatus.OK or not isinstance(answer.json, dict):
            raise ServerUnusable(
                f"{self._endpoint.base_url}{path} answers a prompt of {len(prompt)} token ids with status "
                f"{answer.status}: {answer.shown}"
            )
        return _answer(cast("dict[str, Any]", answer.json), whole_ns)

    def _tokens(self, count: int) -> list[int]:
        """Ids drawn anew, as llama-bench draws them: no two prompts share a beginning."""
        return self._random.choices(self._ids, k=count)


def _answer(body: dict[str, Any], whole_ns: int) -> _Answer:
    """llama.cpp's timings where there are any, else the usage."""
    timings, usage = _object(body.get("timings")), _object(body.get("usage"))
    if timings:
        return _Answer(
            whole_ns,
            _count(timings.get("prompt_n")),
            _count(timings.get("predicted_n")),
            _count(timings.get("cache_n")),
            _ns(timings.get("prompt_ms")),
            _ns(timings.get("predicted_ms")),
        )
    return _Answer(whole_ns, _count(usage.get("prompt_tokens")), _count(usage.get("completion_tokens")), None)


def _offloaded(facts: Sequence[Fact]) -> tuple[int, int] | None:
    """Layers on the GPU and all layers, as the engine's facts say (`25/25`); None where they don't."""
    said = next((fact.value for fact in facts if fact.name == "in_force_gpu_layers"), "")
    on_gpu, mark, layers = said.partition("/")
    return (int(on_gpu), int(layers)) if mark and on_gpu.isdecimal() and layers.isdecimal() else None


def _meta(listing: Any) -> dict[str, Any]:
    """llama.cpp's `meta` of the first model of /v1/models."""
    entries = _object(listing).get("data")
    first = cast("list[Any]", entries)[0] if isinstance(entries, list) and entries else None
    return _object(_object(first).get("meta"))


def _object(value: Any) -> dict[str, Any]:
    """The server's own JSON: an empty object where it is none."""
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _ns(value: Any) -> int | None:
    """Milliseconds as ns."""
    return round(value * 1e6) if isinstance(value, int | float) else None
