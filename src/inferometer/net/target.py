"""Targets of connections, from a base URL and the proxies in the environment. Pure.

A local server is never reached through a proxy: connections to `localhost`, `*.localhost`, loopback and unspecified
addresses and Unix sockets are direct, whatever the environment states. curl and requests use the proxy for them unless
NO_PROXY forbids it; a benchmark of local servers would then measure the proxy.
"""

import base64
import contextlib
import ipaddress
import re
import sys
from collections.abc import Iterator, Mapping
from urllib.parse import SplitResult, quote, unquote, urlsplit

import msgspec

from inferometer.base.errors import RequestWrong
from inferometer.base.redactor import Redactor, header_secrets

_DEFAULT_PORTS = {"http": 80, "https": 443}
_UNIX_PATH_BYTES = 107 if sys.platform == "linux" else 103
_EXAMPLES = "write it as http://127.0.0.1:8080, https://host, http://[::1]:8080 or unix:///path/to.sock"


class Tcp(msgspec.Struct, frozen=True, tag="tcp"):
    """A host as `getaddrinfo` takes it (IPv6 without brackets, perhaps with a zone) and a port."""

    host: str
    port: int


class Unix(msgspec.Struct, frozen=True, tag="unix"):
    """A Unix socket by its path."""

    path: str


class Tls(msgspec.Struct, frozen=True):
    """`server_name`: the name or address that the certificate must contain. `ca_file` None: the system's store."""

    server_name: str
    verify: bool = True
    ca_file: str | None = None


class Target(msgspec.Struct, frozen=True):
    """How to reach a server, and how a request to it is addressed.

    `connect_to`: the address of the socket, which is the proxy's if there is one. `connect_request`: sent to the proxy
    before TLS starts; b"" without a tunnel. `prefix`: precedes the API's path in the request line. It is the URL's own
    path; through an HTTP proxy, the whole origin comes before it. `headers`: the proxy requires them in each request.

    `connect_request` and `headers` may hold the proxy's password: they are sent, never stored or shown. `shown` and
    `shown_proxy` name the server and the proxy in messages, without secrets.
    """

    connect_to: Tcp | Unix
    host_header: str
    shown: str
    prefix: str = ""
    tls: Tls | None = None
    shown_proxy: str = ""
    connect_request: bytes = b""
    headers: dict[str, str] = {}

    def request_target(self, path: str) -> str:
        """The target in the request line for the API's `path`, which begins with a slash."""
        return self.prefix + path

    def redactor(self, headers: Mapping[str, str]) -> Redactor:
        """Hides the values of `headers`, which are sent to this server, and the name and password of the proxy."""
        of_proxy = re.findall(r"Proxy-Authorization: (.*)", self.connect_request.decode("latin-1"))
        return Redactor.of(header_secrets([*headers.values(), *self.headers.values(), *of_proxy]))


class _Proxy(msgspec.Struct, frozen=True):
    host: str
    port: int
    shown: str
    headers: dict[str, str]


def target_of(
    base_url: str, environment: Mapping[str, str], *, verify: bool = True, ca_file: str | None = None
) -> Target:
    """The target of `base_url`; `environment` holds the proxy variables, {} for none. Raises RequestWrong.

    `verify` and `ca_file` apply only to https. A Unix socket is `unix:///path/to.sock`, or `http+unix://%2Fpath` if a
    path follows.
    """
    if not verify and ca_file is not None:
        raise RequestWrong(
            "--insecure and --ca-file contradict each other: --insecure checks no certificate. Give one of them"
        )
    shown = re.sub("//.*@", "//***@", re.split("[?#]", base_url)[0], flags=re.DOTALL)  # it may contain a password
    if any(char.isspace() or not char.isprintable() for char in base_url):
        raise RequestWrong(f"{shown!r} contains a blank or a control character; {_EXAMPLES}")
    try:
        url = urlsplit(base_url)
        host, port = url.hostname or "", url.port
    except ValueError as error:
        raise RequestWrong(f"{shown} is not the address of a server; {_EXAMPLES}") from error
    if url.query or url.fragment:
        raise RequestWrong(f"{shown}: remove the query or fragment (the part from ? or # on)")
    if url.scheme in ("unix", "http+unix"):
        return _unix_target(url, shown)
    if url.scheme not in _DEFAULT_PORTS or not host or port == 0:
        raise RequestWrong(f"{shown} is not the address of a server; {_EXAMPLES}")
    if url.username is not None:
        raise RequestWrong("the server's address contains a name or a password: remove them, and send them as a header")
    return _tcp_target(url.scheme, _plain_host(host, base_url), port, _path_prefix(url), environment, verify, ca_file)


def _unix_target(url: SplitResult, shown: str) -> Target:
    if url.scheme == "unix":
        path, prefix = unquote(url.netloc + url.path), ""
    else:
        path, prefix = unquote(url.netloc), _path_prefix(url)
    if not path.startswith("/"):
        raise RequestWrong(f"{shown}: write the absolute path of the Unix socket, as unix:///path/to.sock")
    if len(path.encode()) > _UNIX_PATH_BYTES or "\0" in path:
        raise RequestWrong(f"{shown}: the system limits the path to {_UNIX_PATH_BYTES} bytes; use a shorter one")
    return Target(Unix(path), "localhost", f"unix://{path}", prefix)


def _tcp_target(
    scheme: str,
    host: str,
    port: int | None,
    path_prefix: str,
    environment: Mapping[str, str],
    verify: bool,
    ca_file: str | None,
) -> Target:
    secure = scheme == "https"
    port = port or _DEFAULT_PORTS[scheme]
    authority = _bracketed(host)
    host_header = authority if port == _DEFAULT_PORTS[scheme] else f"{authority}:{port}"
    origin = f"{scheme}://{host_header}"
    tls = Tls(host.partition("%")[0].rstrip("."), verify, ca_file) if secure else None
    proxy = None if _is_direct(host, port, environment) else _proxy_for(scheme, environment)
    if proxy is None:
        return Target(Tcp(host, port), host_header, origin, path_prefix, tls)
    connect_to = Tcp(proxy.host, proxy.port)
    if not secure:
        prefix = origin + path_prefix
        return Target(connect_to, host_header, origin, prefix, None, proxy.shown, headers=proxy.headers)
    lines = [
        f"CONNECT {authority}:{port} HTTP/1.1",
        f"Host: {authority}:{port}",
        *(f"{name}: {value}" for name, value in proxy.headers.items()),
    ]
    connect_request = "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n"
    return Target(connect_to, host_header, origin, path_prefix, tls, proxy.shown, connect_request)


# --- proxies --------------------------------------------------------------------------------------


def _proxy_for(scheme: str, environment: Mapping[str, str]) -> _Proxy | None:
    """The proxy that the environment names for `scheme`. The first variable that is set decides; an empty one means no
    proxy. HTTP_PROXY is ignored if REQUEST_METHOD is set: in a CGI program, the remote side may have set it."""
    for name in (f"{scheme}_proxy", f"{scheme.upper()}_PROXY", "all_proxy", "ALL_PROXY"):
        if name in environment and not (name == "HTTP_PROXY" and "REQUEST_METHOD" in environment):
            text = environment[name].strip()
            return _proxy(name, text) if text else None
    return None


def _proxy(variable: str, text: str) -> _Proxy:
    """The proxy in `text`: `http://user:password@host:port`. Only the host is required; the default port is 80."""
    advice = "Write it as http://host:port, or unset it, or name the server in NO_PROXY"
    try:
        url = urlsplit(text if "://" in text else f"http://{text}")
        host, port = url.hostname, url.port
    except ValueError as error:
        raise RequestWrong(f"{variable} is not the address of a proxy. {advice}.") from error
    if url.scheme != "http":
        raise RequestWrong(f"{variable} names a {url.scheme} proxy; only http:// proxies are supported. {advice}.")
    if not host:
        raise RequestWrong(f"{variable} is not the address of a proxy. {advice}.")
    headers: dict[str, str] = {}
    if url.username is not None:
        secret = f"{unquote(url.username)}:{unquote(url.password or '')}".encode()
        headers["Proxy-Authorization"] = "Basic " + base64.b64encode(secret).decode("ascii")
    port = port or _DEFAULT_PORTS["http"]
    host = _plain_host(host, variable)
    return _Proxy(host, port, f"http://{_bracketed(host)}:{port}", headers)


def proxy_secrets(environment: Mapping[str, str]) -> Iterator[str]:
    """The names and passwords in the proxy variables, and the header values made from them."""
    for name, text in environment.items():
        if name.lower().endswith("_proxy") and "@" in text:
            with contextlib.suppress(RequestWrong):  # such a proxy is never used
                yield from header_secrets(_proxy(name, text.strip()).headers.values())


def is_local(base_url: str) -> bool:
    """Whether the address refers to the host on which it is used: a Unix socket, a loopback or unspecified address."""
    url = urlsplit(base_url)
    return url.scheme in ("unix", "http+unix") or _is_loopback(url.hostname or "")


def _is_loopback(host: str) -> bool:
    address = _address(host)
    if address is None:
        return host == "localhost" or host.endswith(".localhost")
    return address.is_loopback or address.is_unspecified


def _is_direct(host: str, port: int, environment: Mapping[str, str]) -> bool:
    """Whether the connection bypasses proxies: to a local server, or to one that NO_PROXY names."""
    if _is_loopback(host):
        return True
    address = _address(host)
    listed = environment.get("no_proxy", environment.get("NO_PROXY", ""))
    return any(_covers(entry, host, port, address) for entry in listed.replace(",", " ").split())


_Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def _covers(entry: str, host: str, port: int, address: _Address | None) -> bool:
    """Whether an entry of NO_PROXY names this server. An entry is `*`, a domain (includes its subdomains; a leading dot
    or `*.` changes nothing), an address, or a network as 10.0.0.0/8. All but a network may have a port."""
    if entry == "*":
        return True
    if "/" in entry:
        try:
            network = ipaddress.ip_network(entry.replace("[", "").replace("]", ""), strict=False)
        except ValueError:
            return False
        return address is not None and address in network
    name, only_port = _name_and_port(entry.lower())
    if only_port is not None and only_port != str(port):
        return False
    if address is not None:
        return _address(name) == address
    domain = name.removeprefix("*").strip(".")
    host = host.rstrip(".")
    return bool(domain) and (host == domain or host.endswith("." + domain))


def _name_and_port(entry: str) -> tuple[str, str | None]:
    if entry.startswith("["):
        name, _, rest = entry[1:].partition("]")
        return name, rest[1:] or None
    if entry.count(":") == 1:
        name, _, only_port = entry.partition(":")
        return name, only_port
    return entry, None


def tunnel_refusal(shown: str, shown_proxy: str, status: str) -> str:
    """The message for a proxy that answers CONNECT with `status` (`407 Proxy Authentication Required`)."""
    advice = "Name the server in NO_PROXY if it needs no proxy."
    if status.startswith("407"):
        advice = "Write name and password into the variable: http://user:password@host:port."
    return f"the proxy {shown_proxy} refused a tunnel to {shown}: HTTP {status}. {advice}"


# --- hosts ----------------------------------------------------------------------------------------


def _address(host: str) -> _Address | None:
    """`host` as an address; None for a name. An IPv4 address embedded in IPv6 becomes IPv4."""
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return None
    return (address.ipv4_mapped or address) if isinstance(address, ipaddress.IPv6Address) else address


def _plain_host(host: str, source: str) -> str:
    """`host` in ASCII, as DNS and HTTP require; an IPv6 zone is decoded (`%eth0` for the URL's `%25eth0`)."""
    if ":" in host:
        return host.replace("%25", "%", 1)
    try:
        # IDNA also rejects impossible names: an empty label, a label of more than 63 characters.
        return host.encode("idna").decode("ascii")
    except UnicodeError as error:
        raise RequestWrong(f"{source}: {host!r} is not a valid host name ({error})") from error


def _bracketed(host: str) -> str:
    """`host` as written before a port: IPv6 in brackets, without its zone, which is valid only on this host."""
    return f"[{host.partition('%')[0]}]" if ":" in host else host


def _path_prefix(url: SplitResult) -> str:
    return quote(url.path.rstrip("/"), safe="/%:@!$&'()*+,;=~-._")
