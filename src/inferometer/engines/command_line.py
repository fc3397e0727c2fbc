"""Command lines of servers, built from an arm, and the address where the server will answer."""

import difflib
import os
import re
import shlex
import shutil
from pathlib import Path
from typing import NamedTuple

import msgspec

from inferometer.base.errors import RequestWrong
from inferometer.core.spec import Arm
from inferometer.engines.process import LOCALHOST, free_port, refuse_used_port

ANY_HOST = ("0.0.0.0", "::", "[::]")
SHELL = "/bin/sh"


class Address(NamedTuple):
    """Host and port where the server listens and receives our requests. `host` has no brackets."""

    host: str
    port: int

    @property
    def base_url(self) -> str:
        return f"http://{f'[{self.host}]' if ':' in self.host else self.host}:{self.port}"


def given(args: tuple[str, ...], *flags: str) -> str | None:
    """The value of the last of `flags` in `args`, as `--flag value` or `--flag=value`; None if `args` has none."""
    found: str | None = None
    for at, word in enumerate(args):
        flag, equals, value = word.partition("=")
        if word in flags and at + 1 < len(args):
            found = args[at + 1]
        elif equals and flag in flags:
            found = value
    return found


def address_of(arm: Arm) -> Address:
    """Host and port from the arm's args, else this host and a free port. Raises RequestWrong for a port in use."""
    host = given(arm.args, "--host") or LOCALHOST
    host = LOCALHOST if host in ANY_HOST else host.strip("[]")
    text = given(arm.args, "--port")
    if text is None:
        return Address(host, free_port())
    if not text.isdecimal() or not 0 < int(text) < 65536:
        raise RequestWrong(f"--port {text} is not a port number; leave it out, and a free one is chosen")
    refuse_used_port(host, int(text))
    return Address(host, int(text))


def listening_flags(arm: Arm, address: Address) -> list[str]:
    """`--host` and `--port`, each only if the arm's args do not give it."""
    flags: list[str] = []
    if given(arm.args, "--host") is None:
        flags += ["--host", LOCALHOST]
    if given(arm.args, "--port") is None:
        flags += ["--port", str(address.port)]
    return flags


def program(arm: Arm, name: str, advice: str) -> str:
    """The path of the arm's binary, or of `name` on PATH. Raises RequestWrong if it does not exist or cannot be run."""
    binary = arm.binary or name
    if arm.cwd and os.sep in binary:
        binary = str(Path(arm.cwd).expanduser() / Path(binary).expanduser())
    # Kept as text: a Path drops the leading `./`, and the name would then be looked up on PATH.
    found = shutil.which(os.path.expanduser(binary), path={**os.environ, **arm.env}.get("PATH"))
    if found is not None:
        return str(found)
    path = Path(binary).expanduser()
    if path.is_dir():
        raise RequestWrong(f"binary: {binary} is a folder; name the program in it ({path / name}?)")
    if path.exists():
        raise RequestWrong(f"binary: {binary} may not be executed; try chmod +x {binary}")
    where = "there is no such file" if path.name != binary else "it is not on PATH"
    raise RequestWrong(f"binary: {binary}: {where}. {advice}")


def in_place(arm: Arm) -> Arm:
    """The arm with full paths of its model files if it starts in another directory (`cwd`).

    Raises RequestWrong if `cwd` is not a directory.
    """
    if not arm.cwd:
        return arm
    if not Path(arm.cwd).expanduser().is_dir():
        raise RequestWrong(f"cwd: {arm.cwd} is not a directory")
    draft = arm.draft and msgspec.structs.replace(arm.draft, model=_full(arm.draft.model))
    return msgspec.structs.replace(arm, model=_full(arm.model), draft=draft)


def own_command(arm: Arm, address: Address) -> tuple[str, ...]:
    """The arm's `command` with its placeholders filled in. Raises RequestWrong for an unknown placeholder."""
    values = {
        "model": arm.model,
        "draft_model": "" if arm.draft is None else arm.draft.model,
        "host": address.host,
        "port": str(address.port),
    }
    if isinstance(arm.command, str):
        return (SHELL, "-c", _filled(arm.command, {name: shlex.quote(value) for name, value in values.items()}))
    return tuple(_filled(word, values) for word in arm.command)


def names_port(arm: Arm) -> bool:
    """Whether the arm's `command` contains {port}."""
    return "{port}" in " ".join([arm.command] if isinstance(arm.command, str) else arm.command)


def _filled(text: str, values: dict[str, str]) -> str:
    """Fills in the placeholders. Other braces stay as they are, because JSON uses them."""

    def value(match: re.Match[str]) -> str:
        name = match[1]
        if name not in values:
            near = difflib.get_close_matches(name, values, n=1, cutoff=0.6)
            if near:
                raise RequestWrong(f"command: there is no {{{name}}}; did you mean {{{near[0]}}}?")
            return match[0]
        if name in ("model", "draft_model") and not values[name].strip("'"):
            what = "draft: with a model" if name == "draft_model" else "model:"
            raise RequestWrong(f"command: it names {{{name}}}, and the arm has no {what}")
        return values[name]

    return re.sub(r"\{(\w+)\}", value, text)


def _full(path: str) -> str:
    """The full path of an existing file or folder; anything else, such as a Hugging Face name, unchanged."""
    return str(Path(path).resolve()) if path and Path(path).exists() else path
