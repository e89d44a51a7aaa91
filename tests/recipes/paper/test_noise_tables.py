"""Shifts, ranks and effects, from figures made by hand."""

from __future__ import annotations

import math

import pytest
import torch

from hf_langcore.recipes.paper.noise_tables import (
    Run,
    core_rank,
    dimension_table,
    effect_curves,
    effect_table,
    language_table,
    rank_table,
)
from hf_langcore.report.parts import Spread

CORE = {"a.weight": torch.tensor([False, True, False, False]), "b.weight": torch.tensor([True, False, False, False])}


def run(loss: float, a: list[float], b: list[float], *, replaced: int = 0) -> Run:
    kept = {"losses": {"en": loss, "zh": loss + 1}, "replaced": replaced, "norms": {"a.weight": a, "b.weight": b}}
    return Run.read(kept)


RUNS = {
    ("clean", 0.0): [run(1.0, [3, 0, 0, 4], [0, 0, 0, 0]), run(1.2, [3, 1, 0, 4], [0, 0, 0, 0])],
    ("words", 0.1): [
        run(1.5, [3, 5, 0, 4], [0, 0, 0, 0], replaced=2),
        run(1.3, [3, 6, 0, 4], [0, 0, 0, 0], replaced=2),
    ],
    ("words", 0.5): [
        run(2.0, [3, 0, 9, 4], [0, 0, 0, 1], replaced=9),
        run(2.2, [3, 1, 9, 4], [0, 0, 0, 1], replaced=9),
    ],
}
BASE = {"en": 0.5, "zh": 1.5}


def test_ranks() -> None:
    """1 where the core is shifted most, 0 least, one half where nothing moves; None without a core."""
    a, b = torch.tensor([0.1, -0.9, 0.2, 0.3]), torch.tensor([0.0, 0.5, 0.5, 0.5])
    assert core_rank({"a.weight": a, "b.weight": b}, {"a.weight": CORE["a.weight"]}) == 1
    assert core_rank({"a.weight": a, "b.weight": b}, {"b.weight": CORE["b.weight"]}) == 0
    assert core_rank({"a.weight": a, "b.weight": b}, CORE) == 0.5
    assert core_rank({"a.weight": torch.zeros(4)}, {"a.weight": CORE["a.weight"]}) == 0.5
    assert core_rank({"a.weight": a}, {"a.weight": torch.zeros(4, dtype=torch.bool)}) is None


def test_noise_is_compared_with_the_clean_run_of_its_seed() -> None:
    """Rises over the clean runs, seed by seed."""
    table = effect_table(RUNS, BASE, samples=20)
    assert table.rows[0] == ("before training", None, math.exp(1.0), None)
    assert [row[:2] for row in table.rows[1:]] == [("clean", 0), ("words, 10 %", 2), ("words, 50 %", 9)]
    rises = [row[3] for row in table.rows[1:]]
    assert [one.value for one in rises] == pytest.approx([0.0, 0.3, 1.0])
    assert (rises[1].low, rises[1].high) == pytest.approx((0.1, 0.5))
    assert isinstance(table.rows[2][2], Spread)
    curves = effect_curves(RUNS, BASE)
    assert curves.x == (0.0, 10.0, 50.0)
    assert curves.lines["words"] == pytest.approx((math.exp(1.6), math.exp(1.9), math.exp(2.6)))
    assert curves.level == math.exp(1.0)
    languages = language_table(RUNS, BASE)
    assert languages.rows[1][:2] == ("zh", math.exp(1.5))
    assert languages.rows[1][2].low == math.exp(2.0)


def test_shifts_are_those_against_the_clean_run() -> None:
    """The control is what two clean runs differ by; lengths are in units of the clean run's own change."""
    table = rank_table(RUNS, CORE)
    assert [row[0] for row in table.rows] == [
        "clean run, other seed (control)",
        "words, 10 %",
        "words, 50 %",
        "clean run, from before training",
    ]
    length = (5 + math.sqrt(26)) / 2
    assert table.rows[0][1:] == pytest.approx((1 / length, 1.0, (1 + 0.5) / 2))
    assert table.rows[1][1].value == pytest.approx(5 / length)
    assert table.rows[1][3].value == 0.75
    assert table.rows[2][1].value == pytest.approx(math.sqrt(82) / length)
    assert table.rows[2][2].value == pytest.approx(81 / 82)
    assert table.rows[3][1].value == 1
    alone = {condition: found[:1] for condition, found in RUNS.items()}
    assert rank_table(alone, CORE).rows[0][0] == "words, 10 %"
    assert "control" not in rank_table(alone, CORE).note


def test_the_most_shifted_dimensions_stand_beside_their_controls() -> None:
    """Of the strongest noise of the first kind."""
    table = dimension_table(RUNS, CORE)
    assert "50 %" in table.title
    assert table.rows[0] == ("a [2]", 9.0, 0.0, 0.0, "no")
    assert table.rows[1] == ("b [3]", 1.0, 0.0, 0.0, "no")
    assert len(table.rows) == 8
    weak = {condition: found for condition, found in RUNS.items() if condition[1] < 0.5}
    assert dimension_table(weak, CORE).rows[0] == ("a [1]", 5.0, 1.0, 0.5, "yes")
