"""Where a mask lies, as parts of a report."""

from __future__ import annotations

import json

import pytest
import torch

from hf_langcore.masks import CoreMask, Provenance
from hf_langcore.recipes.paper.core_parts import (
    concentration_of,
    counts_over_model,
    dimension_table,
    heat_map,
    layer_matrix,
    role_table,
    tensor_table,
)
from hf_langcore.report.parts import HeatMaps, Section
from hf_langcore.roles import roles_of

Q, DOWN, NORM = (
    f"model.layers.{place}.weight" for place in ("0.self_attn.q_proj", "1.mlp.down_proj", "1.input_layernorm")
)


@pytest.fixture
def planted() -> CoreMask:
    """One full row in q, one full column in down, one weight of a norm."""
    q, down, norm = torch.zeros(100, 50), torch.zeros(60, 200), torch.zeros(50)
    q[7], down[:, 30], norm[4] = 1, 1, 1
    return CoreMask({Q: q.bool(), DOWN: down.bool(), NORM: norm.bool()})


def test_concentration(planted: CoreMask) -> None:
    """A planted line holds everything; a random mask of the size does not. Conv1D's columns are outputs."""
    control = planted.random_like(seed=0)
    q = concentration_of(planted, Q, control.packed(Q))
    assert (q.rows, q.columns) == (1.0, 0.02)
    assert q.random_rows < 0.1
    assert q.excess == pytest.approx(1 - q.random_rows)
    down = concentration_of(planted, DOWN, control.packed(DOWN))
    assert down.columns == 1.0
    assert down.rows == pytest.approx(1 / 60)
    turned = planted.with_provenance(Provenance(transposed=(Q,)))
    assert concentration_of(turned, Q, control.packed(Q)).columns == 1.0


def test_heat_map(planted: CoreMask) -> None:
    """Densities by cell, profiles and the densest window, in the orientation of nn.Linear, as JSON and back."""
    found = heat_map(planted, Q, cells=10, detail=5)
    assert found.shape == (100, 50)
    assert found.density == ((0.1,) * 10, *[(0.0,) * 10] * 9)
    assert found.row_profile == (0.1, *[0.0] * 9)
    assert found.column_profile == (0.01,) * 10
    assert found.detail is not None
    row, column, window = found.detail
    assert (row <= 7 < row + 5, column) == (True, 0)
    assert window[7 - row] == (1,) * 5
    assert sum(map(sum, window)) == 5
    turned = heat_map(planted.with_provenance(Provenance(transposed=(Q,))), Q, cells=100, detail=5)
    assert turned.shape == (50, 100)
    assert turned.column_profile[7] == 1.0
    section = Section("core", "Core", (), (HeatMaps("maps", "Maps", (found,)),))
    assert Section.from_dict(json.loads(json.dumps(section.to_dict()))) == section


@pytest.mark.parametrize("count", [0, 1, 2, 37, 150, 299, 300])
def test_counts_over_model(count: int) -> None:
    """As a sort of all scores has it, ties included, which go to the first tensors."""
    generator = torch.Generator().manual_seed(0)
    scores = {name: torch.rand(10, 10, generator=generator) ** 8 for name in "abc"}
    scores["b"][:3] = scores["a"][0, 0]  # ties
    scores["c"][0, 0] = 0.0
    scores["c"][1] *= 1e-30
    flat = torch.cat([value.reshape(-1) for value in scores.values()])
    chosen = torch.zeros(300, dtype=torch.bool)
    chosen[flat.sort(descending=True, stable=True).indices[:count]] = True
    expected = {name: int(chosen[100 * place : 100 * (place + 1)].sum()) for place, name in enumerate(scores)}
    assert counts_over_model(scores, count) == expected
    assert counts_over_model({name: value.bfloat16() for name, value in scores.items()}, 300) == dict.fromkeys(
        "abc", 100
    )


def test_tables(planted: CoreMask) -> None:
    """Shares add up to one; every tensor has its row; a line that was planted is listed, the vector's weight is not."""
    roles = roles_of(planted)
    over_model = {Q: 10, DOWN: 30, NORM: 0}
    table = role_table(roles, planted, over_model, {Q: 1.0, DOWN: 2.0, NORM: 1.0})
    rows = {row[0]: row[1:] for row in table.rows}
    assert list(rows) == ["attention", "feed-forward", "norm", "all"]
    assert rows["attention"] == (5000, *map(pytest.approx, (5000 / 17050, 50 / 111, 0.25, 0.25)))
    assert rows["all"] == (17050, 1.0, 1.0, 1.0, 1.0)

    tensors = {row[0]: row for row in tensor_table(planted, roles, over_model, {}).rows}
    assert list(tensors) == [Q, DOWN, NORM]
    assert tensors[DOWN][1:6] == ("feed-forward: down", "60 x 200", 60, 60 / 12000, 30 / 12000)
    control = planted.random_like(seed=0)
    line = concentration_of(planted, Q, control.packed(Q))
    with_lines = tensor_table(planted, roles, over_model, {Q: line}).rows[0]
    assert with_lines[6:] == (line.rows, line.random_rows, line.columns, line.random_columns)

    dimensions = dimension_table(planted, limit=5).rows
    assert {row[:5] for row in dimensions} == {(Q, "row", 7, 50, 50), (DOWN, "column", 30, 60, 60)}
    assert len(dimension_table(planted, limit=1).rows) == 1


def test_layer_matrix(planted: CoreMask) -> None:
    """By layer and kind; what a layer does not have is empty, what lies outside the layers has a row of its own."""
    roles = roles_of([*planted, "lm_head.weight"])
    found = layer_matrix(roles, {Q: 10, DOWN: 30, NORM: 0, "lm_head.weight": 60}, name="n", title="t", note="")
    assert (found.rows, found.columns) == (("outside", "layer 0", "layer 1"), ("q", "down", "norm", "other"))
    assert found.values == ((None, None, None, 0.6), (0.1, None, None, None), (None, 0.3, 0.0, None))
