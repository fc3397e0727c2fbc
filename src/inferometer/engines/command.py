"""The engine `command`: a server with OpenAI's API, started by your own command line."""

import os
import shutil
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import urlsplit

from inferometer.base.errors import RequestWrong
from inferometer.core import quantities
from inferometer.core.endpoint import Endpoint
from inferometer.core.record import Fact
from inferometer.core.spec import Arm, Sampling
from inferometer.engines import visible_devices
from inferometer.engines.base import DEFAULT_SAMPLING, LLAMA_CPP, EngineDescription, OnSpawn, unwatched
from inferometer.engines.command_line import SHELL, Address, in_place, names_port, own_command
from inferometer.engines.process import (
    LOCALHOST,
    Launch,
    environment,
    free_port,
    late_facts,
    refuse_used_port,
    shown_command,
    started,
)
from inferometer.net.target import target_of


def _arm_of_command(words: Sequence[str]) -> dict[str, Any] | None:
    return {"command": list(words)} if words and any("{port}" in word for word in words) else None


class Command:
    """The arm's `command:`, which is neither checked nor changed. Engines that can also build a command are subclasses
    and override `description` and `launch`."""

    description: ClassVar = EngineDescription(
        name="command",
        summary="any server with OpenAI's API, started by your own command",
        needs_model=False,
        needs_command=True,
        arm_of_command=_arm_of_command,
    )

    def __init__(self, headers: Mapping[str, str] | None = None) -> None:
        self.headers = dict(headers or {})

    def check(self, arm: Arm) -> None:
        self.launch(arm)

    def start(
        self, arm: Arm, log_path: Path, on_spawn: OnSpawn = unwatched, sampling: Sampling = DEFAULT_SAMPLING
    ) -> AbstractContextManager[Endpoint]:
        return started(self.launch(arm), arm, log_path, on_spawn, sampling)

    def facts_at_end(self, endpoint: Endpoint) -> tuple[Fact, ...]:
        return late_facts(endpoint)

    def launch(self, arm: Arm) -> Launch:
        """What `start` would start. Raises RequestWrong for each error that can be found before the start."""
        visible_devices.require_visible(arm.env)
        arm = in_place(arm)
        address = _address(arm)
        command = own_command(arm, address)
        _require_program(command[0], arm)
        name = "the shell's command" if command[0] == SHELL else Path(command[0]).name
        return Launch(
            name=name,
            command=command,
            shown=shown_command(command, arm.env),
            base_url=address.base_url,
            env=arm.env,
            headers=self.headers,
            facts=(Fact(quantities.ENGINE, self.description.name, "the arm"),),
            model=arm.model,
            llama_cpp=self.description.family == LLAMA_CPP,
            cwd=arm.cwd,
        )


def _require_program(word: str, arm: Arm) -> None:
    """Raises RequestWrong if the program does not exist. For a shell line, only the shell itself is looked up."""
    path = str(Path(arm.cwd).expanduser() / word) if arm.cwd and os.sep in word else word
    if shutil.which(path, path=environment(arm.env).get("PATH")) is None:
        raise RequestWrong(
            f"command: there is no program {path} that can be run; give its path, or shell: true with one line of text"
        )


def _address(arm: Arm) -> Address:
    """A free port if the command names {port}, else the arm's url. Raises RequestWrong if there is neither."""
    if names_port(arm):
        return Address(LOCALHOST, free_port())
    if arm.url:
        target_of(arm.url, {})  # refuses a name and password in it, without repeating them
    url = urlsplit(arm.url)
    if url.scheme != "http" or url.hostname is None:
        raise RequestWrong(
            "command: it names no {port}, so that where it will answer is not known. Put {port} in it, or give "
            "url: http://localhost:8080, say."
        )
    address = Address(url.hostname, url.port or 80)
    refuse_used_port(*address)
    return address
