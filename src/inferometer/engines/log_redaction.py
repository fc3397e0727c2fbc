"""Redaction of an engine's log: an engine may print the arguments that it was given, including a key."""

from pathlib import Path

from inferometer.base.redactor import Redactor

_BLOCK_BYTES = 1 << 20


def blot_out(path: Path, from_byte: int, redactor: Redactor) -> None:
    """Overwrite each secret of the redactor, in any of its forms, in the file after `from_byte` with asterisks. Byte
    positions in the file stay valid, because the length does not change."""
    pattern = redactor.pattern()
    if pattern is None or not path.is_file():
        return
    overlap = redactor.most_bytes
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
