"""Every way to a server, through the whole load path: TLS, proxies, IPv6 and Unix sockets."""

import contextlib
import socket
import ssl
import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec
import pytest

from inferometer.base.errors import RequestWrong
from inferometer.core.endpoint import Endpoint
from inferometer.core.plan import Plan, PlanItem
from inferometer.core.record import RequestRecord
from inferometer.core.request import user_request
from inferometer.core.spec import Sampling
from inferometer.load import play
from inferometer.load.worker_pool import local_workers
from inferometer.testing.scripted_server import (
    Close,
    Received,
    ScriptedServer,
    Send,
    Step,
    Wait,
    delta,
    event,
    inference_server,
)

CERTIFICATES = Path(__file__).parents[1] / "data" / "tls"
CA = str(CERTIFICATES / "ca.pem")
OTHER_CA = str(CERTIFICATES / "other_ca.pem")
TEXT = " w0 w1 w2 w3 w4"


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch: pytest.MonkeyPatch):
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


def played(
    url: str, count: int = 3, verify: bool = True, ca_file: str | None = None, prompt: str = "p"
) -> list[RequestRecord]:
    items = [PlanItem(i, user_request(f"r{i}", f"{prompt}{i}", max_tokens=5), None) for i in range(count)]
    where = Endpoint(url, "/v1/chat/completions", "openai-chat", "scripted", verify=verify, ca_file=ca_file)
    with local_workers() as crew:
        happenings = play(Plan(tuple(items), 1, seed=1), where, Sampling(), time.monotonic_ns(), crew)
        return [happening for happening in happenings if isinstance(happening, RequestRecord)]


def server_context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CERTIFICATES / "server.pem")
    return context


def texts(records: list[RequestRecord]) -> list[str]:
    return [record.text if record.ok else f"{record.outcome}: {record.error}" for record in records]


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_tls_streams_are_read_over_one_connection(host: str):
    with ScriptedServer(inference_server(gap_s=0.005), host=host, tls=server_context()) as server:
        records = played(server.url, ca_file=CA)
    assert texts(records) == [TEXT] * 3
    assert {request.connection for request in server.received} == {0}
    assert all(r.connected_ns < r.sent_ns < r.first_byte_ns < r.done_ns for r in records)
    assert all(event.at_ns >= record.sent_ns for record in records for event in record.events)


def test_a_long_request_goes_out_whole_over_tls():
    with ScriptedServer(inference_server(), tls=server_context()) as server:
        assert texts(played(server.url, 1, ca_file=CA, prompt="x" * 3_000_000)) == [TEXT]
    assert len(server.received[0].body["messages"][0]["content"]) == 3_000_001


@pytest.mark.parametrize("ca_file", [None, OTHER_CA])
def test_a_certificate_that_is_not_accepted_fails_every_request_with_the_ways_out(ca_file: str | None):
    with ScriptedServer(inference_server(), tls=server_context()) as server:
        records = played(server.url, ca_file=ca_file)
    assert [record.outcome for record in records] == ["refused"] * 3
    for record in records:
        assert "certificate is not accepted" in record.error
        assert "--ca-file" in record.error
    assert server.received == []


def test_insecure_takes_any_certificate():
    with ScriptedServer(inference_server(), tls=server_context()) as server:
        assert texts(played(server.url, 1, verify=False)) == [TEXT]


def test_a_bad_ca_file_is_refused_before_anything_is_sent():
    with ScriptedServer(inference_server(), tls=server_context()) as server:
        with pytest.raises(RequestWrong, match=r"--ca-file.*cannot be used"):
            played(server.url, ca_file=str(CERTIFICATES / "missing.pem"))
        assert server.received == []


def test_a_tls_server_that_hangs_up_is_cut_or_refused():
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
    with ScriptedServer(lambda _: [Send(head), Wait(0.02), Close()], tls=server_context()) as server:
        assert [record.outcome for record in played(server.url, 2, ca_file=CA)] == ["cut", "cut"]
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def hang_up() -> None:
            with contextlib.suppress(OSError):
                while True:
                    listener.accept()[0].close()

        thread = threading.Thread(target=hang_up)
        thread.start()
        (record,) = played(f"https://127.0.0.1:{listener.getsockname()[1]}", 1)
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()
    assert record.outcome == "refused"
    assert "the TLS handshake" in record.error


@pytest.mark.timeout(15)
def test_a_goodbye_in_tls_ends_the_answer_though_the_socket_stays_open():
    stop = threading.Event()

    def serve() -> None:
        connection, _ = listener.accept()
        with server_context().wrap_socket(connection, server_side=True) as tls:
            tls.recv(65_536)
            tls.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n" + event(delta("a", "stop")))
            tls.settimeout(0.1)
            with contextlib.suppress(OSError):
                tls.unwrap()
            stop.wait(4)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve)
        thread.start()
        try:
            (record,) = played(f"https://127.0.0.1:{listener.getsockname()[1]}", 1, ca_file=CA)
        finally:
            stop.set()
            thread.join()
    assert (record.outcome, record.text) == ("ok", "a")
    assert record.done_ns - record.sent_ns < 3_000_000_000


def test_ipv6_and_a_unix_socket_are_reached(tmp_path: Path):
    with ScriptedServer(inference_server(), host="::1") as server:
        assert texts(played(server.url)) == [TEXT] * 3
        assert {request.headers["host"] for request in server.received} == {f"[::1]:{server.port}"}
    with ScriptedServer(inference_server(), unix_path=str(tmp_path / "s.sock")) as server:
        assert texts(played(server.url)) == [TEXT] * 3
        assert {request.headers["host"] for request in server.received} == {"localhost"}
    records = played(server.url)  # the socket's file is gone by now
    assert [record.outcome for record in records] == ["refused"] * 3


def test_an_http_proxy_is_given_the_whole_address_and_its_password(monkeypatch: pytest.MonkeyPatch):
    def proxy(request: Received) -> Iterable[Step]:
        path = request.path.removeprefix("http://far.example:8000")
        return inference_server()(msgspec.structs.replace(request, path=path))

    with ScriptedServer(proxy) as server:
        monkeypatch.setenv("http_proxy", server.url.replace("//", "//me:pw@"))
        assert texts(played("http://far.example:8000")) == [TEXT] * 3
    assert {request.path for request in server.received} == {"http://far.example:8000/v1/chat/completions"}
    assert {request.headers["host"] for request in server.received} == {"far.example:8000"}
    assert {request.headers["proxy-authorization"] for request in server.received} == {"Basic bWU6cHc="}


@contextlib.contextmanager
def connect_proxy(to_port: int) -> Iterator[tuple[int, list[bytes]]]:
    """A proxy on 127.0.0.1 that tunnels whatever it is asked for to `to_port`: its port, and the heads it was sent."""
    heads: list[bytes] = []

    def pump(source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65_536):
                sink.sendall(data)
            sink.shutdown(socket.SHUT_RDWR)

    def serve() -> None:
        with contextlib.suppress(OSError):
            client, _ = listener.accept()
            with client, socket.create_connection(("127.0.0.1", to_port)) as upstream:
                head = b""
                while not head.endswith(b"\r\n\r\n"):
                    head += client.recv(1)
                heads.append(head)
                client.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
                back = threading.Thread(target=pump, args=(upstream, client))
                back.start()
                pump(client, upstream)
                back.join()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve)
        thread.start()
        yield listener.getsockname()[1], heads
        thread.join(timeout=5)


def test_https_goes_through_a_proxys_tunnel(monkeypatch: pytest.MonkeyPatch):
    with (
        ScriptedServer(inference_server(), tls=server_context()) as server,
        connect_proxy(server.port) as (proxy_port, heads),
    ):
        monkeypatch.setenv("https_proxy", f"http://me:pw@127.0.0.1:{proxy_port}")
        assert texts(played("https://far.example", verify=False)) == [TEXT] * 3
    assert heads == [
        b"CONNECT far.example:443 HTTP/1.1\r\nHost: far.example:443\r\nProxy-Authorization: Basic bWU6cHc=\r\n\r\n"
    ]
    assert {request.path for request in server.received} == {"/v1/chat/completions"}
    assert all("proxy-authorization" not in request.headers for request in server.received)


def test_a_proxy_that_opens_no_tunnel_fails_every_request_in_its_own_words(monkeypatch: pytest.MonkeyPatch):
    refusal = Send(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")
    with ScriptedServer(lambda _: [refusal, Close()]) as server:
        monkeypatch.setenv("https_proxy", server.url)
        records = played("https://far.example")
    assert [record.outcome for record in records] == ["refused"] * 3
    assert all("HTTP 407 Proxy Authentication Required" in record.error for record in records)


def test_a_local_server_is_reached_past_the_proxy(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("all_proxy", "http://127.0.0.1:1")
    with ScriptedServer(inference_server()) as server:
        assert texts(played(server.url)) == [TEXT] * 3
