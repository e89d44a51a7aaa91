"""Words for those who cannot see a figure."""

from __future__ import annotations

import pytest
import report_example

from hf_langcore.report.describing import describe
from hf_langcore.report.parts import Points


@pytest.mark.parametrize(
    ("part", "words"),
    [
        (
            report_example.recovery(),
            "Recovery of the destroyed core: perplexity against training samples, 2 lines (frozen, free), between 19 and 50,000.",
        ),
        (
            report_example.removal(),
            "Removing a region: grid of nats per token with 6 rows and 8 columns, between -0.7 and 3.",
        ),
        (
            report_example.points(),
            (
                "Vectors of relations: 60 points of 6 groups (ar, bg, cs, da, de, el). "
                "In 'before' the nearest point has the same group for 100% and the same label for 0% of the points. "
                "In 'after' the nearest point has the same group for 0% and the same label for 100% of the points."
            ),
        ),
        (Points("p", "Alone", (1.0,), (2.0,), ("a",)), "Alone: 1 point of 1 group (a)."),
        (
            report_example.heat_maps(1, cells=2),
            "The core in every matrix: where the region lies in each of 7 weight matrices.",
        ),
        (
            report_example.heat_map("w", (3, 4), cells=2),
            "Where the region lies in w (3 rows, 4 columns), with its row and column profile.",
        ),
    ],
)
def test_what_is_drawn_and_between_which_figures(part: object, words: str) -> None:
    assert describe(part) == words  # type: ignore[arg-type]


def test_long_lists_are_cut() -> None:
    assert "12 lines" not in describe(report_example.dose())
    assert "fr, he and 18 more" in describe(report_example.dose())
    assert describe(report_example.table()).startswith("Perplexity by language: 31 rows, unedited, top 3 %")
    assert "5 texts (unedited, factor 4" in describe(report_example.said())
