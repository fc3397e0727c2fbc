"""How often verdicts and intervals are right: the tables of docs/explanation/statistics.md, from simulated studies.

make statistics                          (about 10 minutes of processor time, on all cores)
make statistics ARGS='--studies 200'     (rough)
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # numpy's threads cost more than they gain on small arrays
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import argparse
import multiprocessing
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from typing import Literal

import numpy as np
import robust_pairs
from scipy import optimize, special

import inferometer.testing.simulated as simulation
from inferometer.analysis.comparison import Prompts
from inferometer.metrics.series import Floats
from inferometer.testing.simulated import KEYS, Design, IntervalRates, SimulatedMachine

MACHINES = {
    "trials drift": SimulatedMachine(),
    "and a trend of 2% per trial": SimulatedMachine(trend=0.02),
    "and a neighbour busy 20% of the time": SimulatedMachine(busy_share=0.2),
    "and the speed steps by 30% every 3 requests": SimulatedMachine(busy_share=0.5, busy_requests=3),
    "and starts differ by 1%": SimulatedMachine(start_spread=0.01),
    "and starts differ by 3%": SimulatedMachine(start_spread=0.03),
    "and prompts affect arms unequally (10%)": SimulatedMachine(prompt_spread=0.1),
    "and prompts affect arms unequally (40%)": SimulatedMachine(prompt_spread=0.4),
    "and prompts affect arms unequally (3%)": SimulatedMachine(prompt_spread=0.03),
    "and few long answers take most of the time": SimulatedMachine(answer_spread=1.5),
    "and 5% of requests take 5 times as long": SimulatedMachine(slow_share=0.05),
    "and 5% of one arm's requests take 1.3 times as long": SimulatedMachine(
        slow_share=0.05, slow_factor=1.3, slow_arm_only=True
    ),
    "and 1% of one arm's requests take 5 times as long": SimulatedMachine(slow_share=0.01, slow_arm_only=True),
    "and every 20th request of one arm takes twice as long": SimulatedMachine(
        slow_every=20, slow_factor=2, slow_arm_only=True
    ),
    "quiet, prompts dominate": SimulatedMachine(prompt_spread=0.2, trial_spread=0.005, walk=0.005),
}
Order = Literal["requests", "trials"]
ORDERS: tuple[Order, ...] = ("requests", "trials")
ROUNDS = (2, 3, 4, 5, 10)
THROUGHPUT = KEYS[0]
_CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
_processes = ProcessPoolExecutor(_CORES, multiprocessing.get_context("spawn"))
_threads = ThreadPoolExecutor(1000)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--studies", type=int, default=1000, help="simulated studies for each cell")
    studies = parser.parse_args().studies
    error = 100 * (0.05 * 0.95 / studies) ** 0.5
    print(f"{studies} studies a cell; Monte Carlo standard error of a rate of 5% or 95%: {error:.1f} points.")
    tables = [
        no_difference(studies),
        other_metrics(studies // 2),
        numbers_of_prompts(studies),
        power(studies),
        power_by_noise(studies),
        several_arms(studies // 2),
        one_start(studies),
        disturbed_pairs(studies),
    ]
    for title, head, rows in tables:
        table(title, head, (row.result() for row in rows))
    table(*not_adopted(100 * studies))
    table(*best_interval())


Row = Sequence[str]
Table = tuple[str, Sequence[str], list[Future[Row]]]


def together(row: Callable[..., Row], cases: Iterable[tuple[object, ...]]) -> list[Future[Row]]:
    """The rows of all cases. They wait for the same processes, so that no core is idle."""
    return [_threads.submit(row, *case) for case in cases]


def rates(
    machine: SimulatedMachine, designs: Iterable[Design], studies: int, keys: tuple[str, ...] = KEYS[:1]
) -> list[dict[tuple[str, Prompts], IntervalRates]]:
    """As in `simulation`, for each design; its number of rounds is the seed."""
    asked = [_processes.submit(simulation.rates, machine, one, studies, one.rounds, keys=keys) for one in designs]
    return [one.result() for one in asked]


def any_wrong(machine: SimulatedMachine, design: Design, studies: int, starts_sd_percent: float | None = None) -> float:
    asked = _processes.submit(simulation.any_wrong, machine, design, studies, design.rounds, starts_sd_percent)
    return asked.result()


def table(title: str, head: Sequence[str], rows: Iterable[Row]) -> None:
    print(f"\n### {title}\n\n| {' | '.join(head)} |\n|:---|" + "---:|" * (len(head) - 1))
    for row in rows:
        print(f"| {' | '.join(row)} |", flush=True)


def percents(values: Iterable[float]) -> str:
    return ", ".join(f"{100 * value:.1f}" for value in values)


def no_difference(studies: int) -> Table:
    """Equal arms (apart from slow requests of one), throughput: coverage and width of both intervals."""

    def row(order: Order, name: str) -> Row:
        found = rates(MACHINES[name], [Design(n, order) for n in ROUNDS], studies)
        sampled = [one[THROUGHPUT, "sampled"] for one in found]
        fixed = [one[THROUGHPUT, "fixed"] for one in found]
        halves = ", ".join(f"{one.half_percent:.1f}" for one in sampled)
        return order, name, percents(one.covered for one in sampled), percents(one.covered for one in fixed), halves

    counts = ", ".join(map(str, ROUNDS))
    head = ("order", "machine", "covered, prompts like these", "covered, these prompts", "median half-width")
    title = f"Without a difference, throughput, {counts} rounds (%)"
    return title, head, together(row, ((order, name) for order in ORDERS for name in MACHINES))


def other_metrics(studies: int) -> Table:
    def row(order: Order, name: str) -> Row:
        found = rates(MACHINES[name], [Design(n, order) for n in (3, 5)], studies, KEYS[1:])
        return order, name, *(percents(one[key, "sampled"].different for one in found) for key in KEYS[1:])

    names = ("trials drift", "and prompts affect arms unequally (10%)", "quiet, prompts dominate")
    head = ("order", "machine", "median TTFT", "mean TPOT")
    title = "Without a difference, other metrics, 3, 5 rounds: wrong verdicts (%)"
    return title, head, together(row, ((order, name) for order in ORDERS for name in names))


def numbers_of_prompts(studies: int) -> Table:
    def row(order: Order, spread: float) -> Row:
        made = [SimulatedMachine(prompts=count, prompt_spread=spread) for count in (8, 20, 50)]
        found = [rates(one, [Design(4, order)], studies)[0] for one in made]
        wrong = percents(one[THROUGHPUT, "sampled"].different for one in found)
        return order, f"{spread:.0%}", wrong, percents(one[THROUGHPUT, "fixed"].covered for one in found)

    head = ("order", "prompts affect arms unequally by", "wrong, prompts like these", "covered, these prompts")
    title = "Without a difference, throughput, 4 rounds of 8, 20, 50 prompts (%)"
    return title, head, together(row, ((order, spread) for order in ORDERS for spread in (0.0, 0.1)))


def power(studies: int) -> Table:
    def row(order: Order, prompts: int, slow_down: float) -> Row:
        designs = [Design(n, order, slow_down=slow_down) for n in (3, 4, 5, 10)]
        found = rates(SimulatedMachine(prompts=prompts), designs, studies)
        called = [percents(one[THROUGHPUT, q].different for one in found) for q in ("sampled", "fixed")]
        return order, str(prompts), f"{slow_down:.0%}", *called

    cases = [(order, prompts, by) for order in ORDERS for prompts in (30, 50) for by in (0.01, 0.02, 0.05, 0.10)]
    head = ("order", "prompts", "slow-down", "prompts like these", "these prompts")
    title = "Power on the machine whose trials drift, throughput, 3, 4, 5, 10 rounds (%)"
    return title, head, together(row, cases)


def power_by_noise(studies: int) -> Table:
    """How often a slow-down of 2% is called one, if requests vary by themselves by less than in the other tables."""

    def row(noise: float) -> Row:
        cells: list[str] = []
        for prompts in (30, 50):
            designs = [Design(rounds, "requests", slow_down=0.02) for rounds in (3, 4, 5)]
            found = rates(SimulatedMachine(prompts=prompts, noise=noise), designs, studies)
            cells.append(percents(one[THROUGHPUT, "sampled"].different for one in found))
        return f"{noise:.0%}", *cells

    head = ("a request varies by", "30 prompts", "50 prompts")
    title = "Order requests: a slow-down of 2% called one, 3, 4, 5 rounds (%)"
    return title, head, together(row, ((noise,) for noise in (0.01, 0.02, 0.03, 0.04, 0.05)))


def several_arms(studies: int) -> Table:
    def row(order: Order, arms: int) -> Row:
        found = [any_wrong(SimulatedMachine(), Design(n, order, arms=arms), studies) for n in (3, 5)]
        return order, str(arms), percents(found)

    head = ("order", "arms", "studies with a wrong verdict")
    title = "Equal arms: studies with any wrong verdict on the throughput, 3, 5 rounds (%)"
    return title, head, together(row, ((order, arms) for order in ORDERS for arms in (2, 4, 6)))


def one_start(studies: int) -> Table:
    """What the intervals of one start would do if they were judged, and what the verdicts do."""

    def row(spread: float) -> Row:
        machine, design = SimulatedMachine(start_spread=spread), Design(4, "requests", restarts=False)
        found = rates(machine, [design], studies)[0][THROUGHPUT, "sampled"]
        verdicts = any_wrong(machine, design, studies // 10)
        stated = any_wrong(machine, design, studies, starts_sd_percent=100 * spread)
        return f"{spread:.0%}", *(percents([one]) for one in (found.different, verdicts, stated))

    head = ("starts differ by", "intervals that exclude 0", "verdicts that show a difference", "with --starts-sd")
    title = "Equal arms with one start for all rounds (%)"
    return title, head, together(row, ((spread,) for spread in (0.01, 0.03)))


def disturbed_pairs(studies: int) -> Table:
    """Ways to leave disturbed pairs of requests out (`robust_pairs`), at 4 rounds of 30 prompts."""

    def row(name: str, machine: SimulatedMachine) -> Row:
        found = _processes.submit(robust_pairs.rates, machine, Design(4, "requests"), studies, 4).result()
        return name, *(f"{100 * covered:.1f}, {half:.1f}" for covered, half in found)

    quiet = SimulatedMachine(busy_share=0.5, noise=0.02)
    names = [name for name in MACHINES if "requests" in name or name == "trials drift" or "every 20th" in name]
    cases = [(name, MACHINES[name]) for name in names]
    cases.append(("the speed steps by 30% every 10 requests, which vary by 2%", quiet))
    title = "Disturbed pairs, 4 rounds, these prompts: covered, median half-width (%)"
    return title, ("machine", *robust_pairs.METHODS), together(row, cases)


def not_adopted(studies: int) -> tuple[str, Row, Sequence[Row]]:
    """Coverage of ways to borrow strength at 4 rounds of 30 prompts, for starts that vary by 0 to 3 times what the
    requests' noise leaves in a round."""
    rng, rounds, prompts, prior = np.random.default_rng(1), 4, 30, 4
    freedom, noise_freedom = rounds - 1, (rounds - 1) * (prompts - 1)

    def quantile(degrees: float) -> float:
        return float(special.stdtrit(degrees, 0.975))

    def rows() -> Iterable[Row]:
        for ratio in (0.0, 0.5, 1.0, 2.0, 3.0):
            variance = 1 + ratio**2
            between = variance * rng.chisquare(freedom, studies) / freedom
            noise = rng.chisquare(noise_freedom, studies) / noise_freedom
            error = np.abs(rng.normal(0, np.sqrt(variance), studies))
            pooled = (freedom * between + noise_freedom * noise) / (freedom + noise_freedom)
            is_alike = between / noise < special.fdtri(freedom, noise_freedom, 0.75)
            alike = quantile(freedom + noise_freedom) * np.sqrt(pooled)
            student = quantile(freedom) * np.sqrt(between)
            moderated = quantile(freedom + prior) * np.sqrt((prior * noise + freedom * between) / (prior + freedom))
            others = rng.chisquare(2 * freedom, studies) / (2 * freedom)  # two quiet arms, whose starts do not vary
            arms = quantile(3 * freedom) * np.sqrt((between + 2 * others) / 3)
            halves = (student, np.where(is_alike, alike, student), moderated, arms)
            yield f"{ratio:g}", *(percents([float((error <= half).mean())]) for half in halves)

    head = (
        "starts vary by",
        "Student (used)",
        "pooled with request noise after a test",
        "moderated",
        "pooled over arms",
    )
    return "Other intervals of these prompts at 4 rounds: how often they contain the truth (%)", head, list(rows())


def best_interval() -> tuple[str, Row, Sequence[Row]]:
    """The most power that any half-width made of the variance between 4 rounds and the requests' noise can have, if its
    interval contains the truth in 95 of 100 studies however much starts vary. The half-width is a growing function of
    the ratio of the two variances; linear programmes in small steps raise its power where starts do not vary."""
    freedom, effect = 3, 0.02 / (0.05 * 0.9 * (2 / 30 / 4) ** 0.5)  # in standard errors: 2%, requests of 5% noise
    ratios = np.exp(np.linspace(np.log(0.01), np.log(2000), 160))
    starts = np.exp(np.linspace(0, np.log(60), 40))[:, None]  # variance between rounds, in units of the noise
    edges = np.sqrt(ratios[1:] * ratios[:-1])
    below = special.chdtr(freedom, freedom * edges / starts)
    shares = np.diff(np.hstack([np.zeros_like(starts), below, np.ones_like(starts)]))
    student = float(special.stdtrit(freedom, 0.975)) * np.sqrt(ratios)

    def covered(half: Floats) -> Floats:
        return (shares * (2 * special.ndtr(half / np.sqrt(starts)) - 1)).sum(axis=1)

    def power(half: Floats) -> float:
        return float((shares[0] * (special.ndtr(effect - half) + special.ndtr(-effect - half))).sum())

    half, count = np.maximum(student, 1.96), len(ratios)
    falls = np.eye(count)[:-1] - np.eye(count)[1:]
    for step in range(60):
        slopes = shares * 2 * np.exp(-(half**2) / 2 / starts) / np.sqrt(2 * np.pi * starts)
        lost = shares[0] * np.exp(-((effect - half) ** 2) / 2) + 1e-4 * shares[10]
        reach = np.where(ratios > 100, 0, 0.08 * half * 0.96**step)
        limits = np.concatenate([covered(half) - 0.95, np.diff(half)])
        bounds = np.stack([-reach, reach], axis=1)
        half = half + optimize.linprog(lost, np.vstack([-slopes, falls]), limits, bounds=bounds).x
    found = (("Student (used)", student), ("best possible", half))
    rows = [(name, percents([covered(of).min()]), percents([power(of)])) for name, of in found]
    return "Power for 2% with 4 rounds of 30 prompts (%)", ("interval", "covers at least", "power"), rows


if __name__ == "__main__":
    main()
