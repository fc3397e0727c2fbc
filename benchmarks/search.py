"""How good searches and quantisation ladders are: truths that are known, on a simulated busy machine.

python benchmarks/search.py                    (200 searches a landscape; about 6 minutes on one free core)
python benchmarks/search.py --searches 20      (rough, a minute)
python benchmarks/search.py --only ladders     (200 ladders of each kind; half a minute)
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # numpy's threads cost more than they gain on small arrays
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import argparse

from inferometer.testing.simulated_ladder import LADDERS, ladder_rates
from inferometer.testing.simulated_search import ALL, EXHAUSTIVE_ROUNDS, LANDSCAPES, search_rates


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--searches", type=int, default=200, help="simulated searches for each landscape")
    parser.add_argument("--only", default="", help="one landscape, or: ladders")
    asked = parser.parse_args()
    if asked.only in ("", "ladders"):
        show_ladders(asked.searches)
    if asked.only != "ladders":
        show_searches(asked.searches, asked.only)


def show_ladders(ladders: int) -> None:
    print(f"{ladders} ladders of each kind: the right file is named, and every statement is true.")
    print("\n| ladder | problems | right sentence | true statements |\n|:---|---:|---:|---:|")
    for problems in (60, 164, 400):
        for name, planted in LADDERS.items():
            found = ladder_rates(planted, problems, ladders)
            print(f"| {name} | {problems} | {100 * found.right:.1f}% | {100 * found.true:.1f}% |", flush=True)
    print()


def show_searches(searches: int, only: str) -> None:
    print(f"{searches} searches a landscape; the exhaustive search: {len(ALL)} settings × {EXHAUSTIVE_ROUNDS} rounds.")
    print(
        "\n| landscape | within 2% of the best | slower than the baseline | interval contains the truth | trials, share"
    )
    print("|:---|---:|---:|---:|---:|")
    for name, landscape in LANDSCAPES.items():
        if only not in ("", name):
            continue
        found = search_rates(landscape, searches)
        covered = "" if found.covered is None else f"{100 * found.covered:.1f}%"
        share = f"{100 * found.trials_share:.0f}% (at most {100 * found.most_trials_share:.0f}%)"
        print(
            f"| {name} | {100 * found.near_best:.1f}% | {100 * found.losses:.1f}% | {covered} | {share} |", flush=True
        )


if __name__ == "__main__":
    main()
