"""Which flags say how long a request may take? The same for run and bench."""

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from inferometer.core.spec import Timeouts

Timeout = Annotated[
    float | None,
    typer.Option(
        "--timeout",
        "--request-timeout-seconds",
        help="Seconds for a whole request.",
        show_default="the file's, or 21600",
    ),
]
ConnectTimeout = Annotated[
    float | None, typer.Option(help="Seconds until a connection stands.", show_default="the file's, or 10")
]
FirstTokenTimeout = Annotated[
    float | None, typer.Option(help="Seconds from sending to the first token.", show_default="the file's, or no limit")
]
BetweenTokensTimeout = Annotated[
    float | None, typer.Option(help="Seconds from one token to the next.", show_default="the file's, or no limit")
]


def timeouts_of(
    base: "Timeouts", request: float | None, connect: float | None, first_token: float | None, between: float | None
) -> "Timeouts":
    """`base` with what the flags give in its place."""
    import msgspec

    flags = {"request_s": request, "connect_s": connect, "first_token_s": first_token, "between_tokens_s": between}
    return msgspec.structs.replace(base, **{name: value for name, value in flags.items() if value is not None})
