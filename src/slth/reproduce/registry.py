"""All experiments by name."""

from __future__ import annotations

import difflib

from slth.errors import ArgumentError
from slth.reproduce import beyond, burkholz, dacunha, head, malach, orseau, pensia, zhang
from slth.reproduce.experiment import Experiment

EXPERIMENTS: dict[str, Experiment] = {
    experiment.name: experiment
    for module in (malach, zhang, orseau, burkholz, head, dacunha, pensia, beyond)
    for experiment in module.EXPERIMENTS
}
"""In the order in which the papers appeared; Pensia et al. and what goes beyond them last."""


def find(name: str) -> Experiment:
    """The experiment of a name.

    Raises
    ------
    ArgumentError
        If there is none; it names those that are meant, or else the nearest.
    """
    if name in EXPERIMENTS:
        return EXPERIMENTS[name]
    letters = {_letters(each): each for each in EXPERIMENTS}
    near = [each for key, each in letters.items() if _letters(name) and _letters(name) in key]
    if not near:
        near = [letters[key] for key in difflib.get_close_matches(_letters(name), letters, 1, 0.0)]
    raise ArgumentError("name", repr(name), "an experiment of the list that slth reproduce prints", " or ".join(near))


def _letters(name: str) -> str:
    """Letters and digits alone: how a name is remembered."""
    return "".join(letter for letter in name.lower() if letter.isalnum())
