"""Liveness of a server that answered before: whether its process exists and it still gives tokens."""

import http.client

from inferometer.core.endpoint import Endpoint
from inferometer.core.spec import Arm
from inferometer.engines import readiness
from inferometer.engines.process_group import is_alive
from inferometer.net.http_client import ask, server_at


def dead_process(endpoint: Endpoint) -> int | None:
    """A root process of the engine that is no more; None where all live, or none is known."""
    return next((pid for pid in endpoint.pids if not is_alive(pid)), None)


def why_no_token(arm: Arm, endpoint: Endpoint, patience_s: float) -> str:
    """ "" where a token comes when it is asked for; else what came instead."""
    server = server_at(endpoint.base_url, endpoint.headers, endpoint.verify, endpoint.ca_file)
    body = readiness.one_token(arm, endpoint.model, llama_cpp=False)
    try:
        answer = ask(server, endpoint.path, body=body, timeout_s=patience_s)
    except TimeoutError:
        return f"nothing in {patience_s:g} s"
    except (OSError, http.client.HTTPException) as error:
        return server.hide(str(error)) or type(error).__name__
    return "" if readiness.token_came(answer) else f"status {answer.status}: {answer.shown}"
