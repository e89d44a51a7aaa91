"""The table and the picture of the retention benchmark."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hf_langcore.recipes.protection.methods import Method
from hf_langcore.recipes.protection.retention import Retention
from hf_langcore.recipes.protection.retention_parts import (
    draw_retention,
    rate_table,
    retention_points,
    retention_table,
)
from hf_langcore.recipes.protection.tasks import Target
from hf_langcore.report.parts import Section, Spread

METHODS = (Method("a slow", "a", 1e-3), Method("a fast", "a", 1e-2), Method("b", "b", 1e-2))


@pytest.fixture
def found(make_run: Callable[..., Any]) -> Retention:
    after = {"target_after": Target(3.0, 0.25, 0.5), "core_changed": 5}
    runs = [make_run(one.name, 0, 1.0, 0.1, **after) for one in METHODS]
    runs += [make_run(name, seed, 1.0, 0.1, **after) for seed in (1, 2) for name in ("a fast", "b")]
    return Retention("arithmetic", METHODS, {"a": "a fast", "b": "b"}, tuple(runs), (0, 1, 2))


def test_a_row_for_each_method(found: Retention) -> None:
    """At the chosen rate, with intervals; answers and digits in per cent."""
    table = retention_table(found)
    assert [row[:3] for row in table.rows] == [("a", "0.01", 100), ("b", "0.01", 100)]
    row = dict(zip(table.columns, table.rows[0], strict=True))
    assert row["gain, nats"] == Spread(1.0, 1.0, 1.0)
    assert row["exact, %"] == Spread(25.0, 25.0, 25.0)
    assert row["digits, %"] == Spread(50.0, 50.0, 50.0)
    kept = row["kept perplexity, %"]
    assert isinstance(kept, Spread)
    assert kept.value == pytest.approx(100 * math.expm1(0.1))
    assert row["core weights changed, %"] == 50.0
    assert "3 seeds" in table.note


def test_a_language_has_no_answers(make_run: Any) -> None:
    """One seed has no intervals, and the table says so."""
    alone = Retention("zh", METHODS[2:], {"b": "b"}, (make_run("b", 0, 1.0, math.inf),), (0,))
    table = retention_table(alone)
    assert table.rows == (("b", "0.01", 100, 1.0, math.inf, 0.0),)
    assert "no intervals" in table.note


def test_every_rate_is_shown(found: Retention) -> None:
    """With the first seed, and which one was chosen."""
    assert [(row[0], row[1], row[-1]) for row in rate_table(found).rows] == [
        ("a", "0.001", ""),
        ("a", "0.01", "chosen"),
        ("b", "0.01", "chosen"),
    ]


def test_a_point_for_each_seed(found: Retention) -> None:
    """Of the chosen rates; the section can be written and read."""
    points = retention_points(found)
    assert points.groups == ("a", "a", "a", "b", "b", "b")
    assert points.x == (1.0,) * 6
    assert points.y == pytest.approx((0.1,) * 6)
    section = Section("retention", "Title", ("text",), (retention_table(found), points, rate_table(found)))
    assert Section.from_dict(section.to_dict()) == section


def test_the_picture(found: Retention, make_run: Any, tmp_path: Path) -> None:
    """Models that were destroyed are left out of it."""
    broken = make_run("b", 0, -math.inf, math.inf)
    runs = tuple(run for run in found.runs if run.method != "b")
    draw_retention(Retention("arithmetic", METHODS, found.chosen, (*runs, broken), (0, 1, 2)), tmp_path / "f.png")
    assert (tmp_path / "f.png").stat().st_size > 1000
