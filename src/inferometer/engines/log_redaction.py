"""Redaction of an engine's log: an engine may print the arguments that it was given, including a key."""

import re
from collections.abc import Sequence
from pathlib import Path

_BLOCK_BYTES = 1 << 20


def blot_out(path: Path, from_byte: int, secrets: Sequence[str]) -> None:
    """Overwrite each of `secrets` in the file after `from_byte` with asterisks. Byte positions in the file stay valid,
    because the length does not change."""
    wanted = [secret.encode() for secret in secrets]
    if not wanted or not path.is_file():
        return
    pattern = re.compile(b"|".join(map(re.escape, wanted)), re.IGNORECASE)
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
