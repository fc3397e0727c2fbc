"""Requests as an API dialect writes them, and as bytes of HTTP/1.1.

Dialects: `openai-chat` (/v1/chat/completions) and `openai` (/v1/completions), as llama.cpp, vLLM and SGLang read them.
"""

from typing import Any

from inferometer.core.endpoint import Endpoint
from inferometer.core.request import Request
from inferometer.core.spec import Sampling
from inferometer.net.target import Target


def request_body(request: Request, sampling: Sampling, dialect: str, model: str) -> dict[str, Any]:
    """The JSON object to send.

    The length limit is sent under its old and its new name, because engines differ in which one they read.
    `sampling.extra_body` is merged last; a null in it removes a field.
    """
    fields: dict[str, Any] = {"model": model}
    if dialect == "openai-chat":
        fields["messages"] = [{"role": message.role, "content": message.content} for message in request.messages]
    else:
        fields["prompt"] = request.prompt
    if sampling.temperature is not None:
        fields["temperature"] = sampling.temperature
    if request.max_tokens is not None:
        fields["max_tokens"] = request.max_tokens
        if dialect == "openai-chat":
            fields["max_completion_tokens"] = request.max_tokens
    fields |= {"stream": True, "stream_options": {"include_usage": True}, "ignore_eos": sampling.ignore_eos or None}
    fields |= sampling.extra_body
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
