"""Small questions to a server: the same way there as the load takes, and connections that are kept."""

import contextlib
import http.client
import json
import socket
import ssl
import threading
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path

import pytest

from inferometer.base.errors import RequestWrong
from inferometer.net.http_client import HttpSession, Unreachable, ask, ask_json, server_at
from inferometer.testing.scripted_server import Close, Received, ScriptedServer, Send, Step, whole

CERTIFICATES = Path(__file__).parents[1] / "data" / "tls"


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch: pytest.MonkeyPatch):
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


def tls() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CERTIFICATES / "server.pem")
    return context


def echo(request: Received) -> Iterable[Step]:
    return [whole(200, json.dumps({"path": request.path, "method": request.method, "body": request.body}))]


def test_a_question_has_the_url_s_own_path_and_a_body_makes_it_a_post():
    with ScriptedServer(echo) as server:
        where = server_at(f"{server.url}/behind", {"X-Team": "a"})
        assert ask(where, "/props", timeout_s=5).json == {"path": "/behind/props", "method": "GET", "body": {}}
        assert ask(where, "/x", body={"n": "ä"}, timeout_s=5).json["body"] == {"n": "ä"}
    assert [request.headers["x-team"] for request in server.received] == ["a", "a"]
    assert "content-type" not in server.received[0].headers
    assert server.received[1].headers["content-type"] == "application/json"


def test_a_header_given_replaces_ours_however_it_is_written():
    with ScriptedServer(echo) as server:
        ask(server_at(server.url, {"accept": "x/y", "USER-AGENT": "me"}), "/", timeout_s=5)
    (request,) = server.received
    assert (request.headers["accept"], request.headers["user-agent"]) == ("x/y", "me")


def test_questions_of_a_conversation_share_a_connection_and_outlive_it():
    def answer(request: Received) -> Iterable[Step]:
        return [*echo(request), *([Close()] if request.path == "/last" else [])]

    with (
        ScriptedServer(answer) as server,
        closing(HttpSession(server_at(server.url, {}), timeout_s=5)) as conversation,
    ):
        paths = ["/1", "/2", "/last", "/3"]
        assert [conversation.ask(path, {}).json["path"] for path in paths] == paths
    assert [request.connection for request in server.received] == [0, 0, 0, 1]


def test_a_question_on_a_new_connection_is_asked_once():
    with ScriptedServer(lambda _: [Close()]) as server:
        with pytest.raises((http.client.HTTPException, ConnectionError)):
            ask(server_at(server.url, {}), "/", timeout_s=5)
        assert ask_json(server_at(server.url, {}), "/") is None
    assert len(server.received) == 2


def test_a_conversation_over_tls_shakes_hands_once():
    with ScriptedServer(echo, tls=tls()) as server:
        where = server_at(server.url, {}, ca_file=str(CERTIFICATES / "ca.pem"))
        with closing(HttpSession(where, timeout_s=5)) as conversation:
            assert [conversation.ask(path).json["path"] for path in ("/1", "/2")] == ["/1", "/2"]
    assert [request.connection for request in server.received] == [0, 0]


def test_a_bad_ca_file_is_refused_before_anything_is_asked():
    with pytest.raises(RequestWrong, match="--ca-file"):
        server_at("https://localhost", {}, ca_file="nowhere.pem")


def test_a_server_that_hangs_up_in_the_handshake_is_unreachable_or_reset():
    def hang_up() -> None:
        with contextlib.suppress(OSError):
            while True:
                listener.accept()[0].close()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=hang_up, daemon=True).start()
        with pytest.raises(ConnectionError):
            ask(server_at(f"https://127.0.0.1:{listener.getsockname()[1]}", {}), "/", timeout_s=5)
        listener.shutdown(socket.SHUT_RDWR)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (
            b"HTTP/1.1 407 Who is bWU6c2VzYW1lLTE=?\r\n\r\n",
            r"refused a tunnel to https://far: HTTP 407 Who is \*\*\*.*user:",
        ),
        (
            b"HTTP/1.1 502 sesame-1\r\n\r\n",
            r"refused a tunnel to https://far: HTTP 502 \*\*\*. Name the server in NO_PROXY",
        ),
        (b"SSH-2.0\r\n\r\n", "does not answer with HTTP"),
        (b"", "does not answer with HTTP"),
    ],
)
def test_a_proxy_without_a_tunnel_is_named_and_its_password_is_not(
    answer: bytes, said: str, monkeypatch: pytest.MonkeyPatch
):
    with ScriptedServer(lambda _: [Send(answer), Close()]) as proxy:
        monkeypatch.setenv("https_proxy", proxy.url.replace("//", "//me:sesame-1@"))
        with pytest.raises(Unreachable, match=f"the proxy {proxy.url} {said}") as caught:
            ask(server_at("https://far", {}), "/", timeout_s=5)
    assert "sesame" not in str(caught.value)
    assert proxy.received[0].headers["proxy-authorization"] == "Basic bWU6c2VzYW1lLTE="


def test_an_excerpt_is_the_error_s_own_message_and_holds_no_secret():
    def answer(request: Received) -> Iterable[Step]:
        key = request.headers["authorization"]
        if request.path == "/json":
            return [whole(401, json.dumps({"error": {"message": f"no such key: {key}"}}))]
        return [whole(401, "x" * 190 + key, "text/plain")]

    with ScriptedServer(answer) as server:
        where = server_at(server.url, {"Authorization": "Bearer sesame-1"})
        assert ask(where, "/json", timeout_s=5).shown == "no such key: ***"
        assert ask(where, "/text", timeout_s=5).shown == "x" * 190 + "***"
