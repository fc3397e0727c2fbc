"""`inferometer standin`: which model files are to be made? The demo's pair, or files of a model's shape."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from inferometer.base.errors import RequestWrong

if TYPE_CHECKING:
    from inferometer.standin.shapes import StandinShape

VOCAB_DIFFERENCE = 128
"""By how much the vocabularies of target and draft may differ: llama.cpp takes no pair that differs by more."""


def standin(
    size: Annotated[str, typer.Option(help="Without --like: demo (about 300 MB) or tiny.")] = "demo",
    like: Annotated[
        str | None, typer.Option(help="Whose shape, such as qwen2.5-coder-32b or llama-3-8b.", show_default=False)
    ] = None,
    config: Annotated[
        Path | None, typer.Option(help="In place of --like: config.json of a Qwen2 or Llama model.", show_default=False)
    ] = None,
    quant: Annotated[str, typer.Option(help="F32, F16, Q8_0, Q6_K, Q5_K_M or Q4_K_M.")] = "Q4_K_M",
    output: Annotated[Path | None, typer.Option("--output", "-o", help="The file to make.", show_default=False)] = None,
    draft_like: Annotated[str | None, typer.Option(help="Whose shape the draft has.", show_default=False)] = None,
    draft_config: Annotated[
        Path | None, typer.Option(help="In place of --draft-like: a config.json.", show_default=False)
    ] = None,
    draft_quant: Annotated[str, typer.Option(help="As --quant.")] = "Q8_0",
    draft_output: Annotated[Path | None, typer.Option(help="The draft's file.", show_default=False)] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Write over files, and files larger than this machine's memory.")
    ] = False,
) -> None:
    """Make model files that stand in for real ones: no download, the exact shape, the behaviour of a small code model.

    Without --like or --config the pair that the demo uses is made once, and its two files are printed.
    """
    target = _wanted("", like, config, quant, output)
    draft = _wanted("draft-", draft_like, draft_config, draft_quant, draft_output)
    if target is None and draft is None:
        from inferometer.standin.model_names import standin_file

        print(standin_file(size, "target"))
        print(standin_file(size, "draft"))
        return
    _make(target, draft, force=force)


class _Wanted:
    """One file to be made."""

    def __init__(self, shape: "StandinShape", like: str, quantisation: str, path: Path) -> None:
        self.shape, self.like, self.quantisation, self.path = shape, like, quantisation, path


def _wanted(prefix: str, like: str | None, config: Path | None, quant: str, output: Path | None) -> _Wanted | None:
    """What these flags ask for; None: nothing. Raises RequestWrong where they do not go together."""
    if like is None and config is None:
        if output is not None:
            raise RequestWrong(
                f"--{prefix}output {output} of which shape? Add --{prefix}like NAME or --{prefix}config."
            )
        return None
    if like is not None and config is not None:
        raise RequestWrong(f"--{prefix}like and --{prefix}config both name a shape; give one.")
    if output is None:
        raise RequestWrong(f"--{prefix}output is missing: which file is to be made?")
    from inferometer.standin.shapes import named_shape, shape_of_config
    from inferometer.standin.tensor_types import known_quantisation

    known = known_quantisation(quant)
    if like is not None:
        return _Wanted(named_shape(like), like.lower(), known, output)
    assert config is not None
    return _Wanted(shape_of_config(config), config.resolve().parent.name or str(config), known, output)


def _make(target: _Wanted | None, draft: _Wanted | None, *, force: bool) -> None:
    from inferometer.base.units import bytes_text
    from inferometer.standin.pairs import require_writable, write_trained
    from inferometer.standin.tensor_types import tensor_bytes
    from inferometer.standin.trained_weights import trained

    if target and draft and abs(target.shape.vocab - draft.shape.vocab) > VOCAB_DIFFERENCE:
        raise RequestWrong(
            f"the vocabularies of {target.like} ({target.shape.vocab}) and {draft.like} ({draft.shape.vocab}) differ "
            f"by more than {VOCAB_DIFFERENCE}: llama.cpp takes no such pair. Choose two shapes of one family."
        )
    if target and draft and target.path.resolve() == draft.path.resolve():
        raise RequestWrong(f"target and draft cannot both be {target.path}.")
    made = [(wanted, trained("target" if wanted is target else "draft")) for wanted in (target, draft) if wanted]
    for wanted, small in made:  # both before the first is written
        require_writable(wanted.path, wanted.shape, wanted.quantisation, small, like=wanted.like, force=force)
    for wanted, small in made:
        write_trained(wanted.path, wanted.shape, wanted.quantisation, small, like=wanted.like, force=force)
        size = bytes_text(tensor_bytes(wanted.shape, wanted.quantisation))
        print(
            f"{wanted.path}: stand-in for {wanted.like}, {wanted.quantisation}, {size}, "
            f"{wanted.shape.parameters / 1e9:.2f} B parameters"
        )
