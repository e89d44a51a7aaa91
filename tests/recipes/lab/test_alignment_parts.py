"""Alignments as parts of a report."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from torch import nn

from hf_langcore.probing.alignment_report import AlignmentReport, Measure
from hf_langcore.probing.projection import Projection
from hf_langcore.recipes.bench.workbench import Subject
from hf_langcore.recipes.lab.alignment_parts import state_parts
from hf_langcore.report.parts import Spread

SUBJECT = Subject("tiny", nn.Linear(1, 1), None, is_encoder=True, digest="0")
PICTURE = Projection((1.0,), (2.0,), ("en",), ("obj",), ("before",))


def _report(values: list[float], *, draws: Any) -> AlignmentReport:
    pairs = np.array([[[0.9, one], [one, np.nan]] for one in values])
    own = (pairs, pairs - 0.1, pairs + 0.1, np.array(values), np.array(draws))
    rsa = Measure(*own, np.array([0.01, np.nan]), np.ones(2))
    transport = Measure(*own, np.full(2, np.nan), np.full(2, np.nan), by_seeds=True)
    return AlignmentReport(("en", "zh"), (0, 3), ("nsubj", "obj"), {"rsa": rsa, "transport": transport})


BEFORE = _report([0.2, 0.5], draws=[[0.1, 0.3], [0.4, 0.6]])
AFTER = [
    _report([0.3, 0.4], draws=[[0.2, 0.4], [0.3, 0.5]]),
    _report([0.5, 0.4], draws=[[0.3, 0.7], [0.3, 0.5]]),
]


def _parts(**options: Any) -> dict[str, Any]:
    parts = state_parts(SUBJECT, BEFORE, AFTER, **{"layer": 3, "picture": PICTURE, "language": "zh", **options})
    return {part.name: part for part in parts}


def test_curves_and_figures() -> None:
    """With bands and shuffled figures; what is no figure is empty."""
    parts = _parts()
    curves = parts["encoder-layers"]
    assert curves.x == (0.0, 3.0)
    assert curves.lines == {
        "similarity": (0.2, 0.5),
        "similarity, shuffled": (0.01, None),
        "transport": (0.2, 0.5),
    }
    assert curves.bands["transport"] == ((0.1, 0.4), (0.3, 0.6))
    table = parts["encoder-figures"]
    assert table.columns == ("layer", "similarity", "similarity, shuffled", "transport")
    assert table.rows[1][2:] == (None, Spread(0.5, 0.4, 0.6))
    assert "tiny (encoder)" in table.title


def test_matrices() -> None:
    """At the layer that was asked for; colours part at zero only where figures are below it."""
    matrix = _parts()["encoder-rsa"]
    assert matrix.values == ((0.9, 0.5), (0.5, None))
    assert matrix.rows == matrix.columns == ("en", "zh")
    assert not matrix.is_signed
    assert "layer 3" in matrix.title


def test_change() -> None:
    """Mean over the copies, and the widest interval."""
    rows = _parts()["encoder-change"].rows
    assert [row[0] for row in rows] == ["0", "3"]
    change = rows[0][2]
    assert (change.value, change.low, change.high) == pytest.approx((0.2, 0.1, 0.4))
    assert rows[1][1] == Spread(-0.1, -0.1, -0.1)


def test_picture() -> None:
    part = _parts()["encoder-picture"]
    assert (part.x, part.groups, part.labels, part.panels) == ((1.0,), ("en",), ("obj",), ("before",))
    bare = state_parts(SUBJECT, BEFORE, [], layer=0, picture=None, language="zh")
    assert [part.name for part in bare] == ["encoder-layers", "encoder-figures", "encoder-rsa", "encoder-transport"]
