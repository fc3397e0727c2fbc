"""Whether the fidelity pass ranks quantisations as llama-perplexity's --kl-divergence does.

python benchmarks/fidelity.py MODEL.gguf --llama-cpp FOLDER      (about 20 minutes on two cores, 1 GB in --work)

Everything that is measured is kept in --work: after an interruption the same command goes on, and with --table it only
prints. Makes quantisations of the model with FOLDER/llama-quantize, measures each against the model in F16 with
FOLDER/llama-perplexity on the project's documents, and with the fidelity pass on the built-in prompts. If the model is
quantised already, F16 holds its values, and the quantisations begin from there.
"""

import argparse
import json
import re
import subprocess
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from scipy import stats

from inferometer.analysis.fidelity import FidelityDifference, fidelity_differences
from inferometer.base.extensions import factory
from inferometer.core.schedule import Closed
from inferometer.core.spec import Arm, Spec
from inferometer.core.workload_settings import Builtin
from inferometer.store import Store
from inferometer.study.engine_pool import EnginePool
from inferometer.study.fidelity_pass import FidelityPass
from inferometer.study.progress import AskingProbabilities
from inferometer.study.shared_plan import SharedPlan
from inferometer.workloads.catalog import make_workload

TYPES = ("Q8_0", "Q6_K", "Q5_K_M", "Q5_0", "Q4_K_M", "Q4_0", "Q3_K_M", "Q2_K")
BASE = "F16"
ROOT = Path(__file__).parents[1]
CONTEXT = 256


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--llama-cpp", type=Path, required=True, help="folder of llama-quantize and llama-perplexity")
    parser.add_argument("--work", type=Path, default=ROOT / "build" / "fidelity")
    parser.add_argument("--types", nargs="+", default=TYPES)
    parser.add_argument("--prompts", type=int, default=16)
    parser.add_argument("--tokens", type=int, default=48, help="most tokens of each answer")
    parser.add_argument("--chunks", type=int, default=6, help=f"of {CONTEXT} tokens, for llama-perplexity")
    parser.add_argument("--threads", type=int, help="of the embedded engine; 1 on a busy machine")
    parser.add_argument("--at-once", type=int, default=4, help="engines that answer at the same time")
    parser.add_argument("--table", action="store_true", help="measure nothing; print what is known")
    asked = parser.parse_args()
    asked.work.mkdir(parents=True, exist_ok=True)
    files = quantised(asked.model, asked.llama_cpp, asked.work, asked.types)
    truth = llama_perplexity(files, asked.llama_cpp, asked.work, asked.chunks)
    ours = fidelity(files, asked.work, asked.prompts, asked.tokens, asked.threads, 0 if asked.table else asked.at_once)
    print_table(truth, ours)


def quantised(model: Path, tools: Path, work: Path, types: Sequence[str]) -> dict[str, Path]:
    """A file for F16 and for each type; files that exist are used again."""
    files = {name: work / f"{name}.gguf" for name in (BASE, *types)}
    for name, path in files.items():
        if not path.exists():
            source = model if name == BASE else files[BASE]
            run([tools / "llama-quantize", "--allow-requantize", source, path, name])
    return files


def llama_perplexity(files: dict[str, Path], tools: Path, work: Path, chunks: int) -> dict[str, float]:
    """Mean KL divergence by type; known results are used again."""
    text, logits, known = work / "text.txt", work / "base.kld", work / f"llama-perplexity-{chunks}.json"
    found: dict[str, float] = json.loads(known.read_text()) if known.exists() else {}
    text.write_text("\n\n".join(path.read_text() for path in sorted((ROOT / "docs").rglob("*.md"))))
    program = [tools / "llama-perplexity", "-f", text, "-c", str(CONTEXT), "--chunks", str(chunks)]
    program += ["--kl-divergence-base", logits]
    missing = [name for name in files if name != BASE and name not in found]
    if missing:
        run([*program, "-m", files[BASE]])
    for name in missing:
        said = run([*program, "-m", files[name], "--kl-divergence"])
        kl = re.search(r"Mean\s+KLD:\s*([\d.]+)", said)
        assert kl is not None, said[-2000:]
        found[name] = float(kl[1])
        known.write_text(json.dumps(found))
        print(f"llama-perplexity {name}: {kl[1]}", flush=True)
    return {name: found[name] for name in files if name != BASE}


def fidelity(
    files: dict[str, Path], work: Path, prompts: int, tokens: int, threads: int | None, at_once: int
) -> dict[str, FidelityDifference]:
    """The fidelity pass of all files against the first. `at_once` 0: only of the answers that are stored."""
    arms = {
        name: Arm(engine="embedded", model=str(path), slots=1, context=2048, threads=threads)
        for name, path in files.items()
    }
    spec = Spec(arms=arms, workload=Builtin(num_prompts=prompts, max_tokens=tokens), schedule=Closed(1))
    folder = work / f"study-{prompts}-{tokens}"
    store = Store.resume(folder, spec)
    try:
        SharedPlan(spec, make_workload(spec.workload), store, 1).for_trial(None)
        if at_once:
            with ThreadPoolExecutor(at_once) as pool:
                list(pool.map(lambda name: ask(spec, name, store), arms))
        first, *others = arms
        found = fidelity_differences(store.continuations(), [(first, other) for other in others])
    finally:
        store.close()
    return {one.arm: one for one in found}


def ask(spec: Spec, name: str, store: Store) -> None:
    """The pass of one arm. Nothing is timed, so that several may run at once."""
    arm = spec.arms[name]
    engines = {name: factory("engine", arm.engine)({})}
    with EnginePool(keeps=False) as pool:
        for progress in FidelityPass(spec, {name: arm}, engines, pool).run(store):
            if not isinstance(progress, AskingProbabilities) or progress.done == progress.total:
                print(progress, flush=True)


def print_table(truth: dict[str, float], ours: dict[str, FidelityDifference]) -> None:
    print("\n| type | llama-perplexity: mean KL | mean_kl | 95% CI | flips (%) | places | rest (%) |")
    print("|:---|" + "---:|" * 6)
    measured = [name for name in sorted(truth, key=lambda one: truth[one]) if name in ours]
    for name in measured:
        one = ours[name]
        assert one.mean_kl is not None
        high = "unknown" if one.mean_kl.high is None else f"{one.mean_kl.high:.5f}"
        print(
            f"| {name} | {truth[name]:.5f} | {one.mean_kl.value:.5f} | {one.mean_kl.low:.5f} to {high} | "
            f"{one.flip_rate_percent.value:.1f} | {one.places} | {one.rest_percent or 0:.1f} |"
        )
    values = [found.value for name in measured if (found := ours[name].mean_kl) is not None]
    rank: Any = stats.spearmanr([truth[name] for name in measured], values)
    print(f"\nRank correlation over {len(measured)} quantisations: {rank[0]:.3f}")
    if len(measured) < len(truth):
        print(f"Not measured: {', '.join(sorted(set(truth) - set(measured)))}")


def run(command: Sequence[str | Path]) -> str:
    """The program's whole output. Raises CalledProcessError."""
    done = subprocess.run(
        [str(word) for word in command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"{command[0]} failed: {done.stdout[-2000:]}")
    return done.stdout


if __name__ == "__main__":
    main()
