"""Rivals timed in turns: whole networks, each in a process of its own; see `seconds` for others.

A benchmark names its rivals, and for each a function that sets it up and returns what is to be
timed. Every rival gets a fresh process with nothing but its own libraries in it. All are set up
first; then, round by round, each runs once while the others sleep, so that a slow moment of the
machine meets them all alike. What counts is the median, over the rounds, of the ratio of two
rates within a round.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Collection
from typing import NoReturn

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
ENVIRONMENT = dict(os.environ)
"""What rivals start with: without what kfeat sets for itself, if it is imported here later."""


PRECISIONS = ("float32", "bfloat16")


def arguments(
    description: str | None, archs: Collection[str], steps: int
) -> argparse.ArgumentParser:
    """The options of a benchmark of networks; see `compare` for ``--rival``.

    Args:
        description: what ``--help`` says first.
        archs: names of the networks.
        steps: batches a round, unless the caller asks for another number.
    """
    parser = common_arguments(description, rounds=9)
    parser.add_argument("--arch", choices=archs, nargs="*", default=archs)
    parser.add_argument("--precision", choices=PRECISIONS, nargs="*", default=PRECISIONS)
    parser.add_argument("--size", type=int, default=96)
    parser.add_argument("--steps", type=int, default=steps, help="of a round")
    parser.add_argument("--rival", help=argparse.SUPPRESS)
    return parser


def common_arguments(description: str | None, rounds: int) -> argparse.ArgumentParser:
    """The options of any benchmark that takes turns; ``rounds``, unless the user says otherwise."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=rounds)
    parser.add_argument("--json", action="store_true", help="one JSON line a case")
    return parser


def serve(run: Callable[[], int]) -> None:
    """Be a rival: run once to warm up, then whenever a line comes in; answer with images/s.

    Args:
        run: does one round's work and returns the number of images.
    """
    run()
    print("ready", flush=True)
    for _ in sys.stdin:
        start = time.perf_counter()
        count = run()
        print(count / (time.perf_counter() - start), flush=True)


def seconds(run: Callable[[], object]) -> float:
    """How long one call takes, of rivals that are small enough to live in one process."""
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


class Rival:
    """A process that runs the calling script again, with ``--rival`` and a case as JSON."""

    def __init__(self, case: dict) -> None:
        self.process = subprocess.Popen(
            [sys.executable, sys.argv[0], "--rival", json.dumps(case)],
            env=ENVIRONMENT | case.get("environment", {}),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE if not os.environ.get("KFEAT_DEBUG") else None,
            text=True,
        )
        self.case = case

    def wait(self) -> None:
        """Wait until it is warm."""
        for line in self.process.stdout:
            if line == "ready\n":
                return
        self.fail()

    def fail(self) -> NoReturn:
        """End with what it said on its way out."""
        _, errors = self.process.communicate()
        raise SystemExit(f"{self.case} failed:\n{errors or ''}")

    def rate(self) -> float:
        """Run one round."""
        self.process.stdin.write("go\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        return float(line) if line else self.fail()


def compare(
    cases: dict[str, dict], rounds: int, optional: Collection[str] = ()
) -> dict[str, list[float]]:
    """Time rivals in turns.

    Args:
        cases: by the name of a rival, what ``--rival`` hands to it.
        rounds: how often each runs.
        optional: rivals that may fail to get ready, and are left out then, with their last words.

    Returns:
        By name, images per second of each round.
    """
    rivals = {}
    rates: dict[str, list[float]] = {name: [] for name in cases}
    try:
        for name, case in cases.items():
            rivals[name] = Rival(case)
            try:
                rivals[name].wait()
            except SystemExit as error:
                if name not in optional:
                    raise
                print(f"without {name}: {str(error).strip().splitlines()[-1]}", file=sys.stderr)
                del rivals[name], rates[name]
        for _ in range(rounds):
            for name, rival in rivals.items():
                rates[name].append(rival.rate())
    finally:
        for rival in rivals.values():
            rival.process.kill()
            rival.process.wait()
    return rates


def ratio(rates: dict[str, list[float]], ours: str, theirs: str) -> float:
    """The median over the rounds of our rate over theirs."""
    return statistics.median(a / b for a, b in zip(rates[ours], rates[theirs], strict=True))


def report(line: dict, rates: dict[str, list[float]], ours: str, as_json: bool) -> None:
    """Print one case: median rates, and our ratio to each peer."""
    medians = {name: round(statistics.median(values), 1) for name, values in rates.items()}
    ratios = {name: round(ratio(rates, ours, name), 3) for name in rates if name != ours}
    if as_json:
        first = next(iter(ratios))
        print(
            json.dumps(
                {
                    **line,
                    "kfeat": medians[ours],
                    "peer": medians[first],
                    "ratio": ratios[first],
                    "images_per_second": medians,
                    "ratios": ratios,
                }
            ),
            flush=True,
        )
        return
    print("  ".join(f"{value!s:<10}" for value in line.values()), end="")
    print(f"  {ours} {medians[ours]:8.1f}", end="")
    for name, value in ratios.items():
        print(f"   {name} {medians[name]:8.1f} (x {value:.2f})", end="")
    print(flush=True)


def show(line: dict, as_json: bool) -> None:
    """Print one case of a table, each value with its name."""
    if as_json:
        print(json.dumps(line), flush=True)
    else:
        print("  ".join(f"{name} {value!s:<6}" for name, value in line.items()), flush=True)
