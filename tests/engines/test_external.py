import contextlib
import http.server
import json
import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from inferometer.base.errors import RequestWrong, ServerUnusable
from inferometer.core.endpoint import Endpoint
from inferometer.core.spec import Arm, Sampling
from inferometer.engines.external import External, base_url_of, process_ids

CHAT = "/v1/chat/completions"
TOKEN = {"choices": [{"message": {"content": "one"}}], "usage": {"completion_tokens": 1}}
NOT_FOUND = (404, "text/plain", "404 page not found")


class Asked(msgspec.Struct):
    url: str
    requests: list[tuple[str, dict[str, str], Any]]


@contextlib.contextmanager
def server(answers: dict[str, Any]) -> Iterator[Asked]:
    """Answers by path: an object as JSON, or (status, content type, text); a list: one after another."""
    asked = Asked("", [])

    class Handler(http.server.BaseHTTPRequestHandler):
        def version_string(self) -> str:
            return "fake/1"

        def do_GET(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            asked.requests.append((self.path, dict(self.headers), json.loads(body or "null")))
            answer = answers.get(self.path, NOT_FOUND)
            answer = answer.pop(0) if isinstance(answer, list) else answer
            status, kind, text = answer if isinstance(answer, tuple) else (200, "application/json", json.dumps(answer))
            self.send_response(status)
            if status in (301, 302):
                self.send_header("Location", text)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(text.encode())))
            self.end_headers()
            self.wfile.write(text.encode())

        do_POST = do_GET

        def log_message(self, format: str, *args: Any) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listening:
        asked.url = f"http://127.0.0.1:{listening.server_port}"
        thread = threading.Thread(target=listening.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield asked
        finally:
            listening.shutdown()
            thread.join()


def ask(url: str, headers: dict[str, str] | None = None, patience_s: float = 5.0, **arm: Any) -> Endpoint:
    engine = External(headers, patience_s)
    with engine.start(Arm(engine="external", url=url, **arm), Path("/nowhere/log")) as endpoint:
        return endpoint


def complaint(answers: dict[str, Any], **arm: Any) -> str:
    with server(answers) as asked, pytest.raises(ServerUnusable) as caught:
        ask(asked.url, **arm)
    return str(caught.value).replace(asked.url, "URL")


def test_one_token_makes_it_ready_and_its_own_words_are_facts():
    with server({CHAT: TOKEN, "/version": {"version": "0.25.1"}, "/v1/models": {"data": [{"id": "m-1"}]}}) as asked:
        endpoint = ask(asked.url)
        body = next(body for path, _, body in asked.requests if path == CHAT)
    facts = {fact.name: fact.value for fact in endpoint.facts}
    assert endpoint.shown_url == asked.url + CHAT
    assert endpoint.model == "m-1"
    assert endpoint.pids == ()
    assert facts["engine_version"] == "0.25.1"
    assert facts["engine_server_header"] == "fake/1"
    assert body["model"] == "m-1"
    assert body["max_tokens"] == 1
    assert "cache_prompt" not in body  # no field that a strict server may refuse


def test_llama_cpp_is_known_by_its_props():
    with server({CHAT: TOKEN, "/props": {"build_info": "b11434-c0ffee", "total_slots": 4}}) as asked:
        endpoint = ask(asked.url, model="mine")
        body = next(body for path, _, body in asked.requests if path == CHAT)
    facts = {fact.name: fact.value for fact in endpoint.facts}
    assert (facts["engine_build"], facts["slots"]) == ("b11434-c0ffee", "4")
    assert body["cache_prompt"] is False
    assert endpoint.model == "mine"


def test_headers_are_sent_and_are_in_no_fact():
    with server({CHAT: TOKEN}) as asked:
        endpoint = ask(asked.url, {"Authorization": "Bearer s3cret"})
        sent = next(headers for path, headers, _ in asked.requests if path == CHAT)
    assert sent["Authorization"] == "Bearer s3cret"
    assert endpoint.headers == {"Authorization": "Bearer s3cret"}
    assert "s3cret" not in str(endpoint.facts)


def test_a_server_that_loads_is_waited_for():
    loading = (503, "application/json", '{"error": {"message": "Loading model"}}')
    with server({CHAT: [loading, TOKEN]}) as asked:
        assert ask(asked.url).shown_url == asked.url + CHAT


def test_a_server_that_loads_for_too_long_is_told_in_its_own_words():
    loading = (503, "application/json", '{"error": {"message": "Loading model"}}')
    with server({CHAT: loading}) as asked, pytest.raises(ServerUnusable, match=r"status 503\): Loading model"):
        ask(asked.url, patience_s=0.2)


def test_nothing_there_is_told_at_once():
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{bound.getsockname()[1]}"
    with pytest.raises(ServerUnusable, match=f"nothing answers at {url}; start the server or check its address"):
        ask(url, patience_s=1000.0)


def test_a_wrong_path_is_told_with_what_is_there():
    models = {"data": [{"id": "m-1"}, {"id": "m-2"}]}
    assert complaint({"/v1/models": models}, model="m-1", path="/v2/chat") == (
        "URL/v2/chat answers 404: 404 page not found\n"
        "/v1/models is there, with: m-1, m-2\n"
        "Check the path (--endpoint, `path:` in the study) and the model's name."
    )


def test_where_no_model_is_named_the_front_page_is_shown():
    assert "/ answers 200: Ollama is running" in complaint({"/": (200, "text/plain", "Ollama is running")})


def test_a_web_page_is_shown_in_part():
    text = complaint({CHAT: (200, "text/html; charset=utf-8", "<html>" + "x" * 1000)})
    assert text == (
        f"URL{CHAT} answers with text/html, not with JSON or events: <html>{'x' * 194} …\nIs this the API's address?"
    )


@pytest.mark.parametrize("status", [401, 403])
def test_a_missing_key_is_told(status: int):
    text = complaint({CHAT: (status, "application/json", "{}")})
    assert f"wants a key (status {status}): set OPENAI_API_KEY" in text


def test_a_redirect_is_told_with_where_it_leads():
    assert "sends elsewhere, to https://there/" in complaint({CHAT: (301, "text/html", "https://there/")})


def test_a_refusal_is_told_in_the_servers_words():
    refusal = (400, "application/json", '{"object": "error", "message": "The model `x` has no chat template"}')
    assert complaint({CHAT: refusal}, model="x") == (
        f"URL{CHAT} gave no token for model 'x' (status 400): The model `x` has no chat template"
    )


def test_an_answer_without_a_token_is_no_token():
    assert "gave no token" in complaint({CHAT: {"choices": [{"message": {"content": ""}}]}})


@pytest.mark.parametrize(
    ("url", "api", "base_url"),
    [
        ("http://host:8080/", "openai-chat", "http://host:8080"),
        ("http://host:8080/v1", "openai-chat", "http://host:8080"),
        ("https://host/proxy/v1/", "openai", "https://host/proxy"),
        ("https://v1", "openai", "https://v1"),
        ("http://host/v1/chat/completions", "openai-chat", "http://host"),
        ("http://host/proxy/v1/completions/", "openai", "http://host/proxy"),
        ("http://[::1]:8080/v1", "openai-chat", "http://[::1]:8080"),
        ("unix:///run/v1", "openai-chat", "unix:///run/v1"),
        ("http+unix://%2Frun%2Fs.sock/v1", "openai-chat", "http+unix://%2Frun%2Fs.sock"),
    ],
)
def test_an_address_may_end_in_a_slash_or_in_v1(url: str, api: Any, base_url: str):
    assert base_url_of(Arm(engine="external", url=url, api=api)) == base_url


def test_the_endpoint_of_another_api_is_refused_with_the_address_to_write():
    with pytest.raises(RequestWrong, match=r"Write the address without it: http://host/p;"):
        base_url_of(Arm(engine="external", url="http://host/p/v1/completions", api="openai-chat"))


@pytest.mark.parametrize("url", ["localhost:8080", "ftp://host", "http://", "http://me:s3cret@host"])
def test_what_is_no_address_is_refused_without_telling_a_secret(url: str):
    with pytest.raises(RequestWrong) as caught:
        External().check(Arm(engine="external", url=url))
    assert "s3cret" not in str(caught.value)


def test_a_server_s_process_is_named_for_its_memory():
    with server({CHAT: TOKEN}) as asked:
        arm = Arm(engine="external", url=asked.url, model="m", pid=os.getpid())
        with External().start(arm, Path("unused")) as endpoint:
            assert endpoint.pids == (os.getpid(),)


def container_tool(folder: Path, text: str, code: int = 0) -> None:
    """A `docker` that answers `inspect` so: what docker and podman print for a name they know, or not."""
    tool = folder / "docker"
    tool.write_text(f"#!/bin/sh\n[ \"$1 $4\" = 'inspect llm' ] || exit 9\necho {text}\nexit {code}\n")
    tool.chmod(0o755)


def test_a_container_is_its_first_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin")
    container_tool(tmp_path, str(os.getpid()))
    arm = Arm(engine="external", url="http://localhost:9", container="llm")
    assert process_ids(arm) == (os.getpid(),)


@pytest.mark.parametrize(
    ("fields", "tool", "message"),
    [
        ({"pid": 2**22 + 1}, None, r"pid: 4194305 is not a process that can be seen here\. Look it up with ps"),
        ({"pid": 1, "url": "http://192.0.2.7:80"}, None, "http://192.0.2.7:80 is another's"),
        ({"container": "llm"}, None, r"neither docker nor podman is on PATH\nGive its pid: instead"),
        ({"container": "llm"}, ("0", 0), "docker: it does not run"),
        ({"container": "llm"}, ("Error: No such object: llm >&2", 1), "docker: Error: No such object: llm"),
        (
            {"container": "llm"},
            (str(2**22 + 1), 0),
            "and that is not a process that can be seen here",
        ),
    ],
)
def test_a_process_that_cannot_be_found_is_refused(
    fields: dict[str, Any],
    tool: tuple[str, int] | None,
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setenv("PATH", str(tmp_path) if tool is None else f"{tmp_path}:/bin")
    if tool is not None:
        container_tool(tmp_path, *tool)
    with pytest.raises(RequestWrong, match=message):
        External().check(msgspec.convert({"engine": "external", "url": "http://localhost:9", **fields}, Arm))


def test_an_external_llama_cpp_says_what_is_in_force():
    pages = {
        CHAT: TOKEN,
        "/props": {"total_slots": 1, "default_generation_settings": {"n_ctx": 2048}},
        "/slots": [[{"n_ctx": 2048, "speculative": True}]],  # one answer, which is a list
    }
    with server(pages) as asked:
        facts = {fact.name: fact.value for fact in ask(asked.url, model="m").facts}
    assert (facts["in_force_draft"], facts["in_force_context"]) == ("on", "2048")


SEVERAL = {"data": [{"id": "small"}, {"id": "big"}]}


@pytest.mark.parametrize(
    ("models", "model", "asked_for"),
    [
        (SEVERAL, "big", "big"),
        ({"data": [{"id": "a", "root": "/m"}, {"id": "b", "root": "/m"}]}, "", "a"),  # two names of one model
        ({"data": []}, "", None),
    ],
)
def test_one_of_several_models_is_asked_for_by_name(models: Any, model: str, asked_for: str | None):
    with server({CHAT: TOKEN, "/v1/models": models}) as asked:
        assert ask(asked.url, model=model).model == (asked_for or "")
        body = next(body for path, _, body in asked.requests if path == CHAT)
    assert body.get("model") == asked_for


@pytest.mark.parametrize(
    "models",
    [
        SEVERAL,
        {"data": [{"id": "small", "root": "/m"}, {"id": "big", "root": "/other"}]},
        {"data": [{"id": "small", "root": "/m"}, {"id": "big", "root": "/m", "parent": "small"}]},  # an adapter
    ],
)
def test_several_models_and_no_name_is_an_error_that_lists_them(models: Any):
    with server({CHAT: TOKEN, "/v1/models": models}) as asked, pytest.raises(RequestWrong, match="small, big") as wrong:
        ask(asked.url)
    assert "--model" in str(wrong.value)


def refusing(body: Any, status: int = 400) -> list[Any]:
    return [(status, "application/json", json.dumps(body)), TOKEN]


EXTRA = {"loc": ["body", "stream_options"], "msg": "Extra inputs are not permitted"}
IN_DETAIL = {"message": {"detail": [{"type": "extra_forbidden", "loc": ["body", "stream_options"]}]}}


@pytest.mark.parametrize(
    ("field", "status", "body"),
    [
        ("stream_options", 400, {"error": {"message": "Unrecognized request argument supplied: stream_options"}}),
        ("stream_options", 400, {"error": {"message": "Not here", "param": "stream_options.include_usage"}}),
        ("stream_options", 422, {"detail": [EXTRA]}),
        ("stream_options", 422, IN_DETAIL),
        ("stream_options", 422, {"error": "unknown field `stream_options`, expected one of `model`, `max_tokens`"}),
        ("temperature", 400, {"error": {"message": "'temperature' does not support 0", "param": "temperature"}}),
        ("max_tokens", 400, {"error": {"message": "Unsupported: 'max_tokens'. Use 'max_completion_tokens' instead."}}),
        ("max_tokens", 400, {"detail": '{"error": {"param": "max_tokens", "message": "unsupported"}}'}),
        ("max_tokens", 400, {"error": "use max_completion_tokens instead of max_tokens"}),
        ("temperature", 400, {"error": {"message": "invalid temperature: only 1 is allowed for this model"}}),
        ("temperature", 422, {"error": "`temperature` must be strictly positive", "error_type": "validation"}),
        ("stream_options", 400, {"message": 'Unknown name "streamOptions": Cannot find field.'}),
        ("stream_options", 400, {"message": ["property stream_options should not exist"], "error": "Bad Request"}),
        ("stream_options", 400, {"error": {"details": [{"path": "/stream_options", "keyword": "additional"}]}}),
        ("stream_options", 501, {"error": "stream_options is only allowed when stream is enabled"}),
        ("stream", 400, {"error": {"message": "Streaming is not supported for this model"}}),
    ],
)
def test_a_field_that_the_server_refuses_is_learnt_and_left_out(field: str, status: int, body: Any):
    with server({CHAT: refusing(body, status)}) as asked:
        endpoint = ask(asked.url, model="m")
        first, second = (body for path, _, body in asked.requests if path == CHAT)
    assert endpoint.refused == (field,)
    assert {fact.name: fact.value for fact in endpoint.facts}["refused_fields"] == field
    assert (field in first, field in second) == (True, False)
    assert second.get("max_completion_tokens") == (1 if field == "max_tokens" else None)


@pytest.mark.parametrize(
    "said",
    [
        {"error": {"message": "max_tokens is too large: at most 0", "param": "max_tokens"}},  # the field is known
        {"error": {"message": "Extra inputs are not permitted: guided_json"}},  # the user's own field
        {"error": {"message": "Unknown parameter: 'messages'", "param": "messages"}},  # nothing is left without it
    ],
)
def test_what_cannot_be_left_out_is_an_error_in_the_server_s_words(said: Any):
    sampling = Sampling(extra_body={"guided_json": "{}"})
    with server({CHAT: refusing(said)}) as asked, pytest.raises(ServerUnusable) as caught, contextlib.ExitStack() as up:
        up.enter_context(External().start(Arm("external", "m", url=asked.url), Path("log"), sampling=sampling))
    assert said["error"]["message"] in str(caught.value)


@pytest.mark.parametrize(
    "said",
    [
        {"error": {"message": "max_tokens must be at least 16", "param": "max_tokens"}},
        {"error": {"message": "max_tokens or model output limit was reached. Try again with higher max_tokens."}},
    ],
)
def test_a_server_to_which_one_token_is_too_few_is_asked_for_more(said: Any):
    with server({CHAT: refusing(said)}) as asked:
        assert ask(asked.url, model="m").refused == ()
        limits = [body["max_tokens"] for path, _, body in asked.requests if path == CHAT]
    assert limits == [1, 64]


def streamed(text: str, kind: str = "text/event-stream") -> tuple[int, str, str]:
    return (200, kind, text)


CHUNK = json.dumps({"choices": [{"delta": {"content": "one"}}]})


@pytest.mark.parametrize(
    "answer",
    [
        streamed(f"data: {CHUNK}\n\ndata: [DONE]\n\n"),
        streamed(f"data: {CHUNK}\n\n", "text/plain"),
        streamed(f"\ufeffdata:{CHUNK}\r\n\r\n", "application/json"),
        TOKEN,  # this server never streams
    ],
)
def test_a_server_may_always_stream_or_never(answer: Any):
    with server({CHAT: answer}) as asked:
        assert ask(asked.url, model="m").refused == ()


@pytest.mark.parametrize(
    "said", ['data: {"error": {"message": "out of slots"}}\n\n', "event: error\ndata: out of slots\n\n"]
)
def test_an_error_in_the_stream_of_the_first_token_is_quoted(said: str):
    assert "out of slots" in complaint({CHAT: streamed(said)}, model="m")
