"""Experiments by name: sizes, keeping, going on, failing one by one."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from hf_langcore.errors import ConfigurationError, InputError, UnsupportedModelError
from hf_langcore.probing.treebanks import Sentence
from hf_langcore.recipes.bench import catalogue, runner
from hf_langcore.recipes.bench.catalogue import RECIPES, Recipe, checked_sizes, find_recipe
from hf_langcore.recipes.bench.runner import run_recipe, run_recipes
from hf_langcore.recipes.bench.texts import Texts
from hf_langcore.recipes.bench.workbench import Bench, BenchSettings
from hf_langcore.report import Section, Table, read_sections


@pytest.fixture
def bench(llama: Any, tokenizer: Any, texts: dict[str, list[str]], tmp_path: Path) -> Bench:
    parted = Texts(
        {name: each[:2] for name, each in texts.items()}, {name: each[2:] for name, each in texts.items()}, "tiny"
    )
    return Bench(llama, tokenizer, parted, output=tmp_path, settings=BenchSettings(block_size=16))


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, Any]]:
    """Two recipes, one of which can fail, in the catalogue's place; what was run is listed."""
    calls: list[tuple[str, Any]] = []

    def counting(bench: Bench, *, counts: Sequence[int] = (1, 2), language: str = "en") -> Section:
        calls.append(("counting", tuple(counts)))
        rows = tuple((str(count), count) for count in counts)
        return Section("counting", "Counting", (language,), (Table("counts", "Counts", ("count", "n"), rows),))

    def failing(bench: Bench) -> Section:
        calls.append(("failing", None))
        raise UnsupportedModelError("The model has no norm weights.")

    functions = {"counting": counting, "failing": failing}
    recipes = {name: Recipe(name, name.title(), name, 2.0) for name in functions}
    monkeypatch.setattr(Recipe, "function", lambda self: functions[self.name])
    for module in (catalogue, runner):
        monkeypatch.setattr(module, "RECIPES", recipes)
    return calls


def test_a_finished_experiment_is_kept(bench: Bench, ran: list[Any]) -> None:
    """The same sizes are read from the folder; other sizes, or a damaged file, are run again."""
    first = run_recipe(bench, "counting")
    assert run_recipe(bench, "counting", {"counts": (1, 2)}) == first
    assert len(ran) == 1
    other = run_recipe(bench, "counting", {"counts": (3,)})
    assert other.part("counts").rows == (("3", 3),)
    path = bench.output / "sections" / "counting.json"
    path.write_text(path.read_text().replace('"3"', '"4"'))
    assert run_recipe(bench, "counting", {"counts": (3,)}).part("counts").rows == (("3", 3),)
    assert len(ran) == 3


def test_treebanks_and_encoder_count_where_they_are_read(
    bench: Bench, ran: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An experiment on syntax is run again with another treebank; the others are not."""
    for reads, runs in ((False, 1), (True, 3)):
        recipe = Recipe("counting", "Counting", "counting", reads_companions=reads)
        monkeypatch.setitem(catalogue.RECIPES, "counting", recipe)
        for word in ("a", "b", "b"):
            bench.treebanks = {"en": [Sentence((word,), ("NOUN",), (-1,), ("root",), None, "", 1)]}
            bench.__dict__.pop("companions", None)
            run_recipe(bench, "counting")
        assert len(ran) == runs


def test_one_failure_does_not_stop_the_others(bench: Bench, ran: list[Any]) -> None:
    """It is named, with the reason."""
    said: list[str] = []
    run = run_recipes(bench, only=["failing", "counting"], sizes={"counting": {"counts": (5,)}}, tell=said.append)
    assert [one.name for one in run.sections] == ["counting"]
    assert run.failed == {"failing": "The model has no norm weights."}
    assert any("no norm weights" in line for line in said)
    assert [one.parts for one in read_sections(bench.output)] == [one.parts for one in run.sections]
    again = run_recipes(bench, sizes={"counting": {"counts": (5,)}}, tell=said.append)
    assert again.sections == run.sections
    assert [name for name, _ in ran] == ["failing", "counting", "failing"]


def test_wrong_names_and_sizes_are_known_before_anything_runs(bench: Bench, ran: list[Any]) -> None:
    """And the message says which there are."""
    with pytest.raises(InputError, match="counting, failing"):
        run_recipes(bench, only=["counting", "nothing"])
    with pytest.raises(InputError, match="counts, language"):
        run_recipes(bench, sizes={"counting": {"count": 1}})
    with pytest.raises(InputError, match="numbers"):
        run_recipe(bench, "counting", {"language": object()})
    assert not ran


@pytest.mark.parametrize("name", list(RECIPES))
def test_every_recipe_of_the_catalogue_can_be_called(name: str) -> None:
    """Its function exists, takes a bench first, and all its sizes have values."""
    sizes = find_recipe(name).sizes()
    assert sizes
    assert checked_sizes(find_recipe(name), {}) == sizes
    json.dumps(sizes)


def test_a_folder_holds_one_model(bench: Bench, ran: list[Any], llama: Any, tokenizer: Any) -> None:
    """Experiments of another model or other settings would stand in one report as if they were one."""
    run_recipe(bench, "counting")
    for settings, message in ((BenchSettings(block_size=17), "other settings"), (bench.settings, "another model")):
        if message == "another model":
            llama.lm_head.weight.data[0, 0] += 1
        other = Bench(llama, tokenizer, bench.texts, output=bench.output, settings=settings)
        for run in (lambda other=other: run_recipe(other, "counting"), lambda other=other: run_recipes(other)):
            with pytest.raises(ConfigurationError, match=message):
                run()
    assert len(ran) == 1
