"""Single dimensions: what one changed number does, by dose, and what the model says."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from hf_langcore.data.mini import mini_corpora
from hf_langcore.editing import scale_dimension, set_dimension
from hf_langcore.errors import InputError
from hf_langcore.evaluation import evaluate_perplexity
from hf_langcore.masks import bits_of
from hf_langcore.recipes.bench.texts import Texts
from hf_langcore.recipes.bench.workbench import Bench, BenchSettings
from hf_langcore.recipes.paper.single_points import Point, critical, dose, points, strongest_norms
from hf_langcore.recipes.pretraining import TinyModel, pretrain
from hf_langcore.report.parts import Spread

NORM = "model.layers.0.input_layernorm.weight"
TEXTS = Texts(
    mini_corpora(["en", "zh"], sentences=160),
    mini_corpora(["en", "zh"], sentences=40, start=160),
    "mini",
    is_generated=True,
)


@pytest.fixture(scope="module")
def tiny() -> Any:
    shape = TinyModel(vocab_size=300, hidden_size=32, intermediate_size=48, layers=2, heads=2, block_size=32, steps=12)
    return pretrain(TEXTS.train, shape=shape, progress=False)


@pytest.fixture
def bench(tiny: Any, tmp_path: Path) -> Bench:
    return Bench(*tiny, TEXTS, output=tmp_path, settings=BenchSettings(block_size=32, test_tokens=80))


def mean(bench: Bench) -> float:
    texts = dict(TEXTS.test)
    report = evaluate_perplexity(bench.model, bench.tokenizer, texts, block_size=32, max_tokens=80, progress=False)
    return report.mean()


def test_points_are_real_edits(bench: Bench) -> None:
    """The named dimension, the same index in the norms beside it, and others of the same norm; every bit comes back."""
    before = {name: bits_of(parameter).clone() for name, parameter in bench.model.named_parameters()}
    section = points(bench, dimensions=("model.layers.0.input_layernorm:5",), factor=30.0, controls=2)
    rows = section.part("points").rows
    assert [row[1] for row in rows] == ["examined", "control", "control", "control"]
    assert rows[1][0] == "model.layers.1.input_layernorm 5"
    assert all(row[0].startswith("model.layers.0.input_layernorm ") for row in rows[2:])
    assert rows[0][2] == pytest.approx(bench.model.get_parameter(NORM)[5].item())
    assert rows[0][3] == pytest.approx(mean(bench))
    with set_dimension(bench.model, NORM, 5, value=1.0):
        assert rows[0][4] == pytest.approx(mean(bench))
    with scale_dimension(bench.model, NORM, 5, factor=30.0):
        assert rows[0][5] == pytest.approx(mean(bench))
    assert all(bits_of(parameter).equal(before[name]) for name, parameter in bench.model.named_parameters())


def test_the_dose(bench: Bench) -> None:
    """Every language at every factor, a random dimension beside it, and generations that differ only where the edit does."""
    section = dose(
        bench,
        dimension=f"{NORM}:5",
        factors=(0.0, 1.0, 50.0),
        prompts=("The teacher", "A"),
        said_at=(1.0, 50.0),
        max_new_tokens=4,
    )
    curves, table = section.part("dose"), section.part("dose_table")
    assert curves.x == (0.0, 1.0, 50.0)
    assert set(curves.lines) == {"mean", "en", "zh", "mean, random other dimension"}
    assert curves.lines["mean"][1] == pytest.approx(mean(bench))
    assert curves.lines["mean, random other dimension"][1] == curves.lines["mean"][1]
    assert curves.lines["mean"][2] != curves.lines["mean"][1]
    assert [row[0] for row in table.rows] == ["en", "zh", "mean"]
    assert table.rows[2][2] == pytest.approx(math.sqrt(table.rows[0][2] * table.rows[1][2]))
    said = section.part("said_0")
    assert list(said.texts) == ["x1", "x50"]
    assert said.prompt == "The teacher"
    assert not said.texts["x1"].startswith("The teacher")
    assert said.figures["x50"].startswith("perplexity ")
    assert section.part("said_1").prompt == "A"


def test_matrices_need_an_axis(bench: Bench) -> None:
    """As `scale_dimension` says; then rows are scaled, and there is a control of the same axis."""
    name = "model.layers.0.mlp.down_proj"
    with pytest.raises(InputError, match="which axis"):
        dose(bench, dimension=f"{name}:3", factors=(1.0,), prompts=())
    section = dose(bench, dimension=f"{name}:3", axis=1, factors=(0.0,), prompts=())
    with scale_dimension(bench.model, name, 3, factor=0.0, axis=1):
        assert section.part("dose").lines["mean"][0] == pytest.approx(mean(bench))


def test_without_a_name_a_scan_chooses(bench: Bench) -> None:
    """The strongest norm dimensions of a scan, which is kept."""
    chosen = strongest_norms(bench, 2)
    assert len(chosen) == 2
    assert all(isinstance(one, Point) and "norm" in one.name for one in chosen)
    assert strongest_norms(bench, 1) == chosen[:1]
    assert dose(bench, factors=(1.0,), prompts=()).facts["dimension"]["name"] == chosen[0].name


def test_the_scan(bench: Bench) -> None:
    """Figures are those of the edits; everything that was measured is counted."""
    section = critical(bench, candidates=12, confirm=4, controls=1, tokens=80)
    table = section.part("dimensions")
    assert len(table.rows) >= 4
    assert isinstance(table.rows[0][4], Spread)
    assert "12 norm gains" in section.text[0] or int(section.text[0].split()[0]) > 0


@pytest.mark.parametrize("given", ["model.norm", "model.norm:x", ":3"])
def test_names_that_are_none(bench: Bench, given: str) -> None:
    """The message shows how one is written; an index out of range is named."""
    with pytest.raises(InputError, match=r"name:index|no parameter"):
        points(bench, dimensions=(given,))


def test_bad_doses(bench: Bench) -> None:
    with pytest.raises(InputError, match="0 to 31"):
        points(bench, dimensions=("model.norm:32",))
    with pytest.raises(InputError, match="ascending"):
        dose(bench, dimension="model.norm:3", factors=(2.0, 1.0))
