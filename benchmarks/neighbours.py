"""Time the exact nearest-neighbour search beside scikit-learn's and faiss's, and its memory.

All search float32 vectors of 128 dimensions, in a few hundred overlapping groups, exhaustively
for the 5 nearest. Each has a process of its own; they run in turns. Before anything is timed,
neighbours are compared with those of a float64 search: "equal" is the share that agrees.
Peak memory is that of the whole process, with bank and queries in it.

    python benchmarks/neighbours.py
    python benchmarks/neighbours.py --rows 1000000 --queries 4096 --rounds 3 --json

``--score`` scores instead of comparing: as many test as train rows, k-means and its metrics on
all of them, KNN for the first ``--queries`` rows; the time for all rows is extrapolated from
those, the arrays that KNN would return for all of them are held as well. The rows are in 10
groups, so that k-means is done in a few steps.

    python benchmarks/neighbours.py --score --rows 1000000 --queries 4096
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from rounds import Rival, ratio, serve

K = 5
DIM = 128


def vectors(rows: int, seed: int, groups: int = 300) -> tuple[np.ndarray, np.ndarray]:
    """Vectors [rows, DIM] in groups, and a class 0 .. 9 of each, that of its group."""
    centres = np.random.default_rng(0).normal(size=(groups, DIM)).astype(np.float32)
    random = np.random.default_rng(seed)
    group = random.integers(0, groups, rows)
    points = random.standard_normal((rows, DIM), dtype=np.float32)
    for start in range(0, rows, 4096):
        points[start : start + 4096] += centres[group[start : start + 4096]]
    return points, group % 10


def searcher(name: str, bank: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """Return what finds the indices [N, K] of queries, by the library of that name."""
    if name == "scikit-learn":
        from sklearn.neighbors import NearestNeighbors

        index = NearestNeighbors(n_neighbors=K, algorithm="brute").fit(bank)
        return lambda queries: index.kneighbors(queries)[1]
    if name == "faiss":
        import faiss

        return lambda queries: faiss.knn(queries, bank, K)[1]
    from kfeat.scoring.neighbours import nearest

    return lambda queries: nearest(bank, queries, K)[0]


def equal(search: Callable[[np.ndarray], np.ndarray], bank: np.ndarray, queries: np.ndarray):
    """The share of neighbours that are those of a float64 search, for a few queries."""
    few = queries[:16]
    found = search(few)
    exact = np.empty((len(few), K), np.int64)
    for n, query in enumerate(few.astype(np.float64)):
        squares = [
            np.square(bank[start : start + 65536] - query).sum(axis=1)
            for start in range(0, len(bank), 65536)
        ]
        exact[n] = np.argsort(np.concatenate(squares), kind="stable")[:K]
    return float(np.mean(found == exact))


def rival(name: str, rows: int, queries: int) -> None:
    """Be one side: load, compare, then search whenever asked."""
    bank, asked = vectors(rows, 1)[0], vectors(queries, 2)[0]
    search = searcher(name, bank)
    print("equal", equal(search, bank, asked), flush=True)

    def run() -> int:
        search(asked)
        return len(asked)

    serve(run)


def peak_mb(pid: int | str = "self") -> int:
    """The most memory that a process has had resident so far (Linux)."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(re.findall(r"VmHWM:\s+(\d+) kB", status)[0]) // 1000


def compare(rows: int, queries: int, rounds: int) -> dict:
    """Time all sides in turns."""
    names = ("kfeat", "scikit-learn", "faiss")
    rates: dict[str, list[float]] = {name: [] for name in names}
    rivals, shares = {}, {}
    try:
        for name in names:
            rivals[name] = Rival({"name": name, "rows": rows, "queries": queries})
            first = rivals[name].process.stdout.readline().split()
            if first[:1] == ["equal"]:
                shares[name] = float(first[1])
            rivals[name].wait()
        for _ in range(rounds):
            for name, side in rivals.items():
                rates[name].append(side.rate())
        peaks = {name: peak_mb(side.process.pid) for name, side in rivals.items()}
    finally:
        for side in rivals.values():
            side.process.kill()
            side.process.wait()
    return {
        "bank": rows,
        "queries": queries,
        "dim": DIM,
        "k": K,
        "queries_per_second": {name: round(statistics.median(rates[name]), 1) for name in names},
        "ratios": {name: round(ratio(rates, "kfeat", name), 3) for name in names[1:]},
        "equal": shares,
        "peak_mb": peaks,
    }


def score_all(rows: int, queries: int) -> dict:
    """Score ``rows`` x DIM features against as many, and look at the memory."""
    from kfeat.scoring.scorecard import score

    test, labels = vectors(rows, 2, groups=10)
    train, train_labels = vectors(rows, 1, groups=10)
    before = peak_mb()
    classified = score(test[:queries], labels[:queries], train, train_labels)
    found = np.ones((rows, K), np.int64), np.ones((rows, K)), np.ones(rows, np.int64)
    start = time.perf_counter()
    clustered = score(test, labels)
    clustering = time.perf_counter() - start
    knn = classified["seconds"]["classification"]
    return {
        "rows": rows,
        "queries": queries,
        "knn_accuracy": classified["classification"]["accuracy"],
        "nmi": clustered["clustering"]["nmi"],
        "knn_seconds": round(knn, 1),
        "knn_seconds_for_all_rows": round(knn * rows / queries),
        "clustering_seconds": round(clustering, 1),
        "features_mb": (test.nbytes + train.nbytes) // 10**6,
        "held_mb": sum(array.nbytes for array in found) // 10**6,
        "peak_mb_before": before,
        "peak_mb": peak_mb(),
    }


def main() -> None:
    """Parse the options, run and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=50_000, help="rows of the bank")
    parser.add_argument("--queries", type=int, default=4096)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--score", action="store_true", help="time and memory of a whole score")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--rival", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.rival:
        rival(**json.loads(arguments.rival))
        return
    if arguments.score:
        result = score_all(arguments.rows, arguments.queries)
    else:
        result = compare(arguments.rows, arguments.queries, arguments.rounds)
    if arguments.json:
        print(json.dumps(result))
    else:
        for key, value in result.items():
            print(f"{key:<26}{value}")


if __name__ == "__main__":
    main()
