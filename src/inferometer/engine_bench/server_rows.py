"""Rows measured through a server: requests of exact lengths that use nothing from the server's cache.

If the server reports llama.cpp's `timings`, these are used: `prompt_ms` for the prompt and `predicted_ms` for the
generation, which begins after the first token. So each request generates one token more than is counted, and N tokens
are N steps, as in llama-bench. Without timings, our clock measures whole requests. A second request without the tokens
in question is then subtracted, to remove the depth, the prompt before a generation, and the network.
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
from inferometer.core import quantities
from inferometer.core.endpoint import Endpoint
from inferometer.core.record import Fact
from inferometer.core.spec import Arm
from inferometer.engines.base import Engine, Gpus, TakesBenchSettings
from inferometer.llama_bench.gguf_facts import ModelFacts
from inferometer.llama_bench.row import BenchRow, BenchTest
from inferometer.net.http_client import HttpSession, Server, ask_json, server_at

FLAGS = {
    "n_gpu_layers": "-ngl",
    "n_threads": "-t",
    "n_batch": "-b",
    "n_ubatch": "-ub",
    "type_k": "-ctk",
    "type_v": "-ctv",
    "flash_attn": "-fa",
}
"""llama-bench's settings by field name, and the flag that llama-bench and llama-server share."""

ANSWER_TIMEOUT_S = 3600.0
"""Timeout of one request. A long prompt on a slow CPU takes many minutes."""

CONTEXT_STEP = 256
SEED = 1
_SAFE_IDS = range(100, 1000)
"""Token ids that every vocabulary has; used if its size is unknown."""

FLASH_ATTN_WORDS = {"0": "off", "1": "on", "-1": "auto", "off": "off", "on": "on", "auto": "auto"}
_ATTEMPTS = 3

OnStep = Callable[[str], None]
"""Called with a line of text when a step begins."""


class _Answer(msgspec.Struct, frozen=True):
    """Duration of one request and its tokens by the server's count; None if not reported."""

    whole_ns: int
    prompt_n: int | None
    generated_n: int | None
    cached_n: int | None
    prompt_ns: int | None = None
    generated_ns: int | None = None


class _Unmeasurable(Exception):
    """This test cannot be measured through this server; the message gives the reason."""


def check_server(arm: Arm, settings: Mapping[str, Sequence[str]], headers: Mapping[str, str]) -> None:
    """Raises RequestWrong if the server cannot be started with one of the settings. Starts nothing."""
    if arm.runs_already and settings:
        flags = ", ".join(FLAGS[name] for name in settings)
        raise RequestWrong(
            f"{flags}: the server at {arm.url} is already running: start it with these flags, and omit them here."
        )
    engine: Engine = factory("engine", arm.engine)(headers)
    for chosen in combinations(settings):
        engine.check(with_settings(arm, chosen, context=0))


def combinations(settings: Mapping[str, Sequence[str]]) -> list[dict[str, str]]:
    """All combinations of one value per setting, in llama-bench's order."""
    names = [name for name in FLAGS if name in settings]
    return [dict(zip(names, values, strict=True)) for values in itertools.product(*(settings[name] for name in names))]


def with_settings(arm: Arm, chosen: Mapping[str, str], context: int) -> Arm:
    """The arm with one slot, this context (0: the engine's default) and these settings; the arm's own args win."""
    engine = _bench_engine(arm)
    flags = ["-np", "1", *(["-c", str(context)] if context else [])]
    for name, value in chosen.items():
        if name == "flash_attn":
            flags += _flash_attn(arm, value)
        else:
            word = engine.gpu_layers_word(value) if engine is not None and name == "n_gpu_layers" else value
            flags += [FLAGS[name], word]
    return arm if arm.runs_already else msgspec.structs.replace(arm, args=(*flags, *arm.args))


def rows_by_server(
    arm: Arm,
    tests: Sequence[BenchTest],
    settings: Mapping[str, Sequence[str]],
    repetitions: int,
    model: ModelFacts | None,
    headers: Mapping[str, str],
    log_path: Path,
    on_step: OnStep,
    clock: Clock | None = None,
) -> Iterator[BenchRow]:
    """Yield one row per test and combination of settings when it is measured. Starts a server for each combination.

    A failure is a row with an error; the next test is tried. Raises RequestWrong as `check_server` does.
    """
    engine: Engine = factory("engine", arm.engine)(headers)
    clock = clock or SystemClock()
    context = context_tokens(tests)
    gpus = engine.gpus(arm) if isinstance(engine, TakesBenchSettings) else None
    for chosen in combinations(settings):
        started = with_settings(arm, chosen, context)
        common = _common_row(started, chosen, model, gpus)
        done = 0
        on_step(f"{arm.engine}{_settings_text(chosen)}: starting")
        try:
            with engine.start(started, log_path) as endpoint:
                bench = _ServerBench(endpoint, arm, model, common, clock)
                for test in tests:
                    on_step(f"{arm.engine}{_settings_text(chosen)}: {test.label}")
                    yield bench.row(test, repetitions)
                    done += 1
        except RequestWrong:
            raise
        except InferometerError as error:
            for test in tests[done:]:
                yield msgspec.structs.replace(common, test=test, error=str(error))


def context_tokens(tests: Sequence[BenchTest]) -> int:
    """The context that the longest test needs, including the one generated token that is not counted."""
    most = max(test.depth + max(test.prompt, 1) + test.generated + 2 for test in tests)
    return -(-most // CONTEXT_STEP) * CONTEXT_STEP


def _settings_text(chosen: Mapping[str, str]) -> str:
    return "".join(f" {FLAGS[name]} {value}" for name, value in chosen.items())


def _flash_attn(arm: Arm, value: str) -> list[str]:
    """llama-bench's -fa in the server's spelling. Raises RequestWrong."""
    word = FLASH_ATTN_WORDS.get(value)
    if word is None:
        raise RequestWrong(f"-fa must be 0, 1, on, off or auto, not {value!r}.")
    engine = _bench_engine(arm)
    return [FLAGS["flash_attn"], word] if engine is None else engine.flash_attn_flags(arm, word)


def _bench_engine(arm: Arm) -> TakesBenchSettings | None:
    """The arm's engine if it can be started with llama-bench's settings."""
    engine = factory("engine", arm.engine)({})
    return engine if isinstance(engine, TakesBenchSettings) else None


def _common_row(arm: Arm, chosen: dict[str, str], model: ModelFacts | None, gpus: Gpus | None) -> BenchRow:
    """The fields that are equal in all rows of one server start."""
    known = dict(chosen)
    if "flash_attn" in known:
        known["flash_attn"] = {"off": "0", "on": "1", "auto": "-1"}[FLASH_ATTN_WORDS[known["flash_attn"]]]
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


class _ServerBench:
    """Runs tests against a started server."""

    def __init__(self, endpoint: Endpoint, arm: Arm, model: ModelFacts | None, common: BenchRow, clock: Clock) -> None:
        self._server: Server = server_at(endpoint.base_url, endpoint.headers, endpoint.verify, endpoint.ca_file)
        self._endpoint = endpoint
        self._clock = clock
        self._random = random.Random(SEED)
        self._native = isinstance(ask_json(self._server, "/props"), dict)
        meta = _meta(ask_json(self._server, "/v1/models"))
        self._refuse_another_model(model, _count(meta.get("size")))
        vocabulary = (model.vocabulary if model else None) or _count(meta.get("n_vocab"))
        self._ids: Sequence[int] = range(vocabulary) if vocabulary else _SAFE_IDS
        version = next(
            (
                fact.value
                for fact in endpoint.facts
                if fact.name in (quantities.ENGINE_VERSION, quantities.ENGINE_BUILD)
            ),
            "",
        )
        self._row = msgspec.structs.replace(
            common,
            clock="server" if self._native else "client",
            engine=f"{arm.engine}, {version}" if version else arm.engine,
            description=common.description or endpoint.model.rpartition("/")[2],
            size_bytes=common.size_bytes if common.size_bytes is not None else _count(meta.get("size")),
            parameters=common.parameters if common.parameters is not None else _count(meta.get("n_params")),
            offloaded=_offloaded(endpoint.facts),
        )

    def _refuse_another_model(self, model: ModelFacts | None, served_bytes: int | None) -> None:
        if model is not None and served_bytes is not None and served_bytes != model.weight_bytes:
            raise ServerUnusable(
                f"{self._endpoint.base_url} serves a different model from -m: its weights are {served_bytes} bytes, "
                f"those of the file {model.weight_bytes}. Name the file that the server was started with, or omit -m."
            )

    def row(self, test: BenchTest, repetitions: int) -> BenchRow:
        """Run the test once as a warm-up, as llama-bench does, then measure it. A failure goes into the row's error."""
        samples: list[int] = []
        row = msgspec.structs.replace(self._row, test=test)
        once = self._by_timings if self._native else self._by_client_clock
        prefix = self._tokens(test.depth)
        try:
            with closing(HttpSession(self._server, ANSWER_TIMEOUT_S)) as conversation:
                for repetition in range(repetitions + 1):
                    sample = once(conversation, test, prefix)
                    if repetition:
                        samples.append(sample)
        except (_Unmeasurable, ServerUnusable) as error:
            return msgspec.structs.replace(row, error=str(error))
        except (OSError, http.client.HTTPException) as error:
            reason = self._server.hide(str(error)) or type(error).__name__
            return msgspec.structs.replace(row, error=f"the server closed the connection: {reason}")
        return msgspec.structs.replace(row, samples_ns=tuple(samples))

    def _by_timings(self, conversation: HttpSession, test: BenchTest, prefix: list[int]) -> int:
        """One repetition by llama.cpp's timings, ns."""
        answer = self._ask_at_depth(conversation, test, prefix)
        for _ in range(_ATTEMPTS - 1):
            if not test.prompt or answer.prompt_n == test.prompt:
                break  # otherwise the first new token may happen to equal the one that the slot had there
            answer = self._ask_at_depth(conversation, test, prefix)
        if answer.prompt_ns is None or answer.generated_ns is None:
            raise _Unmeasurable("the server is llama.cpp's, but its answer has no timings: use a newer build")
        if test.prompt and answer.prompt_n != test.prompt:
            raise _Unmeasurable(
                f"of a prompt of {test.depth + test.prompt} tokens the server processed {answer.prompt_n} and took "
                f"{answer.cached_n} from its cache, but the depth is {test.depth}. A model with sliding-window "
                "attention or recurrent layers cannot keep them. Measure without -d, or with llama-bench."
            )
        self._refuse_short(answer, test.generated + 1)
        return (answer.prompt_ns if test.prompt else 0) + (answer.generated_ns if test.generated else 0)

    def _ask_at_depth(self, conversation: HttpSession, test: BenchTest, prefix: list[int]) -> _Answer:
        if test.depth and test.prompt:
            self._ask(conversation, prefix, 1, keep=True)  # so that the depth is in the slot, and not timed
        prompt = prefix + self._tokens(test.prompt) or self._tokens(1)
        return self._ask(conversation, prompt, test.generated + 1, keep=bool(test.depth))

    def _by_client_clock(self, conversation: HttpSession, test: BenchTest, prefix: list[int]) -> int:
        """One repetition by the durations of whole requests, ns. Every prompt is new, so that no cache contains it."""
        whole = test.depth + test.prompt or 1
        with_it = self._timed(conversation, whole, test.generated + 1)
        before = 0 if test.prompt else whole
        before = test.depth if test.prompt else before
        without = self._timed(conversation, before, 1) if before else 0
        if with_it <= without:
            raise _Unmeasurable(
                "a request with the measured tokens took no longer than one without: too few tokens to measure"
            )
        return with_it - without

    def _timed(self, conversation: HttpSession, prompt: int, generated: int) -> int:
        answer = self._ask(conversation, self._tokens(prompt), generated, keep=False)
        if answer.prompt_n != prompt:
            raise _Unmeasurable(f"the server counted {answer.prompt_n} tokens in a prompt of {prompt} token ids")
        self._refuse_short(answer, generated)
        return answer.whole_ns

    def _refuse_short(self, answer: _Answer, asked: int) -> None:
        if answer.generated_n != asked:
            raise _Unmeasurable(
                f"the server generated {answer.generated_n} tokens instead of {asked}: its context may be too small, "
                "or it does not support ignore_eos"
            )

    def _ask(self, conversation: HttpSession, prompt: list[int], generated: int, *, keep: bool) -> _Answer:
        """Send one request. `keep`: use and keep the slot's cache. Raises ServerUnusable if the server refuses it."""
        path = "/completion" if self._native else "/v1/completions"
        if self._native:
            # The cheapest sampler: its time counts as the engine's, and llama-bench has no sampler.
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
                f"{self._endpoint.base_url}{path} answered a prompt of {len(prompt)} token ids with status "
                f"{answer.status}: {answer.shown}"
            )
        return _answer(cast("dict[str, Any]", answer.json), whole_ns)

    def _tokens(self, count: int) -> list[int]:
        """New random token ids, as in llama-bench, so that no two prompts share a prefix."""
        return self._random.choices(self._ids, k=count)


def _answer(body: dict[str, Any], whole_ns: int) -> _Answer:
    """The counts and times of llama.cpp's timings if there are any, else the counts of the usage."""
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
    """Layers on the GPU and all layers, as the engine's facts on_step (`25/25`); None where they don't."""
    offloaded = next((fact.value for fact in facts if fact.name == quantities.EFFECTIVE_GPU_LAYERS), "")
    on_gpu, mark, layers = offloaded.partition("/")
    return (int(on_gpu), int(layers)) if mark and on_gpu.isdecimal() and layers.isdecimal() else None


def _meta(listing: Any) -> dict[str, Any]:
    """llama.cpp's `meta` of the first model in /v1/models."""
    entries = _object(listing).get("data")
    first = cast("list[Any]", entries)[0] if isinstance(entries, list) and entries else None
    return _object(_object(first).get("meta"))


def _object(value: Any) -> dict[str, Any]:
    """A JSON object from the server; empty if the value is not an object."""
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _ns(value: Any) -> int | None:
    """Milliseconds converted to ns."""
    return round(value * 1e6) if isinstance(value, int | float) else None
