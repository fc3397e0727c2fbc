"""Which certificate is trusted, and what is said of a handshake that failed? For the load and for questions alike."""

import ssl

from inferometer.base.errors import RequestWrong
from inferometer.net.target import Tls

_NOT_TLS = {"WRONG_VERSION_NUMBER", "HTTP_REQUEST", "RECORD_LAYER_FAILURE", "PACKET_LENGTH_TOO_LONG"}


def tls_context(tls: Tls) -> ssl.SSLContext:
    """What is trusted: the system's store, or only what is in `tls.ca_file`. Raises RequestWrong for a bad file."""
    try:
        context = ssl.create_default_context(cafile=tls.ca_file)
    except OSError as error:  # ssl.SSLError is one
        said = "it holds no certificate in PEM" if isinstance(error, ssl.SSLError) else error.strerror
        raise RequestWrong(f"--ca-file {tls.ca_file} cannot be used: {said}") from error
    if not tls.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    # The same on every Python (3.13 changed both): a server's own certificate may be given as the CA file, and a
    # home-made authority that leaves out an extension is good enough.
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    context.set_alpn_protocols(["http/1.1"])
    return context


def handshake_failure(shown: str, error: ssl.SSLError) -> str:
    """Why there is no TLS with the server that is called `shown`, and what to try."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return (
            f"{shown}: the server's certificate is not accepted: {error.verify_message.rstrip('.')}. "
            "Give its authority with --ca-file, or check nothing with --insecure."
        )
    hint = " Does it speak plain HTTP? Then write http://." if error.reason in _NOT_TLS else ""
    return f"{shown}: the TLS handshake failed: {tls_reason(error)}.{hint}"


def tls_reason(error: ssl.SSLError) -> str:
    """OpenSSL's word for it, readable: TLSV1_ALERT_UNKNOWN_CA → tlsv1 alert unknown ca."""
    return (error.reason or str(error)).replace("_", " ").lower()
