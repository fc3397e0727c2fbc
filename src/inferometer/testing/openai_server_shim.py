"""Stand-ins for the programs of vLLM and SGLang in tests: a small server without a model that answers as they do.

The real programs take gigabytes. Imitated are the command line as far as Inferometer writes it, argparse's error,
/v1/models with `max_model_len`, vLLM's /version and /metrics, SGLang's /server_info, complete answers (one word),
streamed answers (as many numbered words as requested), and the error for a model that is not served. vLLM's answers are
those of vLLM 0.32 on a CPU (`make engines`); SGLang's are written after its documentation and source (0.5).
"""

import argparse
import functools
import http.server
import json
import shlex
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

VERSIONS = {"vllm": "0.26.0", "sglang": "0.5.9"}
VLLM_METRICS = """\
# HELP vllm:num_requests_running Number of requests in model execution batches.
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0",model_name="MODEL"} 0.0
"""
VLLM_COUNTERS = """\
# HELP vllm:spec_decode_num_drafts_total Number of spec decoding drafts.
# TYPE vllm:spec_decode_num_drafts_total counter
vllm:spec_decode_num_drafts_total{engine="0",model_name="MODEL"} 2.0
# HELP vllm:spec_decode_num_draft_tokens_total Number of draft tokens.
# TYPE vllm:spec_decode_num_draft_tokens_total counter
vllm:spec_decode_num_draft_tokens_total{engine="0",model_name="MODEL"} 8.0
# HELP vllm:spec_decode_num_accepted_tokens_total Number of accepted tokens.
# TYPE vllm:spec_decode_num_accepted_tokens_total counter
vllm:spec_decode_num_accepted_tokens_total{engine="0",model_name="MODEL"} 6.0
"""
"""Recorded from vLLM 0.32; it has these counters only if it speculates."""


def write_binary(path: Path, engine: str, version: str = "") -> Path:
    """An executable script at `path` that is `engine`'s program."""
    command = shlex.join([sys.executable, "-P", __file__, engine, version or VERSIONS[engine]])
    path.write_text(f'#!/bin/sh\nexec {command} "$@"\n')
    path.chmod(0o755)
    return path


def _vllm_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model")
    parser.add_argument("--speculative-config", type=json.loads)
    parser.add_argument("--max-model-len", type=int, default=32768)


def _sglang_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model-path", dest="model", required=True)
    for name in ("algorithm", "draft-model-path", "num-steps", "eagle-topk", "num-draft-tokens"):
        parser.add_argument(f"--speculative-{name}")
    parser.add_argument("--context-length", dest="max_model_len", type=int, default=32768)
    parser.add_argument("--enable-metrics", action="store_true")


_ARGUMENTS = {"vllm": _vllm_arguments, "sglang": _sglang_arguments}


def _vllm_pages(version: str, args: argparse.Namespace) -> dict[str, Any]:
    page = VLLM_METRICS + (VLLM_COUNTERS if args.speculative_config else "")
    return {"/version": {"version": version}, "/metrics": page.replace("MODEL", args.served_model_name or args.model)}


def _sglang_pages(version: str, args: argparse.Namespace) -> dict[str, Any]:
    info = {"version": version, "api_key": args.api_key, "speculative_algorithm": args.speculative_algorithm}
    return {"/server_info": info, "/metrics": "sglang:num_running_reqs 0.0\n"}


_PAGES = {"vllm": _vllm_pages, "sglang": _sglang_pages}


def parser_of(engine: str) -> argparse.ArgumentParser:
    """Parser of the engine's own flags, as far as this server understands them."""
    parser = argparse.ArgumentParser(prog=engine, allow_abbrev=False)
    _ARGUMENTS[engine](parser)
    parser.add_argument("--served-model-name")
    parser.add_argument("--api-key")
    parser.add_argument("--host", default="localhost")
    parser.add_argument("--port", type=int, default=8000)
    return parser


def pages_of(engine: str, version: str, args: argparse.Namespace) -> dict[str, Any]:
    """What is answered to GET, by path: JSON, or text."""
    model = args.served_model_name or args.model
    pages: dict[str, Any] = {
        "/health": "",
        "/v1/models": {"object": "list", "data": [{"id": model, "max_model_len": args.max_model_len}]},
    }
    return pages | _PAGES[engine](version, args)


class _Handler(http.server.BaseHTTPRequestHandler):
    """Answers as of vLLM and SGLang. `pages`: JSON or text by path. `key`: what a request must carry. `model`: the
    served one."""

    def __init__(self, pages: dict[str, Any], key: str | None, model: str, *connection: Any) -> None:
        self.pages = pages
        self.key = key
        self.model = model
        super().__init__(*connection)

    def refused(self, body: dict[str, Any]) -> tuple[int, Any] | None:
        """Status and page of the answer to a request that the engine does not serve; None for one that it does."""
        if body.get("model") == self.model:
            return None
        message = f"The model `{body.get('model')}` does not exist."
        return 404, {"error": {"message": message, "type": "NotFoundError", "code": 404}}

    def events_at_end(self, usage: dict[str, int]) -> Iterator[bytes]:
        yield self._event(_LAST)
        yield self._event({"choices": [], "usage": usage})
        yield b"data: [DONE]\n\n"

    def do_GET(self) -> None:
        page = self.pages.get(self.path)
        self._answer(404 if page is None else 200, {"detail": "Not Found"} if page is None else page)

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.key is not None and self.headers["Authorization"] != f"Bearer {self.key}":
            self._answer(401, {"error": "Unauthorized"})
        elif refusal := self.refused(body):
            self._answer(*refusal)
        elif body.get("stream"):
            self._stream(int(body.get("max_tokens") or body.get("max_completion_tokens") or 16))
        else:
            choice = {"index": 0, "text": "One", "message": {"role": "assistant", "content": "One"}}
            usage = {"prompt_tokens": 7, "completion_tokens": 1, "total_tokens": 8}
            self._answer(200, {"model": self.model, "choices": [{**choice, "finish_reason": "length"}], "usage": usage})

    def _stream(self, count: int) -> None:
        """To the end of the connection: HTTP/1.0, as this server speaks it."""
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream; charset=utf-8")
        self.end_headers()
        self.wfile.write(
            self._event({"choices": [{"index": 0, "text": "", "delta": {"role": "assistant", "content": ""}}]})
        )
        for word in (f"word {i} " for i in range(count)):
            choice = {"index": 0, "text": word, "delta": {"content": word}, "finish_reason": None}
            self.wfile.write(self._event({"choices": [choice]}))
        for event in self.events_at_end({"prompt_tokens": 7, "completion_tokens": count, "total_tokens": 7 + count}):
            self.wfile.write(event)

    def _event(self, content: dict[str, Any]) -> bytes:
        return b"data: " + json.dumps({"model": self.model, **content}).encode() + b"\n\n"

    def _answer(self, status: int, page: Any) -> None:
        data = page.encode() if isinstance(page, str) else json.dumps(page).encode()
        self.send_response(status)
        self.send_header("Content-Type", "text/plain" if isinstance(page, str) else "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:
        sys.stdout.write(f'INFO:     127.0.0.1 - "{self.requestline}" {args[1]}\n')
        sys.stdout.flush()


_LAST: dict[str, Any] = {"choices": [{"index": 0, "text": "", "delta": {}, "finish_reason": "length"}]}


class _TransformersHandler(_Handler):
    """As of `transformers serve` (5.24): no [DONE] ends a stream, the usage is in its last event, and the errors are
    FastAPI's."""

    def refused(self, body: dict[str, Any]) -> tuple[int, Any] | None:
        if "ignore_eos" in body:
            return 422, {"detail": "Unexpected fields in the request: {'ignore_eos'}"}
        if body.get("model") == self.model:
            return None
        return 400, {"detail": f"Server is pinned to '{self.model}'; requested '{body.get('model')}'."}

    def events_at_end(self, usage: dict[str, int]) -> Iterator[bytes]:
        yield self._event({**_LAST, "usage": usage})


def handler_of(
    pages: dict[str, Any], key: str | None, *, is_transformers: bool = False
) -> Callable[..., http.server.BaseHTTPRequestHandler]:
    """The handler that serves these pages, and requests for the first of their models."""
    model = pages["/v1/models"]["data"][0]["id"]
    return functools.partial(_TransformersHandler if is_transformers else _Handler, pages, key, model)


def main() -> None:
    engine, version, *words = sys.argv[1:]
    if words == ["--version"]:
        sys.stdout.write(f"{version}\n")
        return
    if words[:1] == ["serve"]:
        words = words[1:]
    elif words[:2] == ["-m", "sglang.launch_server"]:
        words = words[2:]
    args = parser_of(engine).parse_args(words)
    handler = handler_of(pages_of(engine, version, args), args.api_key)
    http.server.ThreadingHTTPServer((args.host, args.port), handler).serve_forever()


if __name__ == "__main__":
    main()
