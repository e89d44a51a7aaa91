"""Tables of changes, from figures made by hand."""

from __future__ import annotations

import pytest
import torch

from hf_langcore.evaluation import LanguageScore, PerplexityReport
from hf_langcore.masks import CoreMask
from hf_langcore.recipes.paper.further_change_tables import (
    bits_table,
    effect_matrix,
    jaccard_matrix,
    quantile_table,
    removal_table,
    union_parts,
)
from hf_langcore.recipes.paper.further_statistics import TensorStatistics

QUANTILES = (0.0, 0.1, 0.2, 0.3, 0.4)
STATISTICS = {
    "model.layers.0.mlp.up_proj.weight": TensorStatistics(
        10, (8, 4), {"en": (6, 2), "zh": (5, 3)}, {"en": QUANTILES, "zh": QUANTILES}
    ),
    "model.layers.2.mlp.up_proj.weight": TensorStatistics(
        30, (30, 3), {"en": (12, 0), "zh": (30, 3)}, {"en": QUANTILES, "zh": (0.4, 0.5, 0.6, 0.7, 0.8)}
    ),
    "model.layers.2.norm.weight": TensorStatistics(4, (1, 0), {"en": (1, 0), "zh": (0, 0)}, {"en": QUANTILES}),
}


def test_unions() -> None:
    """The talk's table of the first two layers, and each threshold for all; a kind that a layer lacks is left empty."""
    parts = union_parts(STATISTICS, (0.01, 0.05), ("en", "zh"))
    assert [part.name for part in parts] == ["union", "union_1", "union_5", "languages_1", "languages_5"]
    table, one, five, own, _ = parts
    assert table.columns == ("tensor", "layer 0, > 1 %", "layer 0, > 5 %", "layer 2, > 1 %", "layer 2, > 5 %")
    assert table.rows == (("up_proj", 80.0, 40.0, 100.0, 10.0), ("norm", None, None, 25.0, 0.0))
    assert (one.rows, one.columns) == (("up_proj", "norm"), ("0", "2"))
    assert one.values == ((0.8, 1.0), (None, 0.25))
    assert five.values == ((0.4, 0.1), (None, 0.0))
    assert own.values == ((18 / 40, 35 / 40), (0.25, 0.0))


def test_quantiles_and_bits() -> None:
    """Means over layers and languages; shares over all weights of a kind."""
    assert quantile_table(STATISTICS).rows[0][1:] == pytest.approx((10.0, 20.0, 30.0, 40.0, 50.0))
    run = {
        "bits": {"model.layers.0.mlp.up_proj.weight": [10, 10, 4], "model.layers.1.mlp.up_proj.weight": [30, 20, 0]}
    }
    other = {
        "bits": {"model.layers.0.mlp.up_proj.weight": [10, 0, 0], "model.layers.1.mlp.up_proj.weight": [30, 30, 0]}
    }
    assert bits_table({"en": run, "zh": other}).rows == (("up_proj", 75.0, 5.0),)


def test_effects_and_overlaps() -> None:
    """Rises by language, and Jaccard indices both ways."""
    effect = effect_matrix({"zh": {"losses": {"en": 3.5, "zh": "inf"}}}, {"en": 3.0, "zh": 4.0})
    assert (effect.rows, effect.columns) == (("en", "zh"), ("zh",))
    assert effect.values == ((0.5,), (float("inf"),))
    masks = {
        "a": CoreMask({"w": torch.tensor([True, True, False, False])}),
        "b": CoreMask({"w": torch.tensor([True, False, False, False])}),
    }
    overlap = jaccard_matrix(masks, 0.5)
    assert overlap.values == ((1.0, 0.5), (0.5, 1.0))
    assert "0.3333" in overlap.note


def test_removal_ends_with_the_mean() -> None:
    reports = {
        name: PerplexityReport({name: {"en": LanguageScore(loss, 5), "zh": LanguageScore(loss + 2, 5)}})
        for name, loss in (("base", 1.0), ("taylor", 3.0))
    }
    table = removal_table(reports)
    assert table.last_is_total
    assert table.rows[0] == ("en", reports["base"].perplexity["en"], reports["taylor"].perplexity["en"])
    assert table.rows[-1] == ("mean (geometric)", reports["base"].mean(), reports["taylor"].mean())
