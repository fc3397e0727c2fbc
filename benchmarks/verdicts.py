"""How often verdicts and intervals are right: the tables of docs/explanation/statistics.md, from simulated studies.

make statistics                          (about 6 minutes on one free core)
make statistics ARGS='--studies 200'     (rough, a minute or two)
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # numpy's threads cost more than they gain on small arrays
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import argparse
from collections.abc import Iterable, Sequence

import numpy as np
from scipy import special

from inferometer.testing.simulated import KEYS, Design, SimulatedMachine, any_wrong, rates

MACHINES = {
    "trials drift": SimulatedMachine(),
    "and a trend of 2% per trial": SimulatedMachine(trend=0.02),
    "and a neighbour busy 20% of the time": SimulatedMachine(busy_share=0.2),
    "and starts differ by 1%": SimulatedMachine(start_spread=0.01),
    "and starts differ by 3%": SimulatedMachine(start_spread=0.03),
    "and prompts affect arms unequally (10%)": SimulatedMachine(prompt_spread=0.1),
    "and prompts affect arms unequally (3%)": SimulatedMachine(prompt_spread=0.03),
    "and few long answers take most of the time": SimulatedMachine(answer_spread=1.5),
    "and 5% of requests take 5 times as long": SimulatedMachine(slow_share=0.05),
    "quiet, prompts dominate": SimulatedMachine(prompt_spread=0.2, trial_spread=0.005, walk=0.005),
}
ORDERS = ("requests", "trials")
ROUNDS = (2, 3, 4, 5, 10)
THROUGHPUT = KEYS[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--studies", type=int, default=1000, help="simulated studies for each cell")
    studies = parser.parse_args().studies
    error = 100 * (0.05 * 0.95 / studies) ** 0.5
    print(f"{studies} studies a cell; Monte Carlo standard error of a rate of 5% or 95%: {error:.1f} points.")
    no_difference(studies)
    other_metrics(studies // 2)
    numbers_of_prompts(studies)
    power(studies)
    power_by_noise(studies)
    several_arms(studies // 2)
    one_start(studies)
    not_adopted(100 * studies)


def table(title: str, head: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    print(f"\n### {title}\n\n| {' | '.join(head)} |\n|:---|" + "---:|" * (len(head) - 1))
    for row in rows:
        print(f"| {' | '.join(row)} |", flush=True)


def percents(values: Iterable[float]) -> str:
    return ", ".join(f"{100 * value:.1f}" for value in values)


def no_difference(studies: int) -> None:
    """Equal arms, throughput: wrong verdicts of prompts like these, and coverage of both intervals."""

    def rows() -> Iterable[Sequence[str]]:
        for order in ORDERS:
            for name, machine in MACHINES.items():
                found = [rates(machine, Design(n, order), studies, n, keys=(THROUGHPUT,)) for n in ROUNDS]
                sampled = [one[THROUGHPUT, "sampled"] for one in found]
                fixed = [one[THROUGHPUT, "fixed"] for one in found]
                wrong = percents(one.different for one in sampled)
                halves = ", ".join(f"{one.half_percent:.1f}" for one in sampled)
                yield order, name, wrong, percents(one.covered for one in fixed), halves

    counts = ", ".join(map(str, ROUNDS))
    head = ("order", "machine", "wrong, prompts like these", "covered, these prompts", "median half-width")
    table(f"Without a difference, throughput, {counts} rounds (%)", head, rows())


def other_metrics(studies: int) -> None:
    def rows() -> Iterable[Sequence[str]]:
        for order in ORDERS:
            for name in ("trials drift", "and prompts affect arms unequally (10%)", "quiet, prompts dominate"):
                found = [rates(MACHINES[name], Design(n, order), studies, n, keys=KEYS[1:]) for n in (3, 5)]
                yield order, name, *(percents(one[key, "sampled"].different for one in found) for key in KEYS[1:])

    head = ("order", "machine", "median TTFT", "mean TPOT")
    table("Without a difference, other metrics, 3, 5 rounds: wrong verdicts (%)", head, rows())


def numbers_of_prompts(studies: int) -> None:
    def rows() -> Iterable[Sequence[str]]:
        for order in ORDERS:
            for spread in (0.0, 0.1):
                made = [SimulatedMachine(prompts=count, prompt_spread=spread) for count in (8, 20, 50)]
                found = [rates(one, Design(4, order), studies, one.prompts, keys=(THROUGHPUT,)) for one in made]
                wrong = percents(one[THROUGHPUT, "sampled"].different for one in found)
                yield order, f"{spread:.0%}", wrong, percents(one[THROUGHPUT, "fixed"].covered for one in found)

    head = ("order", "prompts affect arms unequally by", "wrong, prompts like these", "covered, these prompts")
    table("Without a difference, throughput, 4 rounds of 8, 20, 50 prompts (%)", head, rows())


def power(studies: int) -> None:
    def rows() -> Iterable[Sequence[str]]:
        for order in ORDERS:
            for prompts in (30, 50):
                for slow_down in (0.01, 0.02, 0.05, 0.10):
                    machine, counts = SimulatedMachine(prompts=prompts), (3, 4, 5, 10)
                    designs = [Design(n, order, slow_down=slow_down) for n in counts]
                    found = [rates(machine, one, studies, one.rounds, keys=(THROUGHPUT,)) for one in designs]
                    called = [percents(one[THROUGHPUT, q].different for one in found) for q in ("sampled", "fixed")]
                    yield order, str(prompts), f"{slow_down:.0%}", *called

    head = ("order", "prompts", "slow-down", "prompts like these", "these prompts")
    table("Power on the machine whose trials drift, throughput, 3, 4, 5, 10 rounds (%)", head, rows())


def power_by_noise(studies: int) -> None:
    """How often a slow-down of 2% is called one, if requests vary by themselves by less than in the other tables."""

    def rows() -> Iterable[Sequence[str]]:
        for noise in (0.01, 0.02, 0.03, 0.04, 0.05):
            machines = [SimulatedMachine(prompts=prompts, noise=noise) for prompts in (30, 50)]
            cells: list[str] = []
            for machine in machines:
                designs = [Design(rounds, "requests", slow_down=0.02) for rounds in (3, 4, 5)]
                found = [rates(machine, one, studies, one.rounds, keys=(THROUGHPUT,)) for one in designs]
                cells.append(percents(one[THROUGHPUT, "sampled"].different for one in found))
            yield f"{noise:.0%}", *cells

    head = ("a request varies by", "30 prompts", "50 prompts")
    table("Order requests: a slow-down of 2% called one, 3, 4, 5 rounds (%)", head, rows())


def several_arms(studies: int) -> None:
    def rows() -> Iterable[Sequence[str]]:
        for order in ORDERS:
            for arms in (2, 4, 6):
                found = [any_wrong(SimulatedMachine(), Design(n, order, arms=arms), studies, n) for n in (3, 5)]
                yield order, str(arms), percents(found)

    head = ("order", "arms", "studies with a wrong verdict")
    table("Equal arms: studies with any wrong verdict on the throughput, 3, 5 rounds (%)", head, rows())


def one_start(studies: int) -> None:
    """What the intervals of one start would do if they were judged, and what the verdicts do."""

    def rows() -> Iterable[Sequence[str]]:
        for spread in (0.01, 0.03):
            machine, design = SimulatedMachine(start_spread=spread), Design(4, "requests", restarts=False)
            found = rates(machine, design, studies, 4, keys=(THROUGHPUT,))[THROUGHPUT, "sampled"]
            verdicts = any_wrong(machine, design, studies // 10, 4)
            stated = any_wrong(machine, design, studies, 4, starts_sd_percent=100 * spread)
            yield f"{spread:.0%}", *(percents([one]) for one in (found.different, verdicts, stated))

    head = ("starts differ by", "intervals that exclude 0", "verdicts that show a difference", "with --starts-sd")
    table("Equal arms with one start for all rounds (%)", head, rows())


def not_adopted(studies: int) -> None:
    """Coverage of ways to borrow strength at 4 rounds of 30 prompts, for starts that vary by 0 to 3 times what the
    requests' noise leaves in a round."""
    rng, rounds, prompts, prior = np.random.default_rng(1), 4, 30, 4
    freedom, noise_freedom = rounds - 1, (rounds - 1) * (prompts - 1)

    def quantile(degrees: float) -> float:
        return float(special.stdtrit(degrees, 0.975))

    def rows() -> Iterable[Sequence[str]]:
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
    table("Other intervals of these prompts at 4 rounds: how often they contain the truth (%)", head, rows())


if __name__ == "__main__":
    main()
