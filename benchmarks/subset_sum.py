"""Times the subset-sum engine, after checking a sample of its answers by a second method.

Run ``python benchmarks/subset_sum.py --help``. Compile time (into an empty cache) and the time of a start with a full
cache are taken in processes of their own.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time

import numpy as np

from slth.subsetsum import solve

START = """
import time; start = time.perf_counter()
import numba; numba_seconds = time.perf_counter() - start
import numpy as np
from slth.subsetsum import solve
start = time.perf_counter()
solve(np.full((1, 5), 0.3), [0.5], threads=1, objective={objective!r}, tolerance=1.0)
print(time.perf_counter() - start, numba_seconds)
"""


def say(line: str) -> None:
    """One line of output, at once."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def start_seconds(objective: str, cache: str) -> tuple[float, float]:
    """Seconds of the first call in a new process, and of importing numba before it."""
    done = subprocess.run(
        [sys.executable, "-c", START.format(objective=objective)],
        env=os.environ | {"NUMBA_CACHE_DIR": cache},
        check=True,
        capture_output=True,
        text=True,
    )
    first, numba_seconds = map(float, done.stdout.split())
    return first, numba_seconds


def least_error(base: np.ndarray, target: float) -> float:
    """The optimum in plain float64: one half's sums looked up among the other's."""
    sums = []
    for half in (base[::2], base[1::2]):
        total = np.zeros(1)
        for x in half:
            total = np.concatenate([total, total + x])
        sums.append(np.sort(total))
    need = target - sums[0]
    at = np.searchsorted(sums[1], need)
    near = sums[1][np.stack([np.maximum(at - 1, 0), np.minimum(at, len(sums[1]) - 1)])]
    return float(np.abs(need - near).min())


def check(base: np.ndarray, targets: np.ndarray, extra: dict, sample: int) -> None:
    """Hold a sample's errors against the second method."""
    found = solve(base[:sample], targets[:sample], **extra)
    for p in range(min(sample, len(targets))):
        best = least_error(base[p], targets[p])
        slack = base.shape[1] * 2.0**-50
        if extra["objective"] == "best":
            good = abs(found.errors[p] - best) <= slack
        else:
            good = (found.errors[p] <= extra["tolerance"]) == (best <= extra["tolerance"])
        if not good:
            raise SystemExit(f"wrong: m={base.shape[1]}, problem {p}: {found.errors[p]} against {best}")


def seconds(call, repeats: int) -> tuple[float, float]:
    """Least and median seconds of several runs."""
    taken = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        taken.append(time.perf_counter() - start)
    return min(taken), statistics.median(taken)


def bench(kind: str, m: int, extra: dict, args: argparse.Namespace) -> None:
    """Print one line of the table."""
    rng = np.random.default_rng(args.seed)
    count = max(16, min(40_000, int(args.seconds * 1e6 / (0.3 + 3e-3 * 2 ** (m / 2)))))
    base = rng.uniform(-1, 1, (count, m))
    if kind == "product":
        base *= rng.uniform(-1, 1, (count, m))
    targets = rng.uniform(-0.5, 0.5, count)
    check(base, targets, extra, args.sample)
    least, median = seconds(lambda: solve(base, targets, threads=1, **extra), args.repeats)
    two, _ = seconds(lambda: solve(base, targets, threads=2, **extra), args.repeats)
    name = extra["objective"] + ("" if extra["tolerance"] is None else f" {extra['tolerance']:g}")
    unit = 1e6 / count
    say(f"{name:16} {kind:8} {m:3d} {count:7d} {least * unit:10.3f} {median * unit:10.3f} {least / two:7.2f}")


def main() -> None:
    """Parse the arguments and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[10, 15, 20, 24, 30, 34])
    parser.add_argument("--tolerance", type=float, default=0.01, help="of the objective sparsest")
    parser.add_argument("--seconds", type=float, default=0.05, help="about how long one run of one line takes")
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--sample", type=int, default=8, help="problems checked by the second method")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    for objective in ("best", "sparsest"):
        with tempfile.TemporaryDirectory() as cache:
            cold, _ = start_seconds(objective, cache)
            warm, numba_seconds = start_seconds(objective, cache)
        say(
            f"{objective}: first call {cold:.2f} s, from the cache {warm:.2f} s (import of numba {numba_seconds:.2f} s)"
        )
    say(f"{'objective':16} {'base':8} {'m':>3} {'count':>7} {'us, least':>10} {'us, median':>10} {'2 thr.':>7}")
    for kind in ("uniform", "product"):
        for extra in ({"objective": "best", "tolerance": None}, {"objective": "sparsest", "tolerance": args.tolerance}):
            for m in args.sizes:
                bench(kind, m, extra, args)


if __name__ == "__main__":
    main()
