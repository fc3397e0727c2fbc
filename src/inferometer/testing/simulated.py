"""Studies whose truth is known: rounds of arms drawn from a model of what varies, for testing the statistics.

Times are lognormal around a prompt's own: an arm bears on prompts unequally, a request varies by itself, each start of
an engine is a little faster or slower, and all arms share a machine whose speed changes with time. Requests take one
step of time each, in the order in which a study sends them.
"""

from collections.abc import Callable
from typing import Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from inferometer.analysis.compare import compare
from inferometer.analysis.comparison import Comparison, Prompts
from inferometer.analysis.estimates import evidence
from inferometer.core.interleaving import block_orders
from inferometer.core.spec import Arm, Spec
from inferometer.core.study import trial_order
from inferometer.load.wire import Interleaving
from inferometer.metrics.intervals import CONFIDENCE
from inferometer.metrics.resampling import resampling
from inferometer.metrics.rows import METRICS_BY_KEY
from inferometer.metrics.series import Floats, Series
from inferometer.metrics.summary import TrialSummary

KEYS = ("output_throughput", "median_ttft_ms", "mean_tpot_ms")
_TOKENS = 100
_TTFT_S = 0.1
_TPOT_S = 0.01


class SimulatedMachine(msgspec.Struct, frozen=True):
    """What varies, as standard deviations of logarithms.

    `length_spread`: of the prompts; `answer_spread`: of the answers, which have 100 tokens in the median (with 1.5, few
    requests take most of the time). `prompt_spread`: of what an arm does to a prompt. `noise`: of a request by itself.
    `start_spread`: of an engine's starts. `trial_spread`: of the machine, drawn anew for each block of one trial's
    requests. `walk`: of the machine's random walk over one trial's requests; `trend`: its steady change over them.
    `slow_share` of requests take `slow_factor` times as long, and with `slow_every` each request of that number; of the
    second arm only, if `slow_arm_only`. A neighbour is busy for bursts of `busy_requests` on average, in `busy_share`
    of the time, and slows the machine by `busy_slow_down`; if bursts are short, the speed steps within pairs.
    """

    prompts: int = 30
    length_spread: float = 0.6
    answer_spread: float = 0.0
    prompt_spread: float = 0.0
    noise: float = 0.05
    start_spread: float = 0.0
    trial_spread: float = 0.02
    walk: float = 0.02
    trend: float = 0.0
    slow_share: float = 0.0
    slow_factor: float = 5.0
    slow_every: int = 0
    slow_arm_only: bool = False
    busy_share: float = 0.0
    busy_slow_down: float = 0.3
    busy_requests: float = 10.0

    @property
    def slow_down_of_second_arm(self) -> float:
        """What slow requests add to its mean time and not to that of the first, as a share."""
        share = self.slow_share + (1 / self.slow_every if self.slow_every else 0.0)
        return share * (self.slow_factor - 1) if self.slow_arm_only else 0.0


class Design(msgspec.Struct, frozen=True):
    """`order`: whole trials in turn, or one request to each arm in turn. `slow_down`: of every arm except the first.
    `restarts`: each round has new starts; else one start serves all rounds."""

    rounds: int = 4
    order: Literal["trials", "requests"] = "trials"
    arms: int = 2
    slow_down: float = 0.0
    restarts: bool = True


class Simulated(msgspec.Struct, frozen=True):
    """Times of one study in seconds, by arm, round and prompt. `tokens`: by prompt. `ratios`: by metric key, the true
    ratio of the second arm to the first for these very prompts, if it has a simple form."""

    ttft_s: Floats
    tpot_s: Floats
    tokens: Floats
    ratios: dict[str, float]
    restarts: bool = True

    @property
    def latency_s(self) -> Floats:
        return self.ttft_s + self.tpot_s * (self.tokens - 1)


def simulated(machine: SimulatedMachine, design: Design, rng: np.random.Generator) -> Simulated:
    """One study."""
    arms, rounds, prompts = design.arms, design.rounds, machine.prompts
    machine_log = _machine(machine, arms * rounds * prompts, rng)[order_of_requests(design, prompts)]
    starts = rng.normal(0, machine.start_spread, (arms, rounds if design.restarts else 1, 1))
    own = np.where(np.arange(arms) > 0, np.log1p(design.slow_down), 0.0)[:, None, None]
    lengths = rng.normal(0, machine.length_spread, prompts)
    tokens = np.maximum(2, np.round(_TOKENS * np.exp(rng.normal(0, machine.answer_spread, prompts))))
    biases = rng.normal(0, machine.prompt_spread, (2, arms, 1, prompts)) + own
    slow = _slow(machine, design, rng)
    logs = machine_log + starts + biases + slow + rng.normal(0, machine.noise, (2, arms, rounds, prompts))
    ttft_s, tpot_s = _TTFT_S * np.exp(logs[0] + lengths), _TPOT_S * np.exp(logs[1])
    true_ttft, true_tpot = _TTFT_S * np.exp(biases[0] + lengths), _TPOT_S * np.exp(biases[1])
    latency = (true_ttft + true_tpot * (tokens - 1)).sum(axis=(1, 2))
    tpot = true_tpot.mean(axis=(1, 2))
    ratios: dict[str, float] = {}
    if arms > 1:
        slower = 1 + machine.slow_down_of_second_arm
        ratios = {
            "output_throughput": latency[0] / latency[1] / slower,
            "mean_tpot_ms": tpot[1] / tpot[0] * slower,
        }
    return Simulated(ttft_s, tpot_s, tokens, ratios, design.restarts)


def _slow(machine: SimulatedMachine, design: Design, rng: np.random.Generator) -> Floats:
    """The logarithm of what slow requests take longer, by arm, round and prompt."""
    shape = (design.arms, design.rounds, machine.prompts)
    is_slow = rng.random(shape) < machine.slow_share
    if machine.slow_every:
        is_slow |= (np.arange(shape[1] * shape[2]) % machine.slow_every == machine.slow_every - 1).reshape(shape[1:])
    if machine.slow_arm_only:
        is_slow[np.arange(design.arms) != 1] = False
    return np.where(is_slow, np.log(machine.slow_factor), 0.0)


def _machine(machine: SimulatedMachine, steps: int, rng: np.random.Generator) -> Floats:
    """The logarithm of the machine's slowness at each step of time."""
    blocks = rng.normal(0, machine.trial_spread, steps // machine.prompts)
    walk = np.cumsum(rng.normal(0, machine.walk / np.sqrt(machine.prompts), steps))
    trend = np.arange(steps) * machine.trend / machine.prompts
    return np.repeat(blocks, machine.prompts) + walk + trend + _bursts(machine, steps, rng)


def _bursts(machine: SimulatedMachine, steps: int, rng: np.random.Generator) -> Floats:
    """Where a neighbour is busy: its bursts and pauses have exponential lengths."""
    if not machine.busy_share:
        return np.zeros(steps)
    burst, pause = machine.busy_requests, machine.busy_requests * (1 - machine.busy_share) / machine.busy_share
    is_busy = bool(rng.random() < machine.busy_share)
    edges, busy = [0.0], [0.0]  # times, and how long the neighbour has been busy until then
    while edges[-1] < steps:
        length = rng.exponential(burst if is_busy else pause)
        edges.append(edges[-1] + length)
        busy.append(busy[-1] + (length if is_busy else 0.0))
        is_busy = not is_busy
    shares = np.diff(np.interp(np.arange(steps + 1), edges, busy))
    return np.log1p(machine.busy_slow_down * shares)


def order_of_requests(design: Design, prompts: int) -> NDArray[np.int64]:
    """The step of time of each request, by arm, round and prompt."""
    arms, rounds = design.arms, design.rounds
    if design.order == "requests":
        items = np.arange(rounds * prompts).reshape(1, rounds, prompts)
        turns = [Interleaving(arms, block_orders(arms, number + 1), 1) for number in range(rounds)]
        order = [[of_round.order_of(block, prompts) for block in range(prompts)] for of_round in turns]
        return items * arms + np.argsort(order, axis=2).transpose(2, 0, 1)
    spec = Spec(arms={str(arm): Arm(engine="external", url="http://h") for arm in range(arms)}, trials=rounds)
    first = np.zeros((arms, rounds, 1), np.int64)
    for place, trial in enumerate(trial_order(spec)):
        first[int(trial.arm_name), trial.number - 1] = place * prompts
    return first + np.arange(prompts)


# --- through the program's statistics -------------------------------------------------------------


def study(
    machine: SimulatedMachine,
    design: Design,
    rng: np.random.Generator,
    *,
    looked_at: bool = False,
    prompts: Prompts = "sampled",
) -> Comparison:
    """The comparison of one study."""
    return compare(summaries(simulated(machine, design, rng)), looked_at=looked_at, prompts=prompts)


def summaries(found: Simulated, keys: tuple[str, ...] = KEYS) -> list[TrialSummary]:
    """The trials of a study with these metrics: a closed loop of one stream, with equal answers."""
    arms, rounds, _ = found.ttft_s.shape
    return [_summary(found, arm, number, keys) for number in range(rounds) for arm in range(arms)]


def _summary(found: Simulated, arm: int, number: int, keys: tuple[str, ...]) -> TrialSummary:
    prompts = found.ttft_s.shape[2]
    drawing = resampling(prompts)

    def series(values: Floats) -> Series:
        return Series(values, np.arange(prompts, dtype=np.int64), prompts)

    latency, ttft, tpot = found.latency_s[arm, number], found.ttft_s[arm, number], found.tpot_s[arm, number]
    values = {
        "output_throughput": float(found.tokens.sum() / latency.sum()),
        "median_ttft_ms": float(1000 * np.median(ttft)),
        "mean_tpot_ms": float(1000 * tpot.mean()),
    }
    replicates: dict[str, Callable[[], Floats]] = {
        "output_throughput": lambda: drawing.totals(series(found.tokens)) / drawing.totals(series(latency)),
        "median_ttft_ms": lambda: 1000 * drawing.quantiles(series(ttft), 50),
        "mean_tpot_ms": lambda: 1000 * drawing.means(series(tpot)),
    }
    return TrialSummary(
        "abcdefghij"[arm],
        number + 1,
        {key: values[key] for key in keys},
        replicates={key: replicates[key]() for key in keys},
        requests=prompts,
        study="simulated",
        plan="simulated",
        start="" if found.restarts else f"start of {arm}",
    )


class IntervalRates(msgspec.Struct, frozen=True):
    """Of many studies: how often the interval of one metric excluded 0, how often it contained the truth, and its
    median half-width in percent."""

    different: float
    covered: float
    half_percent: float


def rates(
    machine: SimulatedMachine, design: Design, studies: int, seed: int, *, keys: tuple[str, ...] = KEYS
) -> dict[tuple[str, Prompts], IntervalRates]:
    """Of studies of two arms, each metric judged by itself.

    The truth for other prompts is the slow-down that was built in; that for these prompts is their own ratio, which is
    known for throughput and TPOT only.
    """
    rng = np.random.default_rng(seed)
    found: dict[tuple[str, Prompts], list[tuple[bool, bool, float]]] = {}
    for _ in range(studies):
        made = simulated(machine, design, rng)
        trials = summaries(made, keys)
        by_arm = [(arm, [one for one in trials if one.arm == arm]) for arm in "ab"]
        for key in keys:
            metric = METRICS_BY_KEY[key]
            slow_down = (1 + design.slow_down) * (1 + machine.slow_down_of_second_arm)
            built_in = slow_down ** (1 if metric.better == "lower" else -1)
            of_pair = evidence(metric, by_arm[0], by_arm[1], sequential=False)
            truths: dict[Prompts, float | None] = {"sampled": built_in, "fixed": made.ratios.get(key)}
            for question, truth in truths.items():
                interval = of_pair.interval(question, CONFIDENCE)
                if interval is not None and truth is not None:
                    low, high = interval.low_percent, interval.high_percent
                    outcome = (not low <= 0 <= high, low <= 100 * (truth - 1) <= high, (high - low) / 2)
                    found.setdefault((key, question), []).append(outcome)
    return {key: _rate(outcomes) for key, outcomes in found.items()}


def _rate(outcomes: list[tuple[bool, bool, float]]) -> IntervalRates:
    different, covered, half = zip(*outcomes, strict=True)
    return IntervalRates(float(np.mean(different)), float(np.mean(covered)), float(np.median(half)))


def any_wrong(
    machine: SimulatedMachine, design: Design, studies: int, seed: int, starts_sd_percent: float | None = None
) -> float:
    """The share of studies of equal arms in which any verdict on the throughput shows a difference. `starts_sd_percent`
    as in Comparison."""
    rng = np.random.default_rng(seed)
    wrong = 0
    for _ in range(studies):
        trials = summaries(simulated(machine, design, rng), KEYS[:1])
        row = compare(trials, starts_sd_percent=starts_sd_percent).primary_row
        assert row is not None
        wrong += any(one.verdict in ("faster", "slower") for one in row.differences)
    return wrong / studies
