"""Facts that a server reports: its version and its effective settings. Knows llama.cpp, vLLM and SGLang."""

import http
import http.client
from typing import Any, cast

from inferometer.base.text import sanitize
from inferometer.core import quantities
from inferometer.core.record import Fact
from inferometer.engines import effective_settings, readiness
from inferometer.net.http_client import Server, ask, ask_json


def server_facts(server: Server, log: str = "") -> tuple[Fact, ...]:
    """Asked once a token has come. `log`: what a server of ours has printed since its start."""
    props = ask_json(server, "/props")
    if isinstance(props, dict):
        return (
            *readiness.props_facts(props),
            *effective_settings.facts_when_ready(log, props, ask_json(server, "/slots")),
        )
    models = ask_json(server, "/v1/models")
    info = ask_json(server, "/server_info") or ask_json(server, "/get_server_info")
    if isinstance(info, dict) and "version" in info:
        return (*sglang_facts(cast("dict[str, Any]", info)), *context_facts(models))
    version = _member(ask_json(server, "/version"), "version")
    if version is not None:
        return (
            Fact(quantities.ENGINE_VERSION, sanitize(str(version), 100), "/version"),
            *vllm_facts(_metrics(server)),
            *context_facts(models),
        )
    return context_facts(models)


def vllm_facts(metrics: str) -> tuple[Fact, ...]:
    """vLLM has counters of speculation where it speculates, and only there (its vllm/v1/spec_decode/metrics.py)."""
    if "vllm:num_requests_running" not in metrics:
        return ()
    return (
        Fact(quantities.EFFECTIVE_DRAFT, "on" if "vllm:spec_decode_num_draft_tokens" in metrics else "off", "/metrics"),
    )


def sglang_facts(info: dict[str, Any]) -> tuple[Fact, ...]:
    """SGLang's /server_info (once /get_server_info) holds all its arguments, keys too: only this much is kept."""
    facts = [Fact(quantities.ENGINE_VERSION, f"SGLang {sanitize(str(info['version']), 100)}", "/server_info")]
    if "speculative_algorithm" in info:
        draft = "off" if info["speculative_algorithm"] is None else "on"
        facts.append(Fact(quantities.EFFECTIVE_DRAFT, draft, "/server_info"))
    return tuple(facts)


def context_facts(models: Any) -> tuple[Fact, ...]:
    """The most tokens of one request: vLLM and SGLang say it with the model's name."""
    entries = _member(models, "data")
    first = cast("list[Any]", entries)[0] if isinstance(entries, list) and entries else None
    length = _member(first, "max_model_len")
    return (
        ()
        if not isinstance(length, int)
        else (Fact(quantities.EFFECTIVE_CONTEXT, str(length), "/v1/models: max_model_len"),)
    )


def _metrics(server: Server) -> str:
    """The text at /metrics; "" where there is none."""
    try:
        answer = ask(server, "/metrics", timeout_s=5.0)
    except (OSError, http.client.HTTPException):
        return ""
    return answer.body.decode(errors="replace") if answer.status == http.HTTPStatus.OK else ""


def _member(value: Any, name: str) -> Any:
    """The member of a JSON object; None of anything else."""
    return cast("dict[str, Any]", value).get(name) if isinstance(value, dict) else None
