"""`inferometer engines`: the engines that a study can name, and the flags of the embedded one."""

from typing import Annotated

import typer

from inferometer.base.errors import RequestWrong


def engines(
    name: Annotated[str, typer.Argument(help="Name of an engine.", show_default=False)] = "",
    flags: Annotated[bool, typer.Option("--flags", help="List the flags that the engine takes in `args:`.")] = False,
) -> None:
    """List the engines, and the flags that one takes."""
    from inferometer.engines.catalog import describe, descriptions

    if not name:
        if flags:
            raise RequestWrong("--flags needs an engine: inferometer engines embedded --flags")
        for description in descriptions():
            print(f"{description.name:14}  {description.summary}")
        return
    description = describe(name)
    if not flags:
        print(f"{description.name}: {description.summary}")
        return
    if description.flags is None:
        raise RequestWrong(f"the flags of {name} are those of your build: ask it with --help.")
    print("\n".join(description.flags()))
