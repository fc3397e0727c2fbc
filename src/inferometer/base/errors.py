"""The tree of errors, with the exit status of each and what the user may do.

    InferometerError
    ├── RequestWrong         exit 2: the request cannot be carried out; correct the flags, the spec or the file
    │   ├── SpecInvalid      the study file: every problem at once, each with its place
    │   ├── DatasetUnusable  the data set is missing, malformed or has no usable entry
    │   ├── ModelUnusable    the model file is missing or is not a GGUF file
    │   └── StudyUnreadable  the folder is not a study, or another version wrote it
    ├── TrialFailed          exit 1: a trial could not be measured; what was measured before is kept
    │   ├── EngineNotReady   the engine ended or gave no token in time; carries the end of its log
    │   ├── EngineDied       the engine ended during the trial
    │   ├── EngineHung       the engine still runs but no longer gives tokens
    │   ├── NothingAnswered  no request of the plan was answered
    │   ├── ServerUnusable   the server does not answer, or not as the API says (404, plain text)
    │   └── LoadFailed       the load client failed
    ├── StoreBroken          exit 1: the study can no longer be written (a full disk); what was stored before is kept
    └── Interrupted          exit 130: Ctrl-C; what was measured is kept
    KeyboardInterrupt
    └── SecondInterrupt      a second Ctrl-C: engines are killed at once

A failed *request* is none of these: it is an outcome in its record.
"""

from collections.abc import Sequence


class InferometerError(Exception):
    """Base of all errors that are shown to the user as one message, without a traceback."""

    exit_code = 1


class RequestWrong(InferometerError):
    """A request that cannot be carried out: flags, a spec or a file must be corrected first."""

    exit_code = 2


class SpecInvalid(RequestWrong):
    """A study file with problems; `problems` holds one line each, in the file's order."""

    def __init__(self, source: str, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        count = "a problem" if len(self.problems) == 1 else f"{len(self.problems)} problems"
        super().__init__(f"{source} has {count}:\n" + "\n".join(f"  - {problem}" for problem in self.problems))


class DatasetUnusable(RequestWrong):
    """A data set that cannot be read or has nothing to send."""


class ModelUnusable(RequestWrong):
    """A model file that is missing or not a GGUF file."""


class StudyUnreadable(RequestWrong):
    """A folder that holds no study this version can read."""


class TrialFailed(InferometerError):
    """A trial that could not be measured."""


class EngineNotReady(TrialFailed):
    """An engine that ended or stayed silent before its first token."""


class EngineDied(TrialFailed):
    """An engine that ended while requests were under way."""


class EngineHung(TrialFailed):
    """An engine that still runs but no longer gives tokens."""


class NothingAnswered(TrialFailed):
    """A trial without one answer."""


class ServerUnusable(TrialFailed):
    """A server that does not answer as the API asked for does."""


class LoadFailed(TrialFailed):
    """The load client failed."""


class StoreBroken(InferometerError):
    """The study can no longer be written."""


class Interrupted(InferometerError):
    """The user interrupted the run."""

    exit_code = 130


class SecondInterrupt(KeyboardInterrupt):
    """A second Ctrl-C: engines are killed at once, without time to end by themselves."""
