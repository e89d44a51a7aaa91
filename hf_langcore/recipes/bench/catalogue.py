"""The experiments by name: what `langcore recipe` runs."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from hf_langcore.errors import InputError
from hf_langcore.report.parts import Section


@dataclass(frozen=True, slots=True)
class Recipe:
    """One experiment.

    Attributes:
        name: On the command line.
        title: What it asks.
        home: Module and function, imported when it runs.
        cost: What it takes beside the others; minutes on the model and machine of docs/report.
        group: "paper" for what the paper and the talk say of the core, "lab" for the language lab.
        reads_companions: It depends on the treebanks and the encoder of the bench.
    """

    name: str
    title: str
    home: str
    cost: float = 1.0
    group: str = "paper"
    reads_companions: bool = False

    def function(self) -> Callable[..., Section]:
        """The function: `function(bench, *, sizes...) -> Section`."""
        module, _, name = self.home.partition(":")
        found: Callable[..., Section] = getattr(importlib.import_module(f"hf_langcore.recipes.{module}"), name)
        return found

    def sizes(self) -> dict[str, Any]:
        """Names and default values of what can be set."""
        parameters = list(inspect.signature(self.function()).parameters.values())[1:]
        return {one.name: one.default for one in parameters}


def _lab(name: str, title: str, home: str, *, syntax: bool = False, cost: float = 8.0) -> Recipe:
    return Recipe(name, title, f"lab.{home}", cost, group="lab", reads_companions=syntax)


RECIPES: dict[str, Recipe] = {
    recipe.name: recipe
    for recipe in (
        Recipe("table", "Top, bottom and random regions set to zero, in every language", "paper.table:region_table"),
        Recipe("core", "Where the core lies: matrices, layers, roles", "paper.structure:core_structure"),
        Recipe(
            "languages",
            "Regions of single languages: overlap, and what their removal does",
            "paper.structure:languages",
        ),
        Recipe("scan", "Critical dimensions", "paper.single_points:critical"),
        Recipe("points", "Single norm weights reset to 1 and multiplied by 10", "paper.single_points:points"),
        Recipe("dose", "One dimension at factors from 0 to 10, and what the model says", "paper.single_points:dose"),
        Recipe("sink", "Sink or language?", "paper.sink:sink_or_language"),
        Recipe("changes", "Further pretraining in each language: what changes", "paper.further_changes:changes"),
        Recipe("recovery", "A destroyed core, trained again: frozen and free", "paper.recovery:recovery"),
        Recipe("epochs", "What one, two and five epochs do to the languages", "paper.epochs:epochs"),
        Recipe("noise", "What runs of repeated words do", "paper.noise:noise"),
        _lab("probes", "What each layer says about words, in other languages, too", "probes:probes", syntax=True),
        _lab("alignment", "How alike languages arrange their relations", "alignment:alignment", syntax=True),
        _lab(
            *("syntax_without_core", "Syntax without the core", "syntax_without_core:syntax_without_core"), syntax=True
        ),
        _lab("knowledge", "What is lost first, syntax or facts?", "knowledge:syntax_or_facts"),
        _lab("compression", "Bits per byte in every language, and the text back again", "compression:compression"),
        _lab("transfer", "Further pretraining in one language, and tokens of its own", "transfer:transfer"),
        _lab("switching", "How often the model leaves the language of the prompt", "switching:switching"),
        _lab("retention", "What each way of fine-tuning learns and forgets", "retention:retention", cost=20),
    )
}


def find_recipe(name: str) -> Recipe:
    """The recipe of this name.

    Raises:
        InputError: There is none.
    """
    if name not in RECIPES:
        raise InputError(
            f"There is no recipe {name!r}. There are {', '.join(RECIPES)}, and 'paper' and 'lab', which run all of a kind."
        )
    return RECIPES[name]


def checked_sizes(recipe: Recipe, given: Mapping[str, Any]) -> dict[str, Any]:
    """The sizes that a recipe is to be run with: its own, and those given.

    Raises:
        InputError: The recipe has no such size.
    """
    known = recipe.sizes()
    for name in given:
        if name not in known:
            raise InputError(f"The recipe {recipe.name!r} has no size {name!r}. It has {', '.join(known) or 'none'}.")
    return {**known, **given}
