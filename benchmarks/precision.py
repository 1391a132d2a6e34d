"""Score encoders that were trained in float32 and in bfloat16, each from several seeds.

The embedded photographs, trained and scored as the demo profile does; nothing is downloaded.
Whether the two precisions differ is judged by Welch's t-test of each metric over the seeds. A
processor without instructions for bfloat16 emulates them, at a tenth of the rate or less.

    python benchmarks/precision.py
    python benchmarks/precision.py --arch resnet18 --seeds 5 --json
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import statistics
import sys
import tempfile
from pathlib import Path

from scipy import stats

from kfeat.reporting.published import METRICS
from kfeat.study import profile
from kfeat.study.cells import Cells

ARCHS = ["cae3", "resnet18"]
PRECISIONS = ["float32", "bfloat16"]


def scores(
    demo: profile.Profile, arch: str, precision: str, seeds: int, folder: Path
) -> list[dict[str, float]]:
    """Train and score an encoder from each seed: the scorecard's metrics, a dictionary each."""
    changed = demo.trainings | {arch: demo.trainings[arch] | {"precision": precision}}
    cells = Cells(dataclasses.replace(demo, trainings=changed), folder)
    found = []
    for seed in range(seeds):
        print(f"{arch}, {precision}, seed {seed}", file=sys.stderr, flush=True)
        found.append(cells.scored(arch, seed, cells.trained(arch, seed))["metrics"])
    return found


def compared(arch: str, seeds: int, folder: Path) -> dict:
    """The mean and standard deviation of each metric in both precisions, and Welch's p."""
    demo = profile.read("demo")
    found = {precision: scores(demo, arch, precision, seeds, folder) for precision in PRECISIONS}
    case: dict = {"arch": arch, "seeds": seeds}
    for metric in METRICS:
        values = {p: [score[metric] for score in found[p]] for p in PRECISIONS}
        case[metric] = {
            p: {"mean": statistics.fmean(v), "std": statistics.stdev(v)} for p, v in values.items()
        }
        test = stats.ttest_ind(*values.values(), equal_var=False)
        case[metric]["p"] = float(test.pvalue)
    return case


def main() -> None:
    """Parse the options, run every case and print it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--arch", nargs="*", default=ARCHS, help="of the demo profile's trainings")
    parser.add_argument("--seeds", type=int, default=3, help="of each training, 2 or more")
    parser.add_argument("--output", type=Path, help="keep trainings here, and go on with them")
    parser.add_argument("--json", action="store_true", help="one line of JSON an encoder")
    arguments = parser.parse_args()
    if arguments.seeds < 2:
        parser.error("--seeds: 2 or more, or there is no noise to compare with")

    with tempfile.TemporaryDirectory() as temporary:
        for arch in arguments.arch:
            case = compared(arch, arguments.seeds, arguments.output or Path(temporary))
            if arguments.json:
                print(json.dumps(case), flush=True)
                continue
            for metric in METRICS:
                parts = [
                    f"{p} {case[metric][p]['mean']:.4f} ± {case[metric][p]['std']:.4f}"
                    for p in PRECISIONS
                ]
                print(f"{arch:10}{metric:14}{'   '.join(parts)}   p {case[metric]['p']:.2f}")


if __name__ == "__main__":
    main()
