"""How often verdicts and intervals are right: the tables of docs/explanation/statistics.md, from simulated studies.

make statistics                          (about 10 minutes on one core)
make statistics ARGS='--studies 400'     (rough, a minute)
"""

import argparse

from inferometer.testing.simulated import KEYS, Machine, rates

MACHINES = {
    "trials drift": Machine(),
    "trials drift, prompts bear on the arms unequally": Machine(prompt_spread=0.1),
    "a steady trend of 2% a trial as well": Machine(trend=0.02),
    "quiet machine, prompts are most of it": Machine(prompt_spread=0.2, trial_spread=0.005, walk=0.005),
}
TRIALS = (3, 5, 10)
SLOW_DOWNS = (0.02, 0.05, 0.10, 0.20)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--studies", type=int, default=4000, help="simulated studies for each cell")
    studies = parser.parse_args().studies
    error = 100 * (0.05 * 0.95 / studies) ** 0.5
    print(f"{studies} studies a cell; Monte Carlo standard error of a rate of 5% or 95%: {error:.2f} points.\n")
    print("### Without a difference: how often the verdict is wrong (%), how often the interval holds the truth (%)\n")
    head = " | ".join(f"{key}, wrong | holds" for key in KEYS)
    print(f"| machine | trials | {head} |\n|:---|---:|" + "---:|" * (2 * len(KEYS)))
    for name, machine in MACHINES.items():
        for trials in TRIALS:
            found = rates(machine, trials, studies, seed=trials)
            cells = " | ".join(f"{100 * found.different[key]:.1f} | {100 * found.covered[key]:.1f}" for key in KEYS)
            print(f"| {name} | {trials} | {cells} |", flush=True)
    print("\n### Power: how often a slow-down is called one (%), and how often the interval holds it (%)\n")
    print(f"| slow-down | trials | {head.replace('wrong', 'called')} |\n|---:|---:|" + "---:|" * (2 * len(KEYS)))
    for slow_down in SLOW_DOWNS:
        for trials in TRIALS:
            found = rates(Machine(), trials, max(200, studies // 4), seed=trials, slow_down=slow_down)
            cells = " | ".join(f"{100 * found.different[key]:.1f} | {100 * found.covered[key]:.1f}" for key in KEYS)
            print(f"| {slow_down:.0%} | {trials} | {cells} |", flush=True)


if __name__ == "__main__":
    main()
