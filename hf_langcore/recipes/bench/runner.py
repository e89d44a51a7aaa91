"""Run one experiment or all of them, keep what each found, and go on where an earlier run was stopped."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hf_langcore.errors import ConfigurationError, InputError, LangCoreError
from hf_langcore.files import replace_text
from hf_langcore.recipes.bench.catalogue import RECIPES, Recipe, checked_sizes, find_recipe
from hf_langcore.recipes.bench.workbench import Bench
from hf_langcore.report.parts import Section
from hf_langcore.report.writing import SECTIONS
from hf_langcore.sealing import is_intact, sealed

_SAID = {
    "model": "another model",
    "texts": "other texts",
    "settings": "other settings (tokens, blocks, fraction, seed)",
}


@dataclass(frozen=True, slots=True)
class RecipesRun:
    """What a run of several experiments gave.

    Attributes:
        sections: What they found, in the order of the catalogue.
        failed: Experiment -> why it gave nothing.
        seconds: What this run took; what was kept from an earlier one takes none.
    """

    sections: tuple[Section, ...]
    failed: Mapping[str, str]
    seconds: float


def run_recipe(bench: Bench, name: str, sizes: Mapping[str, Any] | None = None) -> Section:
    """Run one experiment, or read what it found in an earlier run with the same model, texts and sizes.

    Args:
        bench: Model, texts and folder.
        name: A name of the catalogue.
        sizes: Sizes that differ from the experiment's own.

    Raises:
        InputError: There is no such experiment or size.
    """
    recipe = find_recipe(name)
    options = {key: _plain(value) for key, value in checked_sizes(recipe, sizes or {}).items()}
    path = bench.output / SECTIONS / f"{name}.json"
    _require_own_folder(bench)
    if recipe.reads_companions:
        options |= {"companions": bench.companions}
    known = _read(path, {"options": options, "bench": bench.identity})
    if known is not None:
        return known
    started, before = time.perf_counter(), bench.seconds_before
    section = recipe.function()(bench, **dict(sizes or {}))
    took = time.perf_counter() - started + bench.seconds_before - before  # of an earlier, unfinished run too
    section = replace(section, seconds=round(took, 1))
    values = sealed({"name": name, "options": options, "bench": bench.identity, "section": section.to_dict()})
    replace_text(path, json.dumps(values, separators=(",", ":"), ensure_ascii=False))  # heat maps are long
    return section


def run_recipes(
    bench: Bench,
    *,
    sizes: Mapping[str, Mapping[str, Any]] | None = None,
    only: Iterable[str] | None = None,
    tell: Callable[[str], object] = print,
) -> RecipesRun:
    """Run all experiments of the catalogue, or some of them.

    One that cannot be run (a model without norm weights, texts that are too short) does not stop the others.

    Args:
        bench: Model, texts and folder; its `progress` shows the time left.
        sizes: Experiment -> sizes that differ from its own.
        only: Names of the experiments; all if None.
        tell: Called with a line for each experiment.

    Raises:
        InputError: There is no such experiment or size.
    """
    chosen = [find_recipe(name) for name in (RECIPES if only is None else only)]
    _require_own_folder(bench)
    own = dict(sizes or {})
    for name, given in own.items():
        checked_sizes(find_recipe(name), given)
    started = time.perf_counter()
    sections, failed = [], {}
    for recipe in chosen:
        with bench.progress.experiment(recipe.name):
            try:
                sections.append(_told(bench, recipe, own.get(recipe.name), tell))
            except LangCoreError as error:
                failed[recipe.name] = str(error)
                tell(f"{recipe.name}: not run. {error}")
    bench.progress.close()
    return RecipesRun(tuple(sections), failed, time.perf_counter() - started)


def _require_own_folder(bench: Bench) -> None:
    """Refuse a folder with experiments of another model, other texts or settings: one report would show them as one.

    Raises:
        ConfigurationError: It is one.
    """
    for path in sorted((bench.output / SECTIONS).glob("*.json")):
        try:
            known = json.loads(path.read_text(encoding="utf-8"))["bench"]
        except (OSError, ValueError, KeyError, TypeError):
            continue  # a damaged section is run again
        other = [key for key, value in bench.identity.items() if isinstance(known, dict) and known.get(key) != value]
        if other:
            raise ConfigurationError(
                f"{str(bench.output)!r} holds the experiment {path.stem!r} of {_SAID[other[0]]}. Name another folder, or delete "
                f"{str(bench.output / SECTIONS)!r}: what was measured is kept beside it."
            )


def _told(bench: Bench, recipe: Recipe, sizes: Mapping[str, Any] | None, tell: Callable[[str], object]) -> Section:
    started = time.perf_counter()
    section = run_recipe(bench, recipe.name, sizes)
    now = time.perf_counter() - started
    kept = "" if now >= section.seconds / 2 else f" (kept from an earlier run, which took {section.seconds:.0f} s)"
    tell(f"{recipe.name}: {recipe.title}, {now:.0f} s{kept}")
    return section


def _read(path: Path, expected: Mapping[str, Any]) -> Section | None:
    """The section in a file; None where it is missing, damaged or of other sizes."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if not is_intact(found) or any(found.get(key) != value for key, value in expected.items()):
            return None
        return Section.from_dict(found["section"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _plain(value: Any) -> Any:
    """As JSON gives it back."""
    try:
        return json.loads(json.dumps(value))
    except (TypeError, ValueError) as error:
        raise InputError(f"Sizes are numbers, words and lists of these, got {value!r}.") from error
