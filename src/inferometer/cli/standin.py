"""`inferometer standin`: makes the demo's pair of model files, or files with a real model's shape."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from inferometer.base.errors import RequestWrong

if TYPE_CHECKING:
    from inferometer.standin.shapes import StandinShape

VOCAB_DIFFERENCE = 128
"""Largest difference in vocabulary size, tokens, at which llama.cpp accepts a target and a draft as a pair."""


def standin(
    size: Annotated[str, typer.Option(help="Size without --like: demo (about 300 MB) or tiny.")] = "demo",
    like: Annotated[
        str | None,
        typer.Option(help="Model with the wanted shape, such as qwen2.5-coder-32b or llama-3-8b.", show_default=False),
    ] = None,
    config: Annotated[
        Path | None, typer.Option(help="Instead of --like: config.json of a Qwen2 or Llama model.", show_default=False)
    ] = None,
    quant: Annotated[str, typer.Option(help="Quantisation: F32, F16, Q8_0, Q6_K, Q5_K_M or Q4_K_M.")] = "Q4_K_M",
    output: Annotated[Path | None, typer.Option("--output", "-o", help="File to write.", show_default=False)] = None,
    draft_like: Annotated[
        str | None, typer.Option(help="Model with the shape wanted for the draft.", show_default=False)
    ] = None,
    draft_config: Annotated[
        Path | None, typer.Option(help="Instead of --draft-like: a config.json.", show_default=False)
    ] = None,
    draft_quant: Annotated[str, typer.Option(help="Quantisation of the draft, as in --quant.")] = "Q8_0",
    draft_output: Annotated[Path | None, typer.Option(help="File to write the draft to.", show_default=False)] = None,
    network: Annotated[
        str | None,
        typer.Option(
            help="Network inside, which makes the text: smollm2-135m, smollm2-135m-draft, or a GGUF file of a Llama "
            "with a tied output. Default: smollm2-135m if the shape has room for it, else its draft.",
            show_default=False,
        ),
    ] = None,
    draft_network: Annotated[
        str | None,
        typer.Option(
            help="Network inside the draft, as in --network; default: smollm2-135m-draft.", show_default=False
        ),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Overwrite files, and allow files larger than this machine's memory.")
    ] = False,
) -> None:
    """Make model files with the size and shape of real ones.

    They cost what the real model costs, and answer as SmolLM2-135M does (inferometer models get smollm2-135m). Without
    --like or --config, the demo's two files are made if they do not exist yet, and their paths are printed.
    """
    target = _wanted("", like, config, quant, output)
    draft = _wanted("draft-", draft_like, draft_config, draft_quant, draft_output)
    if target is None and draft is None:
        from inferometer.standin.model_names import standin_file

        print(standin_file(size, "target"))
        print(standin_file(size, "draft"))
        return
    _make(target, draft, network, draft_network, force=force)


class _Wanted:
    """One model file to make."""

    def __init__(self, shape: "StandinShape", like: str, quantisation: str, path: Path) -> None:
        self.shape, self.like, self.quantisation, self.path = shape, like, quantisation, path


def _wanted(prefix: str, like: str | None, config: Path | None, quant: str, output: Path | None) -> _Wanted | None:
    """The file that these flags request, or None. Raises RequestWrong if the flags contradict each other."""
    if like is None and config is None:
        if output is not None:
            raise RequestWrong(
                f"--{prefix}output {output} needs a shape. Add --{prefix}like NAME or --{prefix}config FILE."
            )
        return None
    if like is not None and config is not None:
        raise RequestWrong(f"--{prefix}like and --{prefix}config exclude each other: give one.")
    if output is None:
        raise RequestWrong(f"--{prefix}output is missing: name the file to write.")
    from inferometer.standin.shapes import named_shape, shape_of_config
    from inferometer.standin.tensor_types import known_quantisation

    known = known_quantisation(quant)
    if like is not None:
        return _Wanted(named_shape(like), like.lower(), known, output)
    assert config is not None
    return _Wanted(shape_of_config(config), config.resolve().parent.name or str(config), known, output)


def _make(
    target: _Wanted | None, draft: _Wanted | None, network: str | None, draft_network: str | None, *, force: bool
) -> None:
    from inferometer.base.units import bytes_text
    from inferometer.standin.pairs import default_network, require_writable, write_trained
    from inferometer.standin.tensor_types import tensor_bytes
    from inferometer.standin.trained_weights import Small, network_inside

    if target and draft and abs(target.shape.vocab - draft.shape.vocab) > VOCAB_DIFFERENCE:
        raise RequestWrong(
            f"the vocabularies of {target.like} ({target.shape.vocab}) and {draft.like} ({draft.shape.vocab}) differ "
            f"by more than {VOCAB_DIFFERENCE}: llama.cpp rejects such a pair. Choose two shapes of one model family."
        )
    if target and draft and target.path.resolve() == draft.path.resolve():
        raise RequestWrong(f"--output and --draft-output are both {target.path}. Name two different files.")
    made: list[tuple[_Wanted, Small]] = []
    if target:
        made.append((target, network_inside(network or default_network(target.shape, "target"))))
    if draft:
        made.append((draft, network_inside(draft_network or default_network(draft.shape, "draft"))))
    if len({small.words.tokens for _, small in made}) > 1:
        raise RequestWrong(
            "--network and --draft-network have different vocabularies, so no engine takes them as a pair. "
            "Give both, or neither."
        )
    for wanted, small in made:  # both before the first is written
        require_writable(wanted.path, wanted.shape, wanted.quantisation, small, like=wanted.like, force=force)
    for wanted, small in made:
        write_trained(wanted.path, wanted.shape, wanted.quantisation, small, like=wanted.like, force=force)
        size = bytes_text(tensor_bytes(wanted.shape, wanted.quantisation))
        print(
            f"{wanted.path}: stand-in for {wanted.like}, {wanted.quantisation}, {size}, "
            f"{wanted.shape.parameters / 1e9:.2f} B parameters"
        )
