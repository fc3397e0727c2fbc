"""Secrets in an engine's log: an engine may print the arguments that it was given, a key among them."""

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from inferometer.core.redaction import longest_first, secrets_of_arm, secrets_of_environment
from inferometer.core.spec import Arm

_BLOCK_BYTES = 1 << 20


def secrets_given(arm: Arm, headers: Mapping[str, str]) -> tuple[str, ...]:
    """What the engine was given and nobody is to read again, the longest first: by its arm, in the headers that we
    send, and in the environment that it inherits."""
    of_headers = {part for value in headers.values() for part in (value, value.partition(" ")[2])}
    return tuple(longest_first(secrets_of_arm(arm) | of_headers | secrets_of_environment(os.environ)))


def blot_out(path: Path, from_byte: int, secrets: Sequence[str]) -> None:
    """Overwrites each of `secrets` in the file, after `from_byte`, with as many asterisks: an engine may print the
    arguments that it was given. What is a place in the file stays one."""
    wanted = [secret.encode() for secret in secrets]
    if not wanted or not path.is_file():
        return
    pattern = re.compile(b"|".join(map(re.escape, wanted)))
    overlap = max(map(len, wanted)) - 1
    with path.open("r+b") as file:
        at = from_byte
        while True:
            file.seek(at)
            block = file.read(_BLOCK_BYTES + overlap)
            for found in pattern.finditer(block):
                file.seek(at + found.start())
                file.write(b"*" * len(found[0]))
            if len(block) <= _BLOCK_BYTES:
                return
            at += _BLOCK_BYTES
