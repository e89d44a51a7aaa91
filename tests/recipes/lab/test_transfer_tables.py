"""Figures over seeds and languages."""

from __future__ import annotations

import math
from typing import Any

import pytest

from hf_langcore.recipes.lab.transfer_tables import Arm, Shown, bits_table, core_table, growth_table
from hf_langcore.report.parts import Spread

SHOWN = Shown("zh", "en", (0, 10), 10)
PLAIN, SIDE = Arm(0, ""), Arm(5, "mean_of_pieces", is_frozen=True, is_side=True)


def run(*losses: float, tokens: int = 4) -> dict[str, Any]:
    """After each number of rows: a loss for zh, and half of it for en, a quarter and an eighth for the others."""
    parts = {"zh": 1.0, "en": 0.5, "de": 0.25, "fr": 0.125}
    scores = {
        str(rows): {code: {"nll": loss * part, "tokens": 8, "bytes": 16} for code, part in parts.items()}
        for rows, loss in zip(SHOWN.counts, losses, strict=False)
    }
    return {"scores": scores, "tokens": tokens, "core": 9, "core_changed": tokens - 4}


def test_words() -> None:
    assert PLAIN.words == "old vocabulary, all trained"
    assert SIDE.words == "5 new tokens (mean of pieces), frozen core"
    assert Arm(0, "", is_frozen=True, is_mixed=True).protection == "frozen core and mixed"


def test_growth_is_perplexity_over_seeds() -> None:
    """Mean, smallest and largest; the others by their geometric mean."""
    table = growth_table([run(2.0, 1.0), run(4.0, 1.0)], SHOWN)
    assert [row[0] for row in table.rows] == ["0", "10 (all)"]
    first: Any = table.rows[0]
    assert first[1] == Spread(pytest.approx((math.exp(2) + math.exp(4)) / 2), math.exp(2), math.exp(4))
    assert (first[3].low, first[3].high) == pytest.approx((math.exp(2 * 0.1875), math.exp(4 * 0.1875)))


def test_bits_per_byte_and_early_ends() -> None:
    """Nats to bits, tokens to bytes; an empty cell where nothing was measured; the mean of the others."""
    rows: Any = bits_table({PLAIN: [run(2.0, 1.0)], SIDE: [run(2.0)]}, SHOWN).rows
    bit = 8 / 16 / math.log(2)
    assert rows[0][1:] == pytest.approx((2 * bit, bit, bit, bit / 2, 2 * 0.1875 * bit, 0.1875 * bit))
    assert [cell is None for cell in rows[1][1:]] == [False, True] * 3


def test_the_worst_seed_counts_for_the_core() -> None:
    assert core_table({PLAIN: [run(1.0), run(1.0, tokens=6)]}).rows[0][1:] == (Spread(5.0, 4, 6), 9, 2)
