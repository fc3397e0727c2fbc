"""How is a load worker started, spoken to and ended? The worker lives in a process of its own, so that nothing that the
program does (decoding, storing, drawing, sampling) can delay a byte."""

import contextlib
import os
import select
import subprocess
import sys
from collections.abc import Iterator

from inferometer.errors import LoadFailed
from inferometer.load.wire import (
    Broken,
    Frames,
    FromWorker,
    Go,
    Job,
    decode_from_worker,
    frame,
)


class Worker:
    """One worker process. Use as a context manager: leaving it ends the process, whatever happened."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "inferometer.load.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C reaches the program alone, which then asks us to stop
        )
        assert self._process.stdin is not None and self._process.stdout is not None
        self._input = self._process.stdin
        self._output = self._process.stdout
        self._frames = Frames()

    def __enter__(self) -> "Worker":
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        try:
            self._process.wait(timeout=2)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._output.close()

    @property
    def pid(self) -> int:
        return self._process.pid

    def send(self, message: Job | Go) -> None:
        """Raises LoadFailed where the worker is gone."""
        try:
            self._input.write(frame(message))
            self._input.flush()
        except BrokenPipeError as error:
            raise LoadFailed(f"the load worker ended by itself (exit code {self._process.wait()})") from error

    def stop(self) -> None:
        """Asks the worker to cancel what is under way and to say what there is."""
        with contextlib.suppress(BrokenPipeError):
            self._input.close()

    def messages(self, patience_s: float = 0.25) -> Iterator[FromWorker | None]:
        """What the worker says, to its end; None whenever it said nothing for `patience_s`.

        Raises LoadFailed where it says that it is broken or ends in the middle of a message.
        """
        while True:
            ready, _, _ = select.select([self._output], (), (), patience_s)
            if not ready:
                yield None
                continue
            data = os.read(self._output.fileno(), 1 << 20)
            if not data:
                return
            for payload in self._frames.feed(data):
                message = decode_from_worker(payload)
                if isinstance(message, Broken):
                    raise LoadFailed(message.message)
                yield message
