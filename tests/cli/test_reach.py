"""`inferometer bench` by every way to a server: TLS, Unix sockets, IPv6, proxies; and what it keeps to itself."""

import contextlib
import json
import os
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec
import pytest
from warm_program import inferometer

from inferometer.results.read import Study, read_study
from inferometer.testing.scripted_server import Received, ScriptedAnswer, ScriptedServer, Step, inference_server, whole

CERTIFICATES = Path(__file__).parents[1] / "data" / "tls"
PROXY_VARIABLES = {"http_proxy", "https_proxy", "all_proxy", "no_proxy"}


def bench(url: str, *words: str, cwd: Path, **env: str) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if name.lower() not in PROXY_VARIABLES}
    return inferometer(
        *("bench", "--backend", "openai-chat", *(("--base-url", url) if url else ())),
        *("--num-prompts", "2", "--out", "s", "--disable-tqdm", *words),
        cwd=cwd,
        env=clean | env,
    )


def good(url: str, *words: str, cwd: Path, **env: str) -> Study:
    """The study of a bench in which all went well."""
    done = bench(url, *words, cwd=cwd, **env)
    assert done.returncode == 0, done.stderr
    assert "Successful requests:                     2 " in done.stdout
    return read_study(cwd / "s")


def tls() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CERTIFICATES / "server.pem")
    return context


def facts(study: Study) -> dict[str, str]:
    return {fact.name: fact.value for fact in study.trials[0].facts}


# --- TLS ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("words", [("--ca-file", str(CERTIFICATES / "ca.pem")), ("--insecure",)])
def test_a_server_with_tls_is_measured_and_its_tokenizer_asked(tmp_path: Path, words: tuple[str, ...]):
    def answer(request: Received) -> Iterable[Step]:
        if request.path == "/tokenize":
            return [whole(200, json.dumps({"tokens": request.body["content"].split()}))]
        return inference_server(tokens=3)(request)

    with ScriptedServer(answer, tls=tls()) as server:
        study = good(f"https://localhost:{server.port}/v1", *words, cwd=tmp_path)
    (arm,) = study.spec.arms.values()
    assert (arm.insecure, arm.ca_file) == (words == ("--insecure",), (*words, None)[1])
    assert study.workload["tokenizer"] == "the server's /tokenize"
    assert facts(study)["engine_url"] == f"https://localhost:{server.port}/v1/chat/completions"


@pytest.mark.parametrize("words", [(), ("--ca-file", str(CERTIFICATES / "other_ca.pem"))])
def test_a_certificate_that_is_not_accepted_is_one_message_with_the_ways_out(tmp_path: Path, words: tuple[str, ...]):
    with ScriptedServer(inference_server(), tls=tls()) as server:
        done = bench(server.url, *words, cwd=tmp_path)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    for said in (server.url, "certificate is not accepted", "unable to get local issuer", "--ca-file", "--insecure"):
        assert said in done.stderr
    assert server.received == []


def test_a_server_without_tls_is_said_to_be_one(tmp_path: Path):
    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                with listener.accept()[0] as connection:
                    connection.recv(65_536)
                    connection.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=serve, daemon=True).start()
        done = bench(f"https://127.0.0.1:{listener.getsockname()[1]}", cwd=tmp_path)
        listener.shutdown(socket.SHUT_RDWR)
    assert done.returncode == 1
    assert "If the server speaks plain HTTP, write http://." in done.stderr


@pytest.mark.parametrize(
    ("url", "words", "said"),
    [
        ("https://h", ("--insecure", "--ca-file", "ca.pem"), "Give one of them"),
        ("https://h", ("--ca-file", "nowhere.pem"), "nowhere.pem cannot be used: No such file"),
        ("https://h", ("--ca-file", "empty.pem"), "empty.pem cannot be used: it holds no certificate"),
        ("unix://relative.sock", (), "write the absolute path"),
        ("https://me:sesame@h:port", (), "not the address of a server"),
        ("https://me:sesame@h", (), "as a header"),
        ("http://h/?key=sesame", (), "query"),
        ("http://h", ("--endpoint", "v1/completions"), "must begin with /"),
    ],
)
def test_what_cannot_be_reached_is_refused_before_anything_is_made(
    tmp_path: Path, url: str, words: tuple[str, ...], said: str
):
    (tmp_path / "empty.pem").touch()
    done = bench(url, *words, cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert said in done.stderr
    assert "sesame" not in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "s").exists()


# --- IPv6 and Unix sockets ------------------------------------------------------------------------


def test_ipv6_is_reached_by_its_address_as_a_host(tmp_path: Path):
    with ScriptedServer(inference_server(tokens=3), host="::1") as server:
        good("", "--host", "::1", "--port", str(server.port), cwd=tmp_path)
    assert {request.headers["host"] for request in server.received} == {f"[::1]:{server.port}"}


@pytest.mark.parametrize("form", ["unix://{}", "http+unix://{}/v1"])
def test_a_unix_socket_is_reached(tmp_path: Path, form: str):
    path = str(tmp_path / "server.sock")
    with ScriptedServer(inference_server(tokens=3), unix_path=path) as server:
        good(form.format(path if form.startswith("unix") else path.replace("/", "%2F")), cwd=tmp_path)
    assert {request.path for request in server.received} >= {"/v1/models", "/tokenize", "/v1/chat/completions"}


def test_a_unix_socket_that_is_not_there_is_said(tmp_path: Path):
    done = bench(f"unix://{tmp_path}/no.sock", cwd=tmp_path)
    assert done.returncode == 1
    assert f"nothing answers at unix://{tmp_path}/no.sock; start the server or check the socket's path" in done.stderr


# --- proxies --------------------------------------------------------------------------------------


def proxy_to(answer: ScriptedAnswer) -> ScriptedAnswer:
    """An HTTP proxy for http://far.example:8000 that answers by `answer` itself."""

    def forward(request: Received) -> Iterable[Step]:
        if not request.path.startswith("http://far.example:8000/"):
            return [whole(400, "this is a proxy", "text/plain")]
        path = request.path.removeprefix("http://far.example:8000")
        return answer(msgspec.structs.replace(request, path=path))

    return forward


@contextlib.contextmanager
def tunnels_to(port: int) -> Iterator[tuple[int, list[bytes]]]:
    """A proxy that answers CONNECT and carries every tunnel to `port`: its own port, and the heads it was sent."""
    heads: list[bytes] = []

    def pump(source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65_536):
                sink.sendall(data)
            sink.shutdown(socket.SHUT_RDWR)

    def carry(client: socket.socket) -> None:
        with client, contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)) as upstream:
            head = b""
            while not head.endswith(b"\r\n\r\n"):
                head += client.recv(1)
            heads.append(head)
            client.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
            back = threading.Thread(target=pump, args=(upstream, client))
            back.start()
            pump(client, upstream)
            back.join()

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=carry, args=(listener.accept()[0],)).start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=serve, daemon=True).start()
        yield listener.getsockname()[1], heads
        listener.shutdown(socket.SHUT_RDWR)


def test_a_server_elsewhere_is_reached_through_the_proxy_that_the_environment_names(tmp_path: Path):
    with ScriptedServer(proxy_to(inference_server(tokens=3))) as proxy:
        study = good("http://far.example:8000", cwd=tmp_path, HTTP_PROXY=proxy.url)
    assert {request.headers["host"] for request in proxy.received} == {"far.example:8000"}
    assert {request.path.removeprefix("http://far.example:8000") for request in proxy.received} >= {
        "/v1/models",
        "/v1/chat/completions",
    }
    assert facts(study)["engine_proxy"] == proxy.url


def test_https_elsewhere_goes_through_the_proxys_tunnel(tmp_path: Path):
    with (
        ScriptedServer(inference_server(tokens=3), tls=tls()) as server,
        tunnels_to(server.port) as (port, heads),
    ):
        good("https://far.example", "--insecure", cwd=tmp_path, HTTPS_PROXY=f"http://me:sesame@127.0.0.1:{port}")
    assert {head.partition(b"\r\n")[0] for head in heads} == {b"CONNECT far.example:443 HTTP/1.1"}
    assert all("proxy-authorization" not in request.headers for request in server.received)


@pytest.mark.parametrize("variable", ["HTTP_PROXY", "ALL_PROXY", "http_proxy"])
def test_a_local_server_is_asked_and_measured_past_the_proxy(tmp_path: Path, variable: str):
    with ScriptedServer(inference_server(tokens=3)) as server:
        study = good(f"http://localhost:{server.port}", cwd=tmp_path, **{variable: "http://127.0.0.1:1"})
    assert "engine_proxy" not in facts(study)


def test_a_proxy_that_is_not_there_or_refuses_is_named(tmp_path: Path):
    done = bench("http://far.example", cwd=tmp_path, http_proxy="http://me:sesame@127.0.0.1:1")
    assert done.returncode == 1
    assert "nothing answers at the proxy http://127.0.0.1:1, which the environment names" in done.stderr
    with ScriptedServer(lambda _: [whole(407, "who?", "text/plain")]) as server:
        plain = bench("http://far.example", "--out", "p", cwd=tmp_path, http_proxy=server.url)
        tunnel = bench("https://far.example", "--out", "t", cwd=tmp_path, https_proxy=server.url)
    assert f"the proxy {server.url} wants a name and a password" in plain.stderr
    assert f"the proxy {server.url} refused a tunnel to https://far.example: HTTP 407" in tunnel.stderr
    assert "sesame" not in done.stderr + plain.stderr + tunnel.stderr


# --- secrets --------------------------------------------------------------------------------------

SECRETS = {"OPENAI_API_KEY": "sesame-key", "http_proxy": "http://sesame-user:sesame-password@"}
BASE64_OF_THE_PROXYS = "c2VzYW1lLXVzZXI6c2VzYW1lLXBhc3N3b3Jk"


def everything(folder: Path, done: subprocess.CompletedProcess[str]) -> bytes:
    files = b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())
    return files + done.stdout.encode() + done.stderr.encode()


@pytest.mark.parametrize("tells", ["nothing", "in its answer to the first token", "in the answers that are measured"])
def test_no_secret_is_left_anywhere_even_where_the_server_repeats_it(tmp_path: Path, tells: str):
    measured = 0

    def answer(request: Received) -> Iterable[Step]:
        nonlocal measured
        sent = [request.headers.get(name) for name in ("authorization", "x-team", "proxy-authorization")]
        told = whole(500, json.dumps({"error": {"message": f"I was sent {sent}"}}))
        if request.method == "POST" and "first" in tells:
            return [told]
        if request.body.get("stream"):
            measured += 1
            if "measured" in tells and measured > 1:
                return [told]
        return inference_server(tokens=3)(request)

    with ScriptedServer(proxy_to(answer)) as proxy:
        env = SECRETS | {"http_proxy": proxy.url.replace("http://", SECRETS["http_proxy"])}
        words = ("--header", "X-Team=sesame-team", "--save-result", "--save-detailed")
        done = bench("http://far.example:8000", *words, cwd=tmp_path, **env)
    assert done.returncode == (0 if tells == "nothing" else 1)
    asked = [request for request in proxy.received if request.method == "POST"]
    assert {request.headers["authorization"] for request in asked} == {"Bearer sesame-key"}
    assert {request.headers["x-team"] for request in asked} == {"sesame-team"}
    assert {request.headers["proxy-authorization"] for request in asked} == {f"Basic {BASE64_OF_THE_PROXYS}"}
    left = everything(tmp_path, done)
    assert b"sesame" not in left
    assert BASE64_OF_THE_PROXYS.encode() not in left
    assert (b"***" in left) == (tells != "nothing")


@pytest.mark.parametrize("key", ["sesame\nX: y", "sesame\u2026"])
def test_a_key_that_no_header_can_carry_is_refused_without_being_shown(tmp_path: Path, key: str):
    done = bench("http://h", cwd=tmp_path, OPENAI_API_KEY=key)
    assert done.returncode == 2
    assert "OPENAI_API_KEY" in done.stderr
    assert "sesame" not in done.stderr
