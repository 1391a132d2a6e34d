"""Time k-means and t-SNE on a machine that is busy, with threads that wait in two ways.

scikit-learn computes both by OpenMP, whose threads, left to GNU's libgomp, spin while they wait
for one another. kfeat has them sleep (``OMP_WAIT_POLICY=passive``, unless the environment has
something else). The peer is the same code with the spinning that libgomp has by default. What
keeps the machine busy is one process a core that counts.

    python benchmarks/waiting.py
    python benchmarks/waiting.py --rounds 3 --json
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator

import numpy as np
import rounds

WAYS = {
    "kfeat": {},
    "spinning": {"GOMP_SPINCOUNT": "300000"},  # what libgomp documents as its default
}
WORK = {"kmeans": 10_000, "tsne": 500}
"""Rows of 128 features for each."""


def rival(what: str) -> None:
    """Be one side."""
    import kfeat.scoring.clustering
    from kfeat.scoring.projection import project

    features = np.random.default_rng(0).normal(size=(WORK[what], 128)).astype(np.float32)

    def run() -> int:
        if what == "kmeans":
            kfeat.scoring.clustering.kmeans(features, 10, seed=0)
        else:
            project(features, "tsne")
        return len(features)

    rounds.serve(run)


@contextlib.contextmanager
def busy(processes: int) -> Iterator[None]:
    """Keep cores busy."""
    code = [sys.executable, "-c", "while True: pass"]
    counting = [subprocess.Popen(code) for _ in range(processes)]
    try:
        yield
    finally:
        for process in counting:
            process.kill()
            process.wait()


def main() -> None:
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--rival", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.rival:
        rival(json.loads(options.rival)["what"])
        return
    for what in WORK:
        cases = {way: {"what": what, "environment": set_} for way, set_ in WAYS.items()}
        for others in (0, os.cpu_count() or 1):
            with busy(others):
                rates = rounds.compare(cases, options.rounds)
            rounds.report({"what": what, "others": others}, rates, "kfeat", options.json)


if __name__ == "__main__":
    main()
