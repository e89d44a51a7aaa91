"""Tables of recovery, from figures made by hand."""

from __future__ import annotations

import math

import pytest

from hf_langcore.recipes.paper.recovery_tables import (
    Recovered,
    arm_table,
    bits_table,
    curves,
    others,
    own,
    sample_table,
)

BASE = {"test": {"zh": 1.0, "en": 2.0, "de": 4.0}, "generated": {"zh": 0.5}}
KEPT = {
    "losses": {"0": {"test": {"zh": 5.0, "en": 6.0, "de": "inf"}, "generated": {"zh": 7.0}}, "8": BASE},
    "region": 10,
    "changed": {"region": 0, "elsewhere": 90},
}
ARMS = {"frozen": Recovered.read(KEPT)}


def test_means_leave_the_trained_language_out() -> None:
    assert own(BASE, "test", "zh") == math.exp(1.0)
    assert others(BASE, "zh") == math.exp(3.0)
    assert others(ARMS["frozen"].losses[0], "zh") == math.inf


def test_curves_are_of_each_text_and_of_the_others() -> None:
    """Only languages that are not trained count as others; alone, there are none."""
    drawn = curves(ARMS, BASE, (0, 8), language="zh", source="real text")
    assert [one.name for one in drawn] == ["real_text_test", "real_text_generated", "real_text_others"]
    assert drawn[0].lines == {"frozen": (math.exp(5.0), math.exp(1.0))}
    assert drawn[1].lines == {"frozen": (math.exp(7.0), math.exp(0.5))}
    assert [one.level for one in drawn] == [math.exp(1.0), math.exp(0.5), math.exp(3.0)]
    alone = {"test": {"zh": 1.0}}
    arms = {"free": Recovered({0: alone}, 1, {"region": 1, "elsewhere": 1})}
    assert [one.name for one in curves(arms, alone, (0,), language="zh", source="real text")] == ["real_text_test"]
    assert sample_table(arms, alone, (0,), language="zh", source="real text").rows[0][-1] is None


def test_tables() -> None:
    """Samples down; the model before breaking first."""
    table = sample_table(ARMS, BASE, (0, 8), language="zh", source="real text")
    assert len(table.columns) == 4
    assert [row[0] for row in table.rows] == ["before breaking", "0", "8"]
    assert table.rows[0][1:] == pytest.approx((math.exp(1.0), math.exp(0.5), math.exp(3.0)))
    assert table.rows[1][1:] == (math.exp(5.0), math.exp(7.0), math.inf)
    each = arm_table("frozen, hard", ARMS["frozen"], BASE, (0, 8), source="real text")
    assert each.name == "real_text_frozen_hard"
    assert each.rows[1] == ("en", math.exp(2.0), math.exp(6.0), math.exp(2.0))
    assert bits_table(ARMS, source="real text").rows == (("frozen", 10, 0, 90),)
