"""Timeout flags of `run` and `bench`."""

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from inferometer.core.spec import Timeouts

Timeout = Annotated[
    float | None,
    typer.Option(
        "--timeout",
        "--request-timeout-seconds",
        help="Timeout of a whole request, in seconds.",
        show_default="the file's, or 21600",
    ),
]
ConnectTimeout = Annotated[
    float | None, typer.Option(help="Timeout for connecting, in seconds.", show_default="the file's, or 10")
]
FirstTokenTimeout = Annotated[
    float | None,
    typer.Option(help="Timeout from sending to the first token, in seconds.", show_default="the file's, or no limit"),
]
BetweenTokensTimeout = Annotated[
    float | None, typer.Option(help="Timeout between two tokens, in seconds.", show_default="the file's, or no limit")
]


def timeouts_of(
    base: "Timeouts", request: float | None, connect: float | None, first_token: float | None, between: float | None
) -> "Timeouts":
    """`base`, changed by the flags that were given."""
    import msgspec

    flags = {"request_s": request, "connect_s": connect, "first_token_s": first_token, "between_tokens_s": between}
    return msgspec.structs.replace(base, **{name: value for name, value in flags.items() if value is not None})
