"""A profile: which trainings and data stand for the study's, in one TOML file."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kfeat.errors import InputError, expand, nearest
from kfeat.files import from_toml
from kfeat.reporting import published
from kfeat.training import recipe as recipes


@dataclass(frozen=True)
class Profile:
    """Which trainings and data stand for the study's.

    Attributes:
        name: what the file is called.
        test: the data set whose test images every figure is of; KNN learns from its train images.
        seeds: one training of each row for each seed.
        repeats: runs of k-means a training.
        trainings: name to recipe and what to change in it. ``weights`` may name another training.
        tables: ``"table1"`` and ``"table2"``: the study's name of a row to the training in it.
        note: what readers of its tables have to know, such as that data are not the study's.
    """

    name: str
    test: str
    seeds: tuple[int, ...]
    repeats: int
    trainings: Mapping[str, Mapping[str, Any]]
    tables: Mapping[str, Mapping[str, str]]
    note: str = ""

    def recipe(self, training: str, seed: int) -> recipes.Recipe:
        """The recipe of a training; its ``weights`` as the profile has them.

        Raises:
            InputError: the recipe cannot be made.
        """
        changes = dict(self.trainings[training])
        name = changes.pop("recipe")
        if changes.get("weights") in self.trainings:  # a path by then
            del changes["weights"]
        model = recipes.find(name).get("model")
        if model is None:
            raise InputError(f"profile {self.name}: recipe {name} names no model")
        return recipes.compose(model, name, **changes | {"seed": seed})

    def parent(self, training: str) -> str | None:
        """The training whose weights a training starts from, or None."""
        weights = self.trainings[training].get("weights")
        return weights if weights in self.trainings else None


_KEYS = {"test": str, "seeds": list, "repeats": int, "trainings": dict}


def shipped() -> dict[str, Path]:
    """The profiles that come with kfeat, by name."""
    return {file.stem: file for file in recipes.folder().glob("profiles/*.toml")}


def read(name: str) -> Profile:
    """Read a profile: one that comes with kfeat, by its name, or a file.

    Raises:
        InputError: it cannot be read, or something in it cannot be used.
    """
    path = shipped().get(name) or expand(name)
    try:
        values = from_toml(path.read_text("utf-8"))
    except OSError as error:
        there = ", ".join(sorted(shipped()))
        raise InputError(
            f"profile {name} cannot be read ({error.strerror}): choose one of {there}, or a file"
        ) from None
    except ValueError as error:
        raise InputError(f"profile {name} is not valid TOML: {error}") from None
    tables = published.tables()
    known = (*_KEYS, "note", *tables)
    for key in values:
        if key not in known:
            raise InputError(f"profile {name}: unknown key {key!r}{nearest(key, known)}")
    for key, kind in _KEYS.items():
        if not isinstance(values.get(key), kind):
            raise InputError(f"profile {name}: {key} is missing, or of the wrong type")
    if not isinstance(values.get("note", ""), str):
        raise InputError(f"profile {name}: note must be a text")
    seeds, repeats = values["seeds"], values["repeats"]
    if not seeds or not all(type(seed) is int and 0 <= seed < 2**31 for seed in seeds):
        raise InputError(f"profile {name}: seeds must be whole numbers from 0 on, at least one")
    if len({*seeds}) < len(seeds):
        raise InputError(f"profile {name}: seeds {seeds}: one stands there twice")
    if type(repeats) is not int or repeats < 1:
        raise InputError(f"profile {name}: repeats must be a whole number, 1 or more")
    for training, changes in values["trainings"].items():
        where = f"profile {name}: training {training}"
        if not re.fullmatch(r"\w[\w .+-]*", training) or training in ("none", "imagenet"):
            raise InputError(
                f"profile {name}: training {training!r}: folders are called after it, and weights: "
                "take letters, digits and .+-_, and neither none nor imagenet"
            )
        if not isinstance(changes, dict) or not isinstance(changes.get("recipe"), str):
            raise InputError(f"{where} names no recipe")
        if "seed" in changes:
            raise InputError(f"{where}: seed: the profile's seeds decide it, leave it out")
        if "model" in changes:
            raise InputError(f"{where}: model: the recipe decides it, leave it out")
        recipes.checked({k: v for k, v in changes.items() if k != "recipe"}, where)
    for table, rows in tables.items():
        if not isinstance(values.get(table, {}), dict):
            raise InputError(f"profile {name}: {table} must be a table of rows")
        for row, training in values.get(table, {}).items():
            if row not in rows:
                raise InputError(
                    f"profile {name}: {table} has no row {row!r}{nearest(row, list(rows))}"
                )
            if not isinstance(training, str) or training not in values["trainings"]:
                raise InputError(
                    f"profile {name}: {table} {row}: no training {training!r}"
                    + nearest(str(training), list(values["trainings"]))
                )
    profile = Profile(
        name=path.stem,
        test=values["test"],
        seeds=tuple(seeds),
        repeats=repeats,
        trainings=values["trainings"],
        tables={table: values.get(table, {}) for table in tables},
        note=" ".join(values.get("note", "").split()),
    )
    for training in profile.trainings:
        recipe = profile.recipe(training, profile.seeds[0])
        if recipe.resize != "crop":
            raise InputError(
                f"profile {name}: training {training}: resize {recipe.resize!r}: its test images "
                "are cropped, take 'crop'"
            )
        line = [training]
        while parent := profile.parent(line[-1]):
            if parent in line:
                raise InputError(f"profile {name}: training {training} starts from itself")
            of = profile.recipe(parent, profile.seeds[0]).model
            if of != recipe.model:
                raise InputError(
                    f"profile {name}: training {training} is of {recipe.model} and cannot start "
                    f"from {parent}, of {of}"
                )
            line.append(parent)
    return profile
