"""Requests as an API dialect writes them, and as bytes of HTTP/1.1.

Dialects: `openai-chat` (/v1/chat/completions) and `openai` (/v1/completions), as llama.cpp, vLLM and SGLang read them.
"""

from collections.abc import Collection
from typing import Any

from inferometer.core.endpoint import Endpoint
from inferometer.core.request import LIMIT_FIELDS, Request
from inferometer.core.spec import Sampling
from inferometer.net.target import Target

LEARNT_FIELDS = (*LIMIT_FIELDS, "stream_options", "temperature", "ignore_eos", "stream")
"""The fields that a request can do without, if the server refuses them."""


def request_body(
    request: Request, sampling: Sampling, dialect: str, model: str, refused: Collection[str] = ()
) -> dict[str, Any]:
    """The JSON object to send: only what the request needs, without the fields that the server `refused`.

    The length limit is `max_tokens`; for a chat server that refuses this name, or where `extra_body` removes it, it is
    `max_completion_tokens`. `sampling.extra_body` is merged last; a null in it removes a field.
    """
    fields: dict[str, Any] = {"model": model or None}
    if dialect == "openai-chat":
        fields["messages"] = [{"role": message.role, "content": message.content} for message in request.messages]
    else:
        fields["prompt"] = request.prompt
    fields["temperature"] = sampling.temperature
    extra = sampling.extra_body
    limits = LIMIT_FIELDS if dialect == "openai-chat" else LIMIT_FIELDS[:1]
    usable = [name for name in limits if name not in refused and extra.get(name, 0) is not None]
    if usable and not any(extra.get(name) for name in limits):
        fields[usable[0]] = request.max_tokens
    fields |= {"stream": True, "ignore_eos": sampling.ignore_eos or None}
    if "stream" not in refused:
        fields["stream_options"] = {"include_usage": True}
    fields = {name: value for name, value in fields.items() if name not in refused} | extra
    return {name: value for name, value in fields.items() if value is not None}


def http_request(content: bytes, endpoint: Endpoint, target: Target) -> bytes:
    """The request as bytes of HTTP/1.1. It accepts no compression, which would merge events into blocks."""
    headers = {
        "Host": target.host_header,
        "User-Agent": "inferometer",
        "Accept": "text/event-stream, application/json",
        "Accept-Encoding": "identity",
        "Content-Type": "application/json",
        **target.headers,
        **endpoint.headers,
        "Content-Length": str(len(content)),
    }
    lines = [
        f"POST {target.request_target(endpoint.path)} HTTP/1.1",
        *(f"{name}: {value}" for name, value in headers.items()),
    ]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + content
