"""Which study is the demo?"""

from inferometer.core.spec import Arm, Builtin, Draft, Spec


def demo_spec(num_prompts: int, max_tokens: int, trials: int, seed: int) -> Spec:
    """A stand-in model with and without its draft on the embedded engine, asked for code."""
    baseline = Arm(engine="embedded", model="standin:demo")
    draft = Arm(engine="embedded", model="standin:demo", draft=Draft("standin:demo", n_max=6, n_min=1, p_min=0.9))
    return Spec(
        name="Demo: a stand-in model, with and without a draft",
        arms={"baseline": baseline, "draft": draft},
        workload=Builtin(num_prompts, max_tokens),
        trials=trials,
        seed=seed,
    )
