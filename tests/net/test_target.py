"""Where the bytes go: addresses, and the environment's proxies."""

import base64
import itertools

import msgspec
import pytest

from inferometer.base.errors import RequestWrong
from inferometer.net.target import Target, Tcp, Tls, Unix, proxy_secrets, target_of

PROXY = {"http_proxy": "http://proxy:3128", "https_proxy": "http://proxy:3128"}


@pytest.mark.parametrize(
    ("base_url", "connect_to", "host_header", "request_target"),
    [
        ("http://127.0.0.1:8080", Tcp("127.0.0.1", 8080), "127.0.0.1:8080", "/v1"),
        ("http://Example.com", Tcp("example.com", 80), "example.com", "/v1"),
        ("http://example.com:80/", Tcp("example.com", 80), "example.com", "/v1"),
        ("https://example.com", Tcp("example.com", 443), "example.com", "/v1"),
        ("https://example.com:80", Tcp("example.com", 80), "example.com:80", "/v1"),
        ("http://[::1]:8080", Tcp("::1", 8080), "[::1]:8080", "/v1"),
        ("http://[::1]", Tcp("::1", 80), "[::1]", "/v1"),
        ("http://[fe80::1%25eth0]:8080", Tcp("fe80::1%eth0", 8080), "[fe80::1]:8080", "/v1"),
        ("http://host:1/a/b/", Tcp("host", 1), "host:1", "/a/b/v1"),
        ("http://host/ä%20b", Tcp("host", 80), "host", "/%C3%A4%20b/v1"),
        ("http://bücher.example", Tcp("xn--bcher-kva.example", 80), "xn--bcher-kva.example", "/v1"),
        ("unix:///run/llama.sock", Unix("/run/llama.sock"), "localhost", "/v1"),
        ("unix:///run/with%20blank.sock", Unix("/run/with blank.sock"), "localhost", "/v1"),
        ("http+unix://%2Frun%2Fllama.sock", Unix("/run/llama.sock"), "localhost", "/v1"),
        ("http+unix://%2Frun%2Fllama.sock/a", Unix("/run/llama.sock"), "localhost", "/a/v1"),
    ],
)
def test_an_address_says_where_to_connect_and_what_to_ask_for(
    base_url: str, connect_to: Tcp | Unix, host_header: str, request_target: str
):
    target = target_of(base_url, {})
    assert target.connect_to == connect_to
    assert target.host_header == host_header
    assert target.request_target("/v1") == request_target
    assert (target.connect_request, target.headers, target.shown_proxy) == (b"", {}, "")


def test_tls_names_the_server_and_what_is_trusted():
    assert target_of("https://example.com.:8443", {}).tls == Tls("example.com", verify=True, ca_file=None)
    assert target_of("https://[::1]", {}, verify=False).tls == Tls("::1", verify=False)
    assert target_of("https://10.0.0.1", {}, ca_file="ca.pem").tls == Tls("10.0.0.1", ca_file="ca.pem")
    assert target_of("http://example.com", {}, verify=False).tls is None


@pytest.mark.parametrize(
    ("base_url", "said"),
    [
        ("localhost:8080", "write it as http://127.0.0.1:8080"),
        ("ftp://host", "write it as"),
        ("http://", "write it as"),
        ("http://:8080", "write it as"),
        ("http://host:99999", "write it as"),
        ("http://host:0", "write it as"),
        ("http://[::1:8080", "write it as"),
        ("http://a..b", "not a valid host name"),
        ("http://host/a b", "blank"),
        ("http://host\r\nX: y", "control character"),
        ("http://host/?key=1", "query"),
        ("unix://run/llama.sock", "absolute path"),
        ("unix://", "absolute path"),
        ("unix:///" + "x" * 120, "shorter"),
    ],
)
def test_a_wrong_address_is_refused_with_the_way_out(base_url: str, said: str):
    with pytest.raises(RequestWrong, match=said):
        target_of(base_url, {})


def test_a_password_in_the_address_is_refused_and_not_shown():
    with pytest.raises(RequestWrong, match="as a header") as caught:
        target_of("http://me:secret@host", {})
    assert "secret" not in str(caught.value)


def test_checking_nothing_and_a_ca_file_exclude_each_other():
    with pytest.raises(RequestWrong, match="one of them"):
        target_of("https://host", {}, verify=False, ca_file="ca.pem")


def test_an_http_proxy_is_asked_for_the_whole_address():
    target = target_of("http://host:8000/a", {"http_proxy": "http://us%40er:p%3Aw@proxy:3128"})
    assert target.connect_to == Tcp("proxy", 3128)
    assert target.request_target("/v1") == "http://host:8000/a/v1"
    assert target.host_header == "host:8000"
    assert target.headers == {"Proxy-Authorization": "Basic " + base64.b64encode(b"us@er:p:w").decode()}
    assert target.connect_request == b""
    assert (target.shown, target.shown_proxy) == ("http://host:8000", "http://proxy:3128")


def test_https_goes_through_a_tunnel_and_the_proxy_password_stays_outside_it():
    target = target_of("https://host/a", {"https_proxy": "http://me:pw@proxy:3128"})
    assert target.connect_to == Tcp("proxy", 3128)
    assert target.connect_request == (
        b"CONNECT host:443 HTTP/1.1\r\nHost: host:443\r\nProxy-Authorization: Basic bWU6cHc=\r\n\r\n"
    )
    assert target.request_target("/v1") == "/a/v1"
    assert target.headers == {}
    assert target.tls == Tls("host")


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"http_proxy": "http://a:1"}, Tcp("a", 1)),
        ({"HTTP_PROXY": "http://b:2"}, Tcp("b", 2)),
        ({"HTTP_PROXY": "http://b:2", "http_proxy": "http://a:1"}, Tcp("a", 1)),
        ({"HTTP_PROXY": "http://b:2", "REQUEST_METHOD": "GET"}, Tcp("host", 80)),
        ({"https_proxy": "http://a:1"}, Tcp("host", 80)),
        ({"ALL_PROXY": "http://c:3"}, Tcp("c", 3)),
        ({"ALL_PROXY": "http://c:3", "all_proxy": "http://d:4"}, Tcp("d", 4)),
        ({"all_proxy": "http://d:4", "HTTP_PROXY": "http://b:2"}, Tcp("b", 2)),
        ({"http_proxy": "", "HTTP_PROXY": "http://b:2", "all_proxy": "http://d:4"}, Tcp("host", 80)),
        ({"http_proxy": "a:1"}, Tcp("a", 1)),
        ({"http_proxy": "http://a"}, Tcp("a", 80)),
        ({"http_proxy": "http://[::2]:3128/"}, Tcp("::2", 3128)),
    ],
)
def test_the_first_proxy_variable_that_is_set_decides(environment: dict[str, str], expected: Tcp):
    assert target_of("http://host", environment).connect_to == expected


@pytest.mark.parametrize(
    "server",
    ["localhost", "a.localhost", "127.0.0.1", "127.9.9.9", "[::1]", "[::ffff:127.0.0.1]", "0.0.0.0"],
)
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_local_server_is_never_asked_through_a_proxy(scheme: str, server: str):
    target = target_of(f"{scheme}://{server}:8000", PROXY)
    assert target.connect_to != Tcp("proxy", 3128)
    assert target.shown_proxy == ""


@pytest.mark.parametrize(
    ("no_proxy", "server", "direct"),
    [
        ("*", "host", True),
        ("example.com", "example.com", True),
        ("example.com", "a.example.com", True),
        (".example.com", "a.example.com", True),
        (".example.com", "example.com", True),
        ("*.example.com", "a.example.com", True),
        ("EXAMPLE.com", "example.com", True),
        ("example.com", "notexample.com", False),
        ("ample.com", "example.com", False),
        ("a, example.com", "example.com", True),
        ("a example.com", "example.com", True),
        ("example.com:8000", "example.com", True),
        ("example.com:8001", "example.com", False),
        ("10.1.2.3", "10.1.2.3", True),
        ("10.1.2.3:8000", "10.1.2.3", True),
        ("10.1.0.0/16", "10.1.2.3", True),
        ("10.2.0.0/16", "10.1.2.3", False),
        ("10.0.0.0/8", "host", False),
        ("10.0.0.0/88", "10.1.2.3", False),
        ("fd00::5", "[fd00::5]", True),
        ("[fd00::5]:8000", "[fd00::5]", True),
        ("[fd00::5]:8001", "[fd00::5]", False),
        ("fd00::/8", "[fd00::5]", True),
        ("2.3", "10.1.2.3", False),
        (".", "host", False),
        ("", "host", False),
    ],
)
def test_no_proxy_names_who_is_reached_directly(no_proxy: str, server: str, direct: bool):
    target = target_of(f"http://{server}:8000", PROXY | {"no_proxy": no_proxy, "NO_PROXY": "*"})
    assert (target.connect_to != Tcp("proxy", 3128)) is direct


def test_no_proxy_counts_in_upper_case_too():
    assert target_of("http://host", PROXY | {"NO_PROXY": "host"}).connect_to == Tcp("host", 80)


@pytest.mark.parametrize(
    ("proxy", "said"),
    [("socks5://me:secret@p:1080", "socks5"), ("http://me:secret@p:port", "not the addr"), ("http://", "not the addr")],
)
def test_a_proxy_that_cannot_be_used_is_named_by_its_variable_and_without_its_password(proxy: str, said: str):
    with pytest.raises(RequestWrong, match=f"all_proxy.*{said}") as caught:
        target_of("http://host", {"all_proxy": proxy})
    assert "secret" not in str(caught.value)
    assert target_of("http://localhost", {"all_proxy": proxy}).connect_to == Tcp("localhost", 80)


def test_a_target_survives_the_way_to_a_worker():
    urls = ["http://host", "https://host", "unix:///run/x.sock"]
    for url, environment in itertools.product(urls, [{}, PROXY]):
        target = target_of(url, environment)
        assert msgspec.msgpack.decode(msgspec.msgpack.encode(target), type=Target) == target


# --- secrets --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    [
        "http://me:sesame@h:port",
        "http://me:ses/sesame@h",
        "ftp://me:sesame@h",
        "http://h/?key=sesame",
        "http://h/ sesame@",
    ],
)
def test_what_may_be_a_password_is_not_shown_in_a_refusal(url: str):
    with pytest.raises(RequestWrong) as caught:
        target_of(url, {})
    assert "sesame" not in str(caught.value)


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_the_secrets_are_the_headers_values_and_the_proxy_s_name_and_password(scheme: str):
    target = target_of(f"{scheme}://host", {f"{scheme}_proxy": "http://me:sesame-1@proxy"})
    secrets = target.redactor({"Authorization": "Bearer sesame-2", "X-Short": "3"}).secrets
    assert set(secrets) == {
        *("Basic bWU6c2VzYW1lLTE=", "bWU6c2VzYW1lLTE=", "me:sesame-1", "sesame-1"),
        *("Bearer sesame-2", "sesame-2"),
    }


def test_the_environment_s_proxies_have_the_same_secrets_as_a_target_behind_them():
    environment = {"https_proxy": "http://me:sesame%2D1@proxy", "no_proxy": "a@b", "ALL_PROXY": "socks5://u:p@h"}
    assert {"me:sesame-1", "sesame-1", "bWU6c2VzYW1lLTE="} <= set(proxy_secrets(environment))
    assert list(proxy_secrets({"http_proxy": "http://proxy:3128"})) == []
