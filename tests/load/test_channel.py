"""TLS and a proxy's tunnel over bytes in memory, against real servers on a real socket."""

import contextlib
import socket
import ssl
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inferometer.base.errors import RequestWrong
from inferometer.load.channel import Channel, ChannelFailed, Channels, TlsChannel, TunnelChannel
from inferometer.net.target import Tls, target_of
from inferometer.net.tls import tls_context
from inferometer.testing.scripted_server import ScriptedServer, inference_server

CERTIFICATES = Path(__file__).parents[1] / "data" / "tls"
CA = str(CERTIFICATES / "ca.pem")
OTHER_CA = str(CERTIFICATES / "other_ca.pem")
REQUEST = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"


def server_context(version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CERTIFICATES / "server.pem")
    context.maximum_version = version
    context.set_alpn_protocols(["h2", "http/1.1"])
    return context


def drive(channel: Channel, address: tuple[str, int], request: bytes, enough: bytes, read_bytes: int = 65_536) -> bytes:
    """Acts as the driver: connects, sends what the channel returns, feeds it what arrives, until `enough` plaintext."""
    plaintext = b""
    sent = False
    with socket.create_connection(address, timeout=5) as sock:
        sock.sendall(channel.start())
        while enough not in plaintext and not channel.closed:
            if channel.ready and not sent:
                sock.sendall(channel.send(request))
                sent = True
            data = sock.recv(read_bytes)
            assert data, f"closed while waiting for {channel.waiting_for or 'the answer'}"
            try:
                plaintext += channel.receive(data)
            finally:
                with contextlib.suppress(OSError):
                    sock.sendall(channel.pending_out())
    return plaintext


def tls_channel(tls: Tls) -> TlsChannel:
    return TlsChannel(tls_context(tls), tls.server_name, "https://the-server")


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("read_bytes", [1, 7, 65_536])
def test_a_request_and_its_answer_pass_however_the_ciphertext_is_cut(version: ssl.TLSVersion, read_bytes: int):
    channel = tls_channel(Tls("localhost", ca_file=CA))
    assert (channel.ready, channel.waiting_for) == (False, "the TLS handshake")
    with ScriptedServer(inference_server(), tls=server_context(version)) as server:
        answer = drive(channel, ("127.0.0.1", server.port), REQUEST, b'"ok"}', read_bytes)
    assert answer.startswith(b"HTTP/1.1 200")
    assert (channel.ready, channel.waiting_for) == (True, "")
    assert server.received[0].path == "/health"


@pytest.mark.parametrize("name", ["localhost", "127.0.0.1", "::1"])
def test_the_certificate_is_checked_against_the_name_or_address_asked_for(name: str):
    with ScriptedServer(inference_server(), tls=server_context()) as server:
        channel = tls_channel(Tls(name, ca_file=CA))
        assert drive(channel, ("127.0.0.1", server.port), REQUEST, b'"ok"}')


@pytest.mark.parametrize(
    ("tls", "said"),
    [
        (Tls("localhost", ca_file=OTHER_CA), "unable to get local issuer certificate"),
        (Tls("localhost"), "unable to get local issuer certificate"),
        (Tls("example.com", ca_file=CA), "Hostname mismatch.*example.com"),
        (Tls("127.0.0.2", ca_file=CA), "IP address mismatch.*127.0.0.2"),
    ],
)
def test_a_certificate_that_is_not_accepted_is_one_message_with_the_ways_out(tls: Tls, said: str):
    with ScriptedServer(inference_server(), tls=server_context()) as server:
        with pytest.raises(ChannelFailed, match=said) as caught:
            drive(tls_channel(tls), ("127.0.0.1", server.port), REQUEST, b"never")
        assert server.received == []
    for word in ("https://the-server", "--ca-file", "--insecure"):
        assert word in str(caught.value)


def test_insecure_asks_for_no_certificate_that_fits():
    with ScriptedServer(inference_server(), tls=server_context()) as server:
        channel = tls_channel(Tls("example.com", verify=False))
        assert drive(channel, ("127.0.0.1", server.port), REQUEST, b'"ok"}')


def test_the_servers_own_certificate_may_be_the_ca_file():
    with ScriptedServer(inference_server(), tls=server_context()) as server:
        channel = tls_channel(Tls("localhost", ca_file=str(CERTIFICATES / "server.pem")))
        assert drive(channel, ("127.0.0.1", server.port), REQUEST, b'"ok"}')


def test_a_server_without_tls_is_said_to_be_one():
    channel = tls_channel(Tls("localhost", ca_file=CA))
    channel.start()
    with pytest.raises(ChannelFailed, match="http://"):
        channel.receive(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")


@pytest.mark.parametrize(
    ("path", "said"),
    [("missing.pem", "No such file"), ("README.md", "no certificate")],
)
def test_a_ca_file_that_cannot_be_used_is_named(path: str, said: str):
    with pytest.raises(RequestWrong, match=f"--ca-file.*{path}.*cannot be used.*{said}"):
        tls_context(Tls("localhost", ca_file=str(CERTIFICATES / path)))


# --- two ends in memory ---------------------------------------------------------------------------


class Peer:
    """The server's end of a handshake in memory."""

    def __init__(self) -> None:
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = server_context().wrap_bio(self.incoming, self.outgoing, server_side=True)

    def greet(self, channel: Channel, first: bytes) -> None:
        """Shakes hands with `channel`, whose first words are `first`."""
        self.incoming.write(first)
        with pytest.raises(ssl.SSLWantReadError):
            self.tls.do_handshake()
        assert channel.receive(self.outgoing.read()) == b""
        self.incoming.write(channel.pending_out())
        self.tls.do_handshake()

    def says(self, *plaintexts: bytes) -> bytes:
        """Ciphertext, a record for each of `plaintexts`."""
        for plaintext in plaintexts:
            self.tls.write(plaintext)
        return self.outgoing.read()

    def hangs_up(self) -> bytes:
        with pytest.raises(ssl.SSLWantReadError):
            self.tls.unwrap()
        return self.outgoing.read()


def joined() -> tuple[TlsChannel, Peer]:
    channel, peer = tls_channel(Tls("localhost", ca_file=CA)), Peer()
    peer.greet(channel, channel.start())
    assert channel.ready
    return channel, peer


def test_http_1_is_chosen_though_the_server_could_speak_http_2():
    _, peer = joined()
    assert peer.tls.selected_alpn_protocol() == "http/1.1"


def test_the_servers_tickets_are_no_answer():
    channel, peer = joined()
    tickets = peer.outgoing.read()
    assert tickets != b""
    assert channel.receive(tickets) == b""
    assert not channel.closed


@settings(max_examples=30)
@given(
    plaintexts=st.lists(st.binary(min_size=1, max_size=40_000), min_size=1, max_size=5), cut=st.integers(100, 100_000)
)
def test_plaintext_does_not_depend_on_records_and_cuts(plaintexts: list[bytes], cut: int):
    channel, peer = joined()
    ciphertext = peer.says(*plaintexts)
    pieces = [ciphertext[at : at + cut] for at in range(0, len(ciphertext), cut)]
    assert b"".join(map(channel.receive, pieces)) == b"".join(plaintexts)


def test_a_request_of_megabytes_is_ciphered_in_one_go():
    channel, peer = joined()
    peer.incoming.write(channel.send(b"x" * 3_000_000))
    count = 0
    with contextlib.suppress(ssl.SSLWantReadError):
        while True:
            count += len(peer.tls.read(65_536))
    assert count == 3_000_000


def test_words_before_the_server_hangs_up_are_still_heard():
    channel, peer = joined()
    assert channel.receive(peer.says(b"last words") + peer.hangs_up()) == b"last words"
    assert channel.closed


def test_a_broken_record_is_no_plaintext():
    channel, peer = joined()
    ciphertext = bytearray(peer.says(b"hello"))
    ciphertext[-1] ^= 1
    with pytest.raises(ChannelFailed, match="TLS failed"):
        channel.receive(bytes(ciphertext))


# --- the tunnel -----------------------------------------------------------------------------------


def tunnel() -> tuple[TunnelChannel, TlsChannel]:
    inner = tls_channel(Tls("localhost", ca_file=CA))
    return TunnelChannel(b"CONNECT", inner, "https://the-server", "http://the-proxy:3128"), inner


@given(cut=st.integers(1, 60))
def test_tls_begins_when_the_proxy_has_opened_the_tunnel(cut: int):
    channel, _ = tunnel()
    assert channel.start() == b"CONNECT"
    assert channel.waiting_for == "the tunnel of the proxy http://the-proxy:3128"
    opened = b"HTTP/1.1 200 Connection established\r\nVia: me\r\n\r\n"
    for at in range(0, len(opened), cut):
        assert channel.pending_out() == b""
        assert channel.receive(opened[at : at + cut]) == b""
    assert channel.waiting_for == "the TLS handshake"
    peer = Peer()
    peer.greet(channel, channel.pending_out())
    assert channel.ready
    assert channel.receive(peer.says(b"hello")) == b"hello"


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n", "no tunnel to https://the-server: HTTP 403 Forbidden"),
        (b"HTTP/1.0 407 Proxy Authentication Required\r\n\r\n", "HTTP 407.*user:password@host"),
        (b"HTTP/1.1 502 Bad\x1b[31m Gateway\r\n\r\n", "HTTP 502 Bad Gateway"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "not answer in HTTP: SSH-2.0"),
        (b"\x15\x03\x01\x00\x02\x02\x16", "not answer in HTTP"),
        (b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 20_000, "do not end"),
    ],
)
def test_a_proxy_that_opens_no_tunnel_is_quoted(answer: bytes, said: str):
    channel, _ = tunnel()
    with pytest.raises(ChannelFailed, match=said) as caught:
        channel.receive(answer)
    assert "http://the-proxy:3128" in str(caught.value)


def test_plain_http_has_no_channel():
    assert Channels(target_of("http://localhost", {})).open() is None
    assert Channels(target_of("http://host", {"http_proxy": "http://proxy:3128"})).open() is None
    assert isinstance(Channels(target_of("https://localhost", {})).open(), TlsChannel)
