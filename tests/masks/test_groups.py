"""Whole rows, columns, heads and layers: chosen by their scores, counted as weights are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch

from hf_langcore.errors import ConfigurationError, CoreMaskMismatchError, InputError, NonFiniteError
from hf_langcore.masks import CoreMask, ImportanceScores, Provenance
from hf_langcore.masks.groups import Slab, layer_of


@dataclass
class Heads:
    slabs: tuple[Slab, ...]


def random_scores(**shapes: tuple[int, ...]) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {name: torch.rand(shape, generator=generator) for name, shape in shapes.items()}


def best(values: np.ndarray, count: int, which: str = "top") -> list[int]:
    """The groups to be chosen, by a stable sort: ties by lowest index."""
    return sorted(np.argsort(-values if which == "top" else values, kind="stable")[:count].tolist())


@pytest.mark.parametrize("fraction", [0.1, 0.34, 0.5, 0.99])
@pytest.mark.parametrize("which", ["top", "bottom"])
def test_rows_and_columns_are_chosen_by_their_sums(fraction: float, which: str) -> None:
    """int(fraction x number of them), whole, by the sum of scores; a matrix that is stored (in, out) the other way."""
    scores = ImportanceScores(random_scores(a=(7, 13), b=(7, 13)), provenance=Provenance(transposed=("b",)))
    for granularity in ("rows", "columns"):
        mask = CoreMask.from_scores(scores, fraction=fraction, which=which, granularity=granularity)
        for name, values in scores.items():
            axis = int(granularity == "columns") if name == "a" else int(granularity == "rows")
            sums = values.double().sum(1 - axis).numpy()
            expected = torch.zeros(7, 13, dtype=torch.bool)
            expected.index_fill_(
                axis, torch.tensor(best(sums, int(fraction * len(sums)), which), dtype=torch.long), True
            )
            assert torch.equal(mask[name], expected)


def test_sums_are_not_rounded() -> None:
    """A column that is larger by less than float32 can tell of the sum is still the larger one."""
    values = torch.full((4, 3), 2.0**24)
    values[0, 2] = values[0, 2] + 2
    values[:, 0] -= 1
    assert CoreMask.from_scores({"w": values}, fraction=0.4, granularity="columns")["w"].all(0).tolist() == [
        False,
        False,
        True,
    ]


def test_ties_go_to_the_lowest_index() -> None:
    """As for weights."""
    scores = {f"m.{layer}.w": torch.ones(4, 6) for layer in range(4)}
    columns = CoreMask.from_scores(scores, fraction=0.5, granularity="columns")
    assert columns["m.0.w"].all(0).tolist() == [True] * 3 + [False] * 3
    layers = CoreMask.from_scores(scores, fraction=0.5, granularity="layers")
    assert [bool(layers[name].all()) for name in scores] == [True, True, False, False]


@pytest.mark.parametrize("granularity", ["rows", "columns"])
def test_vectors_are_chosen_by_entries(granularity: str) -> None:
    """A norm weight or a bias is a dimension of its own."""
    scores = {"v": torch.tensor([1.0, 5.0, 2.0, 4.0])}
    mask = CoreMask.from_scores(scores, fraction=0.5, granularity=granularity)
    assert mask == CoreMask.from_scores(scores, fraction=0.5)


def test_stacks_have_rows_and_columns_in_each_matrix() -> None:
    """Experts that are one tensor: the best rows of all experts together, each whole."""
    scores = random_scores(experts=(3, 4, 5))
    rows = CoreMask.from_scores(scores, fraction=0.5, granularity="rows")["experts"]
    sums = scores["experts"].double().sum(2).numpy().reshape(-1)
    assert rows.all(2).view(-1).nonzero().view(-1).tolist() == best(sums, 6)
    assert int(rows.sum()) == 6 * 5
    columns = CoreMask.from_scores(scores, fraction=0.5, granularity="columns")["experts"]
    sums = scores["experts"].double().sum(1).numpy().reshape(-1)
    assert columns.all(1).view(-1).nonzero().view(-1).tolist() == best(sums, 7)


def test_layers_are_chosen_by_their_mean() -> None:
    """A layer with more weights is not better for that; tensors outside layers are covered and not chosen."""
    scores = {
        "embed": torch.full((4, 2), 9.0),
        "h.0.w": torch.full((10, 10), 1.0),
        "h.1.w": torch.full((2, 2), 3.0),
        "h.1.b": torch.full((4,), 1.0),
        "h.2.mlp.7.w": torch.full((10, 10), 1.5),
        "h.10.w": torch.tensor(0.5),
    }
    mask = CoreMask.from_scores(scores, fraction=0.5, granularity="layers")
    assert {name for name in mask if mask[name].all()} == {"h.1.w", "h.1.b", "h.2.mlp.7.w"}
    assert mask.count() == 108
    lowest = CoreMask.from_scores(scores, fraction=0.25, which="bottom", granularity="layers")
    assert lowest["h.10.w"]
    assert lowest.count() == 1


def test_heads_are_chosen_by_their_mean_over_all_their_slabs() -> None:
    """Rows of some tensors and columns of others together, of the whole model."""
    scores = random_scores(q=(8, 6), o=(6, 8), other=(3, 3))
    heads = [Heads((Slab("q", 0, 2 * i, 2 * i + 2), Slab("o", 1, 2 * i, 2 * i + 2))) for i in range(4)]
    means = [
        (scores["q"][2 * i : 2 * i + 2].double().sum() + scores["o"][:, 2 * i : 2 * i + 2].double().sum()) / 24
        for i in range(4)
    ]
    mask = CoreMask.from_scores(scores, fraction=0.5, granularity="heads", heads=heads)
    chosen = best(np.array(means), 2)
    assert mask["q"].all(1).nonzero().view(-1).tolist() == [row for i in chosen for row in (2 * i, 2 * i + 1)]
    assert torch.equal(mask["o"], mask["q"].T)
    assert (mask.count(), mask.count("other")) == (48, 0)


def test_heads_come_with_their_places_and_fit() -> None:
    """No heads, heads for another granularity, or heads of another model."""
    scores, heads = random_scores(q=(8, 6)), [Heads((Slab("q", 0, 0, 4),)), Heads((Slab("q", 0, 4, 8),))]
    with pytest.raises(ConfigurationError, match="attention_heads"):
        CoreMask.from_scores(scores, fraction=0.5, granularity="heads")
    with pytest.raises(ConfigurationError, match="only with it"):
        CoreMask.from_scores(scores, fraction=0.5, granularity="rows", heads=heads)
    with pytest.raises(CoreMaskMismatchError, match=r"reaches to 9 of axis 0"):
        CoreMask.from_scores(scores, fraction=0.5, granularity="heads", heads=[Heads((Slab("q", 0, 5, 9),))])
    with pytest.raises(CoreMaskMismatchError, match=r"1 of 3 groups, the first with 'k'"):
        CoreMask.from_scores(scores, fraction=0.5, granularity="heads", heads=[*heads, Heads((Slab("k", 0, 0, 4),))])


def test_wrong_words_and_scores_are_refused() -> None:
    """Unknown granularities, names without layers, NaN."""
    with pytest.raises(InputError, match=r"\['weights', 'rows', 'columns', 'heads', 'layers'\], got 'blocks'"):
        CoreMask.from_scores({"w": torch.ones(2, 2)}, fraction=0.5, granularity="blocks")
    with pytest.raises(InputError, match="No tensor belongs to a layer"):
        CoreMask.from_scores({"w": torch.ones(2, 2)}, fraction=0.5, granularity="layers")
    for granularity in ("rows", "layers"):
        with pytest.raises(NonFiniteError, match="NaN"):
            CoreMask.from_scores({"h.0.w": torch.full((2, 2), torch.nan)}, fraction=0.5, granularity=granularity)


@pytest.mark.parametrize(
    ("name", "layer"),
    [
        ("model.layers.3.mlp.experts.7.w", "model.layers.3"),
        ("0.weight", "0"),
        ("model.norm.weight", None),
        ("lm_head2.weight", None),
        ("h.12", None),
    ],
)
def test_layers_are_told_by_name(name: str, layer: str | None) -> None:
    """The first component that is a number; experts and the like inside have numbers too."""
    assert layer_of(name) == layer


SCORES: Any = {f"h.{i}.{name}": torch.rand(6, 8) for i in range(5) for name in "ab"} | {"h.0.v": torch.rand(9)}


@pytest.mark.parametrize("granularity", ["rows", "columns", "layers"])
def test_the_random_control_keeps_the_granularity(granularity: str) -> None:
    """As many whole groups, drawn by seed; the same ones that which="random" draws; a control has a control too."""
    source = Provenance(transposed=("h.1.a",))
    options = {"fraction": 0.4, "granularity": granularity, "provenance": source}
    top = CoreMask.from_scores(SCORES, **options)
    drawn = CoreMask.from_scores(SCORES, which="random", seed=3, **options)
    control = top.random_like(seed=3)
    assert control == drawn != top.random_like(seed=4)
    assert control.provenance.granularity == granularity
    assert f"random {granularity} of equal size, seed 3" in control.provenance.summary()
    assert control.random_like(seed=4) == top.random_like(seed=4)
    axis = {"rows": 1, "columns": 0}.get(granularity)
    whole = control["h.2.a"].all(axis).expand(8 if axis == 0 else 6) if axis is not None else control["h.2.a"].all()
    size = 48 if axis is None else {0: 6, 1: 8}[axis]
    assert int(whole.sum()) * size == control.count("h.2.a")
    if granularity == "rows":  # stored (in, out): its rows are the columns of the tensor
        assert int(control["h.1.a"].all(0).sum()) == int(0.4 * 8)


def test_masks_that_are_not_whole_any_more_get_single_weights() -> None:
    """Where a set operation or a cut left parts of groups, or where only a model could tell the groups."""
    heads = [Heads((Slab("h.0.a", 0, 3 * i, 3 * i + 3),)) for i in range(2)]
    top = CoreMask.from_scores(SCORES, fraction=0.5, granularity="heads", heads=heads)
    control = top.random_like(seed=0)
    assert control.count("h.0.a") == top.count("h.0.a") == 24
    assert control.provenance.granularity is None
    layers = CoreMask.from_scores(SCORES, fraction=0.4, granularity="layers")
    spoilt = CoreMask({**layers, "h.0.v": torch.arange(9) < 4}, provenance=layers.provenance)
    assert [spoilt.random_like().count(name) for name in SCORES] == [spoilt.count(name) for name in SCORES]
    columns = CoreMask.from_scores(SCORES, fraction=0.5, granularity="columns")
    spoilt = CoreMask({**columns, "h.0.a": torch.eye(6, 8).bool()}, provenance=columns.provenance)
    assert spoilt.random_like().count("h.0.a") == 6


def test_the_provenance_names_the_granularity(tmp_path: Any) -> None:
    """In words, in the file, and nothing where single weights were chosen."""
    mask = CoreMask.from_scores(SCORES, fraction=0.5, granularity="columns")
    mask.save_pretrained(tmp_path)
    assert CoreMask.from_pretrained(tmp_path).provenance == mask.provenance
    assert mask.provenance.summary() == "given top 50 % of columns"
    assert "granularity" not in CoreMask.from_scores(SCORES, fraction=0.5).provenance.to_dict()
    assert (mask - mask).provenance.granularity is None
