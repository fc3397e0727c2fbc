"""The engine `example-server`: starts a program that speaks OpenAI's API, with the arm's `args`."""

import importlib.metadata
import sys
from typing import ClassVar

from inferometer.core.record import Fact
from inferometer.core.spec import Arm
from inferometer.engines.base import EngineDescription
from inferometer.engines.command import Command
from inferometer.engines.process import LOCALHOST, Launch, free_port, shown_command

PROGRAM = "inferometer.testing.scripted_engine"  # here your server's module or program


class ExampleServer(Command):
    description: ClassVar = EngineDescription(
        name="example-server",
        summary="a scripted server that needs no model",
        needs_model=False,
    )

    def launch(self, arm: Arm) -> Launch:
        if arm.command:
            return super().launch(arm)
        port = free_port()
        command = (sys.executable, "-P", "-m", PROGRAM, "--port", str(port), *arm.args)
        version = importlib.metadata.version("inferometer-example")
        return Launch(
            name=self.description.name,
            command=command,
            shown=shown_command(command, arm.env),
            base_url=f"http://{LOCALHOST}:{port}",
            env=arm.env,
            headers=self.headers,
            facts=(
                Fact("engine", self.description.name, "the arm"),
                Fact("engine_version", version, "the installed package"),
            ),
            model=arm.model,
        )
