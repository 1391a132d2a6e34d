"""Time all clustering metrics together, beside scikit-learn's on the same labels.

scikit-learn has no pairwise, BCubed or assignment metric of two label arrays; its side is what
one would write with it: ``homogeneity_completeness_v_measure``, ``normalized_mutual_info_score``,
``adjusted_rand_score``, and ``pair_confusion_matrix`` and ``contingency_matrix`` for the rest.
Both sides compute the same twelve numbers, which are compared before anything is timed. The
runs alternate, so that a slow moment of the machine meets both.

    python benchmarks/metrics.py
    python benchmarks/metrics.py --samples 100000 --runs 9 --json
"""

from __future__ import annotations

import argparse
import json
import statistics
import time

import numpy as np
from scipy.optimize import linear_sum_assignment
from sklearn import metrics
from sklearn.metrics.cluster import contingency_matrix, pair_confusion_matrix

from kfeat.scoring.metrics import clustering_metrics


def scikit_learn(true: np.ndarray, pred: np.ndarray) -> dict[str, float]:
    """Compute what `clustering_metrics` computes, with scikit-learn's functions."""
    homogeneity, completeness, v_measure = metrics.homogeneity_completeness_v_measure(true, pred)
    (_, in_cluster_only), (in_class_only, both) = pair_confusion_matrix(true, pred).tolist()
    table = contingency_matrix(true, pred)
    precision = (table**2 / table.sum(axis=0)).sum() / len(true)
    recall = (table**2 / table.sum(axis=1, keepdims=True)).sum() / len(true)
    return {
        "pairwise_precision": both / (both + in_cluster_only),
        "pairwise_recall": both / (both + in_class_only),
        "pairwise_f": 2 * both / (2 * both + in_cluster_only + in_class_only),
        "bcubed_precision": precision,
        "bcubed_recall": recall,
        "bcubed_f": 2 * precision * recall / (precision + recall),
        "nmi": metrics.normalized_mutual_info_score(true, pred),
        "homogeneity": homogeneity,
        "completeness": completeness,
        "v_measure": v_measure,
        "ari": metrics.adjusted_rand_score(true, pred),
        "accuracy": table[linear_sum_assignment(table, maximize=True)].sum() / len(true),
    }


def main() -> None:
    """Parse the options, run every case and print it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--samples", type=int, default=1_000_000)
    parser.add_argument("--runs", type=int, default=5, help="timed runs a side")
    parser.add_argument("--json", action="store_true", help="one line of JSON a case")
    arguments = parser.parse_args()

    random = np.random.default_rng(0)
    for clusters in (10, 1000):
        true = random.integers(0, clusters, arguments.samples)
        noise = random.integers(0, clusters, arguments.samples)
        pred = np.where(random.random(arguments.samples) < 0.5, true, noise)
        ours, theirs = clustering_metrics(true, pred), scikit_learn(true, pred)
        difference = max(abs(ours[name] - theirs[name]) for name in ours)
        if difference > 1e-9:
            raise SystemExit(f"results differ by {difference}")
        seconds: dict[str, list[float]] = {"kfeat": [], "scikit-learn": []}
        for _ in range(arguments.runs):
            for name, function in (("kfeat", clustering_metrics), ("scikit-learn", scikit_learn)):
                start = time.perf_counter()
                function(true, pred)
                seconds[name].append(time.perf_counter() - start)
        medians = {name: statistics.median(values) for name, values in seconds.items()}
        ratio = medians["scikit-learn"] / medians["kfeat"]
        case = {
            "samples": arguments.samples,
            "clusters": clusters,
            "runs": arguments.runs,
            "kfeat_seconds": round(medians["kfeat"], 4),
            "scikit_learn_seconds": round(medians["scikit-learn"], 4),
            "ratio": round(ratio, 1),
            "difference": difference,
        }
        if arguments.json:
            print(json.dumps(case), flush=True)
        else:
            print(
                f"{arguments.samples} labels, {clusters} clusters: {medians['kfeat']:.3f} s, "
                f"scikit-learn {medians['scikit-learn']:.3f} s: {ratio:.1f} times faster",
                flush=True,
            )


if __name__ == "__main__":
    main()
