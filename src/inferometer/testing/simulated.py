"""Simulated studies with known truth: trials of two arms drawn from a model of the variation, to test the statistics.

Times are lognormal around a time for each prompt. The effect of an arm differs between prompts (`prompt_spread`), each
request varies (`noise`), and the machine's speed differs between trials (`trial_spread`), wanders from trial to trial
(`walk`) and may drift (`trend`, per trial). The order of trials is that of a real study.
"""

import msgspec
import numpy as np

from inferometer.analysis.compare import compare
from inferometer.analysis.comparison import Comparison
from inferometer.core.record import RequestRecord, Trial
from inferometer.core.spec import Arm, Spec
from inferometer.core.study import trial_order
from inferometer.metrics.measures import RequestView, TrialView
from inferometer.metrics.request_timing import RequestTiming
from inferometer.metrics.rows import METRICS_BY_KEY
from inferometer.metrics.summary import TrialSummary

KEYS = ("output_throughput", "median_ttft_ms", "mean_tpot_ms")
_TOKENS = 100


class SimulatedMachine(msgspec.Struct, frozen=True):
    """The sources of variation, as standard deviations of logarithms."""

    prompts: int = 30
    prompt_spread: float = 0.0
    noise: float = 0.05
    trial_spread: float = 0.02
    walk: float = 0.02
    trend: float = 0.0


def study(
    machine: SimulatedMachine, trials: int, rng: np.random.Generator, *, slow_down: float = 0.0, looked_at: bool = False
) -> Comparison:
    """Arms `a` and `b` with `trials` trials each; every time of `b` is longer by the factor 1 + `slow_down`."""
    return compare(summaries(machine, trials, rng, slow_down=slow_down), looked_at=looked_at)


def summaries(
    machine: SimulatedMachine, trials: int, rng: np.random.Generator, *, slow_down: float = 0.0
) -> list[TrialSummary]:
    """The trials of such a study, in the order in which they were played."""
    spec = Spec(arms={name: Arm(engine="external", url="http://h") for name in ("a", "b")}, trials=trials)
    lengths = rng.normal(0, 0.6, machine.prompts)
    biases = {name: rng.normal(0, machine.prompt_spread, (2, machine.prompts)) for name in ("a", "b")}
    speed = 0.0
    found: list[TrialSummary] = []
    for trial in trial_order(spec):
        speed += rng.normal(0, machine.walk) + machine.trend
        level = speed + rng.normal(0, machine.trial_spread)
        if trial.arm_name == "b":
            level += np.log1p(slow_down)
        noise = rng.normal(0, machine.noise, (2, machine.prompts))
        ttft_s, tpot_s = np.exp(level + biases[trial.arm_name] + noise + np.stack([lengths, np.zeros(machine.prompts)]))
        found.append(_summary(trial.arm_name, trial.number, 0.1 * ttft_s, 0.01 * tpot_s))
    return found


def _summary(arm: str, number: int, ttft_s: np.ndarray, tpot_s: np.ndarray) -> TrialSummary:
    """A closed loop of one stream: each request begins when the one before has ended."""
    requests: list[RequestView] = []
    at_ns = 0
    for index, (first_s, token_s) in enumerate(zip(ttft_s.tolist(), tpot_s.tolist(), strict=True)):
        first_ns, latency_ns = round(first_s * 1e9), round((first_s + token_s * (_TOKENS - 1)) * 1e9)
        record = RequestRecord(index, f"r{index}", True, "ok", None, at_ns, at_ns + latency_ns)
        # the record has no events: vLLM's rules need none
        timing = RequestTiming(first_ns, (), latency_ns, _TOKENS, 10, "usage", "usage", "vllm-0.33")
        requests.append(RequestView(record, timing))
        at_ns += latency_ns
    view = TrialView(Trial(arm, number, "done", plan_started_ns=0), "inferometer", tuple(requests), {})
    return TrialSummary(
        arm,
        number,
        {key: METRICS_BY_KEY[key].value(view) for key in KEYS},
        replicates={key: drawn for key in KEYS if (drawn := METRICS_BY_KEY[key].replicates(view)) is not None},
        requests=len(requests),
        study="simulated",
        plan="simulated",
    )


class Rates(msgspec.Struct, frozen=True):
    """Shares of many studies, by metric: `different`, in which the metric's own test found a difference; `covered`, in
    which the interval held the truth."""

    studies: int
    different: dict[str, float]
    covered: dict[str, float]

    def error(self, rate: float) -> float:
        """The Monte Carlo standard error of such a rate."""
        return float(np.sqrt(rate * (1 - rate) / self.studies))


def rates(machine: SimulatedMachine, trials: int, studies: int, seed: int, *, slow_down: float = 0.0) -> Rates:
    """Rates over `studies` simulated studies. The truth of a metric is the built-in factor: up for times, down for
    rates."""
    rng = np.random.default_rng(seed)
    different, covered = dict.fromkeys(KEYS, 0), dict.fromkeys(KEYS, 0)
    for _ in range(studies):
        comparison = study(machine, trials, rng, slow_down=slow_down)
        for row in comparison.rows:
            if row.metric not in KEYS:
                continue
            found = row.against("a", "b")
            truth = 100 * ((1 + slow_down) ** (1 if row.better == "lower" else -1) - 1)
            assert found.p_value is not None and found.low_percent is not None and found.high_percent is not None
            different[row.metric] += found.p_value < 0.05
            covered[row.metric] += found.low_percent <= truth <= found.high_percent
    share = {key: count / studies for key, count in different.items()}
    return Rates(studies, share, {key: count / studies for key, count in covered.items()})
