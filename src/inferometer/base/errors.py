"""Exceptions that are shown to the user, and their exit codes.

    InferometerError
    ├── RequestWrong         exit 2: the request cannot be done; fix the flags, the spec or the file
    │   ├── SpecInvalid      the study file: every problem at once, each with its position
    │   ├── DatasetUnusable  the data set is missing, malformed or has no usable entry
    │   ├── ModelUnusable    the model file is missing or not a GGUF
    │   └── StudyUnreadable  not a study folder, or written by another version
    ├── TrialFailed          exit 1: a trial could not be measured; earlier trials are kept
    │   ├── EngineNotReady   the engine ended or produced no token in time; has the end of its log
    │   ├── EngineDied       the engine ended during the trial
    │   ├── EngineHung       the engine runs, but no longer produces tokens
    │   ├── NothingAnswered  no request of the plan was answered
    │   ├── ServerUnusable   no answer, or an answer that does not follow the API (404, plain text)
    │   └── LoadFailed       the load process failed
    ├── StoreBroken          exit 1: the study can no longer be written (a full disk); stored data is kept
    └── Interrupted          exit 130: Ctrl-C; measurements are kept
    KeyboardInterrupt
    └── StopNow              a second Ctrl-C: stop without waiting

A failed *request* is not an exception: it is an outcome in its record.
"""

from collections.abc import Sequence


class InferometerError(Exception):
    """Base of all errors that are shown to the user as one message, without a traceback."""

    exit_code = 1


class RequestWrong(InferometerError):
    """The request cannot be done as given."""

    exit_code = 2


class SpecInvalid(RequestWrong):
    """A study file with problems; `problems`: one line each, in the order of the file."""

    def __init__(self, source: str, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        count = "a problem" if len(self.problems) == 1 else f"{len(self.problems)} problems"
        super().__init__(f"{source} has {count}:\n" + "\n".join(f"  - {problem}" for problem in self.problems))


class DatasetUnusable(RequestWrong):
    """A data set that cannot be read or contains no usable entry."""


class ModelUnusable(RequestWrong):
    """A model file that is missing or not a GGUF."""


class StudyUnreadable(RequestWrong):
    """A folder without a study that this version can read."""


class TrialFailed(InferometerError):
    """A trial that could not be measured."""


class EngineNotReady(TrialFailed):
    """An engine that ended, or produced no token in time, before it was ready."""


class EngineDied(TrialFailed):
    """An engine that ended while requests were in flight."""


class EngineHung(TrialFailed):
    """An engine that runs, but no longer produces tokens."""


class NothingAnswered(TrialFailed):
    """A trial without any answer."""


class ServerUnusable(TrialFailed):
    """A server that does not answer according to the requested API."""


class LoadFailed(TrialFailed):
    """The load process failed."""


class StoreBroken(InferometerError):
    """The study can no longer be written."""


class Interrupted(InferometerError):
    """The user interrupted the program."""

    exit_code = 130


class StopNow(KeyboardInterrupt):
    """The user pressed Ctrl-C twice: engines are killed instead of terminated."""
