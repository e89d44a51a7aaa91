"""A scan as tables and a map."""

from __future__ import annotations

import json
import math

import pytest

from hf_langcore.recipes.paper.scan_parts import critical_parts, place_of
from hf_langcore.report.parts import Spread
from hf_langcore.scanning.result import CriticalDimension, CriticalScan, JointEffect
from hf_langcore.scanning.statistics import Interval

NORM = CriticalDimension(
    "model.layers.1.input_layernorm.weight", 0, 7, 10.0, 80.0, 8.0, interval=Interval(9.0, 11.0, 0.95), control_ratio=1.1,
    sources=("activations", "weights"), layer=1, residual=7,
)  # fmt: skip
ENTRY = CriticalDimension(
    "model.layers.0.mlp.down_proj.weight", None, (7, 3), 0.0, math.inf, 8.0, kind="weight", layer=0, residual=7
)
WEAK = CriticalDimension("model.norm.weight", 0, 2, 0.0, 4.0, 8.0, residual=2)
COLUMN = CriticalDimension("model.layers.0.mlp.down_proj.weight", 1, 3, 0.0, 9.0, 8.0, kind="column", layer=0)
JOINT = JointEffect(4.0, {("model.norm.weight", "norm", 2): 1.0})


def scan(*critical: CriticalDimension, joint: JointEffect | None = None) -> dict[str, object]:
    """As a run keeps it."""
    measured = (ENTRY, NORM, COLUMN, WEAK)
    made = CriticalScan(critical, measured, (), joint, 8.0, {}, num_layers=2, width=8)
    return json.loads(json.dumps(made.to_dict(), allow_nan=False))


def test_the_table_has_the_critical_first() -> None:
    """Infinite ratios, intervals and controls; what is not critical follows without a mark."""
    (table, *_) = critical_parts(scan(ENTRY, NORM))
    names = [row[0] for row in table.rows]
    assert names == [
        "model.layers.0.mlp.down_proj weight 7, 3",
        "model.layers.1.input_layernorm 7",
        "model.layers.0.mlp.down_proj column 3",
        "model.norm 2",
    ]
    assert [row[1] for row in table.rows] == ["critical", "critical", "", ""]
    assert table.rows[0][3:5] == (math.inf, math.inf)
    assert table.rows[1][2:] == ("x10", 80.0, Spread(10.0, 9.0, 11.0), 1.1, "activations, weights")


def test_the_map() -> None:
    """The worst edit of each residual dimension by layer; what was not measured is empty."""
    *_, where = critical_parts(scan())
    assert where.columns == ("2", "7")
    assert where.rows == ("0", "1", "outside")
    assert where.values[0] == (None, math.inf)
    assert where.values[1] == (None, pytest.approx(math.log(10)))
    assert where.values[2] == (pytest.approx(math.log(0.5)), None)


def test_what_each_accounts_for() -> None:
    """A table only where several were edited together."""
    assert [part.name for part in critical_parts(scan(NORM))] == ["dimensions", "map"]
    joint = critical_parts(scan(NORM, joint=JOINT))[1]
    assert joint.rows == (("model.norm 2", 1.0, 0.75), ("all together", 4.0, None))


def test_places_in_words() -> None:
    """Norms need no kind; entries have two indices."""
    assert place_of(NORM.to_dict()) == "model.layers.1.input_layernorm 7"
    assert place_of(ENTRY.to_dict()) == "model.layers.0.mlp.down_proj weight 7, 3"
