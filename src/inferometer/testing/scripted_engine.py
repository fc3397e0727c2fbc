"""A scripted engine that breaks on request: it answers like an inference server until the given fault.

    python -m inferometer.testing.scripted_engine --port PORT [--tokens 5] [--gap-ms 20] [--fault FAULT --at 3]

The fault begins at streamed request number `--at`, counted from 1 with warm-ups and without requests for one token.
`kill` ends the process in the middle of that answer, as the kernel's out-of-memory killer does. `exit` ends it with
status 1 and a last line in the log. `hang` stops the whole process (SIGSTOP). `mute` answers without a token, while
/health still succeeds. `load` ends the process before it listens. For each complete answer it prints `done NS TEXT`:
the monotonic clock, and the first 40 characters of the last message.
"""

import argparse
import itertools
import os
import signal
import sys
import time
from collections.abc import Iterable, Iterator
from typing import Any, cast

from inferometer.testing.scripted_server import (
    STREAM_END,
    STREAM_HEAD,
    Received,
    ScriptedAnswer,
    ScriptedServer,
    Send,
    Step,
    chunk,
    delta,
    event,
    inference_server,
    whole,
)

SILENT = STREAM_HEAD + chunk(event(delta(finish="stop"))) + chunk(event("[DONE]")) + STREAM_END
FAULTS = ("", "kill", "exit", "hang", "mute", "load")


def breaking(good: ScriptedAnswer, fault: str, at: int) -> ScriptedAnswer:
    """`good` until the stream number `at`; 0: broken from the start."""
    streams = itertools.count(1)
    broken = fault != "" and at == 0

    def answer(request: Received) -> Iterable[Step]:
        nonlocal broken
        is_stream = bool(request.body.get("stream")) and request.body.get("max_tokens") != 1
        broken = broken or (is_stream and next(streams) >= at and fault != "")
        if broken and fault == "mute" and request.method == "POST":
            return [Send(SILENT)] if is_stream else [whole(200, '{"choices": [{"message": {"content": ""}}]}')]
        if broken and is_stream:
            return _broken(good(request), fault)
        return _told(good(request), request) if is_stream else good(request)

    return answer


def _told(steps: Iterable[Step], request: Received) -> Iterator[Step]:
    yield from steps
    messages = cast("list[dict[str, Any]]", request.body.get("messages") or [{}])
    _say(f"done {time.monotonic_ns()} {str(messages[-1].get('content', ''))[:40]!r}")


def _broken(steps: Iterable[Step], fault: str) -> Iterator[Step]:
    yield from itertools.islice(steps, 5)
    if fault == "exit":
        _say("fatal: the scripted engine gives up")
        os._exit(1)
    os.kill(os.getpid(), signal.SIGKILL if fault == "kill" else signal.SIGSTOP)
    time.sleep(1.0)  # a signal to the own process arrives during this call or shortly after
    yield from steps


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def main() -> None:
    parser = argparse.ArgumentParser(prog="scripted-engine")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--tokens", type=int, default=5)
    parser.add_argument("--gap-ms", type=float, default=20.0)
    parser.add_argument("--fault", choices=FAULTS, default="")
    parser.add_argument("--at", type=int, default=3)
    args = parser.parse_args()
    _say("the scripted engine loads its model")
    if args.fault == "load":
        os.kill(os.getpid(), signal.SIGKILL)
    gap_s = args.gap_ms / 1e3
    good = inference_server(args.tokens, first_s=gap_s, gap_s=gap_s)
    with ScriptedServer(breaking(good, args.fault, args.at), port=args.port):
        signal.pause()


if __name__ == "__main__":
    main()
