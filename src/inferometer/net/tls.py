"""TLS: trusted certificates, and messages for failed handshakes."""

from typing import TYPE_CHECKING

from inferometer.base.errors import RequestWrong
from inferometer.base.lazy import lazy_module
from inferometer.net.target import Tls

if TYPE_CHECKING:
    import ssl
else:
    ssl = lazy_module("ssl")  # plain HTTP does without it: a load worker starts 7 ms sooner

_NOT_TLS = {"WRONG_VERSION_NUMBER", "HTTP_REQUEST", "RECORD_LAYER_FAILURE", "PACKET_LENGTH_TOO_LONG"}


def tls_context(tls: Tls) -> "ssl.SSLContext":
    """Trusts the system's store, or only the certificates in `tls.ca_file`. Raises RequestWrong for a bad file."""
    try:
        context = ssl.create_default_context(cafile=tls.ca_file)
    except OSError as error:  # includes ssl.SSLError
        reason = "it holds no certificate in PEM format" if isinstance(error, ssl.SSLError) else error.strerror
        raise RequestWrong(f"--ca-file {tls.ca_file} cannot be used: {reason}") from error
    if not tls.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    # The same on every Python (3.13 changed both): the CA file may hold the server's own certificate, and the
    # certificate of a private authority may lack an extension.
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    context.set_alpn_protocols(["http/1.1"])
    return context


def handshake_failure(shown: str, error: "ssl.SSLError") -> str:
    """Why the TLS handshake with the server `shown` failed, and what to try."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return (
            f"{shown}: the server's certificate is not accepted: {error.verify_message.rstrip('.')}. "
            "Name its certificate authority with --ca-file, or disable the check with --insecure."
        )
    hint = " If the server speaks plain HTTP, write http://." if error.reason in _NOT_TLS else ""
    return f"{shown}: the TLS handshake failed: {tls_reason(error)}.{hint}"


def tls_reason(error: "ssl.SSLError") -> str:
    """OpenSSL's reason in readable form: TLSV1_ALERT_UNKNOWN_CA → tlsv1 alert unknown ca."""
    return (error.reason or str(error)).replace("_", " ").lower()
