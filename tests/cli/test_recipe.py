"""`langcore recipe`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from hf_langcore.recipes.bench import catalogue, runner
from hf_langcore.recipes.bench.catalogue import RECIPES, Recipe
from hf_langcore.recipes.bench.workbench import Bench
from hf_langcore.report.parts import Section, Table


@pytest.fixture
def one_recipe(monkeypatch: pytest.MonkeyPatch) -> None:
    """A recipe that measures one condition, in the catalogue's place."""

    def points(
        bench: Bench,
        *,
        factors: tuple[float, ...] = (0.0, 10.0),
        language: str | None = None,
        count: int = 1,
        raw: bool = True,
    ) -> Section:
        base = bench.measure("base").mean()
        row = (f"{factors} {language} {count} {raw} {bench.core_languages} {bench.settings.test_tokens}", base)
        return Section("points", "Points", ("What was done.",), (Table("t", "Points", ("sizes", "base"), (row,)),))

    recipes = {"points": Recipe("points", "Points", "points")}
    monkeypatch.setattr(Recipe, "function", lambda _self: points)
    for module in (catalogue, runner):
        monkeypatch.setattr(module, "RECIPES", recipes)


@pytest.mark.usefixtures("one_recipe")
def test_sizes_and_texts_reach_the_recipe(langcore: Any, model_folder: str, texts_folder: str) -> None:
    """Each value is of the kind that the size has; the folder is kept and gone on with."""
    given = ["--set", "factors=1,2.5", "--set", "language=zh", "--set", "count=3", "--set", "raw=false"]
    options = [
        "--model",
        model_folder,
        "--data",
        texts_folder,
        "--output",
        "out",
        "--test-tokens",
        20,
        "--block-size",
        16,
    ]
    ran = langcore("recipe", "points", *options, *given, "--core-languages", "en,zh", "--json", "--quiet")
    assert ran.code == 0, ran.err
    row = json.loads(ran.out)["sections"][0]["parts"][0]["rows"][0]
    assert row[0] == "(1.0, 2.5) zh 3 False ('en', 'zh') 20"
    several = langcore(
        "recipe", "points", *options, "--set", "language=zh,en", "--core-languages", "en,zh", "--json", "--quiet"
    )
    assert "('zh', 'en') 1 True" in json.loads(several.out)["sections"][0]["parts"][0]["rows"][0][0]
    assert Path("out/sections/points.json").is_file()
    options[options.index("out")] = "out2"
    shown = langcore("recipe", "paper", *options, "--set", "points.count=4", "--only", "points", "--quiet")
    assert shown.code == 0, shown.err
    assert "(0.0, 10.0) None 4 True" in " ".join(shown.out.split())
    assert "langcore report out2 --output out2-report" in " ".join(shown.out.split())


@pytest.mark.usefixtures("one_recipe")
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nothing", "--model", "m"], "no recipe 'nothing'"),
        (["points"], "--model"),
        (["points", "--model", "m", "--only", "points"], "--only"),
        (["points", "--model", "m", "--set", "count"], "size=value"),
        (["paper", "--model", "m", "--set", "count=1"], "recipe.size=value"),
        (["points", "--model", "m", "--set", "count=many"], "no value like 1"),
    ],
)
def test_wrong_usage(langcore: Any, arguments: list[str], message: str) -> None:
    """Is known before a model is loaded."""
    ran = langcore("recipe", *arguments)
    assert ran.code == 2
    assert message in " ".join(ran.err.split())


@pytest.mark.usefixtures("one_recipe")
def test_what_fails_is_named(langcore: Any, model_folder: str) -> None:
    """Unknown sizes, and languages without texts."""
    ran = langcore("recipe", "points", "--model", model_folder, "--set", "sizes=1")
    assert (ran.code, "factors, language, count, raw" in ran.err) == (1, True)
    ran = langcore("recipe", "points", "--model", model_folder, "--languages", "xx")
    assert (ran.code, "xx" in ran.err) == (1, True)


def test_the_list(langcore: Any) -> None:
    """Without a name the experiments are listed, with their questions and sizes."""
    ran = langcore("recipe", "--json")
    assert ran.code == 0, ran.err
    listed = json.loads(ran.out)
    assert list(listed) == list(RECIPES)
    assert all(one["title"] for one in listed.values())
    assert "Sink or language?" in langcore("recipe").out
