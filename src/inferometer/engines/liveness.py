"""Liveness of a server that answered before: whether its process exists and it still gives tokens."""

import http.client

from inferometer.core.endpoint import Endpoint
from inferometer.core.spec import Arm, Sampling
from inferometer.engines import readiness
from inferometer.engines.process_group import is_alive
from inferometer.net.http_client import server_at


def dead_process(endpoint: Endpoint) -> int | None:
    """A root process of the engine that has ended; None if all are alive, or none is known."""
    return next((pid for pid in endpoint.pids if not is_alive(pid)), None)


def why_no_token(arm: Arm, endpoint: Endpoint, sampling: Sampling, patience_s: float) -> str:
    """Request one token: "" if it came, else what came instead."""
    server = server_at(endpoint.base_url, endpoint.headers, endpoint.verify, endpoint.ca_file)
    try:
        asked = readiness.ask_for_token(
            server, arm, endpoint.model, sampling, timeout_s=patience_s, refused=endpoint.refused
        )
    except TimeoutError:
        return f"nothing in {patience_s:g} s"
    except (OSError, http.client.HTTPException) as error:
        return server.hide(str(error)) or type(error).__name__
    return "" if asked.came else f"status {asked.answer.status}: {asked.said}"
