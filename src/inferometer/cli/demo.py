"""`inferometer demo`: a stand-in model with and without its draft, on the embedded engine."""

from typing import TYPE_CHECKING, Annotated

import typer

from inferometer.cli.options import (
    All,
    Equivalence,
    FormatOption,
    JsonOption,
    Metrics,
    OutFolder,
    PromptsOption,
    Quiet,
    Why,
    format_of,
    shown_of,
)

if TYPE_CHECKING:
    from inferometer.core.spec import Spec


def demo(
    out: OutFolder = None,
    num_prompts: Annotated[int, typer.Option(help="Prompts per trial, from the built-in coding set.")] = 8,
    max_tokens: Annotated[int, typer.Option(help="Most output tokens per request.")] = 48,
    trials: Annotated[int, typer.Option(help="Rounds. In each, both arms take turns request by request.")] = 3,
    seed: Annotated[int, typer.Option(help="Random seed: selects and orders the prompts.")] = 1,
    metrics: Metrics = None,
    all_rows: All = False,
    why: Why = False,
    format: FormatOption = "terminal",
    as_json: JsonOption = False,
    quiet: Quiet = False,
    prompts: PromptsOption = "sampled",
    equivalence: Equivalence = 2.0,
) -> None:
    """Try it: speculative decoding on a small model, no GPU.

    Compares the embedded engine with and without a draft model: each prompt goes to both in turn, so that a busy
    machine slows both alike. Nothing is downloaded and no server is needed.
    """
    from inferometer.cli.output import (
        RunOptions,
        checked_equivalence,
        checked_prompts,
        default_folder,
        run_and_report,
    )

    asked = RunOptions(
        format_of(format, as_json),
        shown_of(all_rows, metrics),
        quiet,
        checked_prompts(prompts),
        checked_equivalence(equivalence),
        why=why,
    )
    spec = demo_spec(num_prompts, max_tokens, trials, seed)
    raise typer.Exit(run_and_report(spec, out or default_folder("demo"), asked))


def demo_spec(num_prompts: int, max_tokens: int, trials: int, seed: int) -> "Spec":
    """A stand-in model with and without its draft on the embedded engine, with coding prompts."""
    from inferometer.core.spec import Arm, Draft, Spec
    from inferometer.core.workload_settings import Builtin

    baseline = Arm(engine="embedded", model="standin:demo")
    draft = Arm(engine="embedded", model="standin:demo", draft=Draft("standin:demo", n_max=6, n_min=1, p_min=0.9))
    return Spec(
        name="Demo: a stand-in model, with and without a draft",
        arms={"baseline": baseline, "draft": draft},
        workload=Builtin(num_prompts, max_tokens),
        trials=trials,
        seed=seed,
    )
