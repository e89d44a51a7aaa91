"""Sections as data: what is written is read back, infinities and intervals included."""

from __future__ import annotations

import json
import math

import pytest

from hf_langcore.errors import InputError
from hf_langcore.report.parts import Curves, HeatMap, HeatMaps, Matrix, Points, Section, Spread, Table, Texts

SECTION = Section(
    name="table",
    title="Top, bottom, random",
    text=("Regions are set to 0.",),
    parts=(
        Table(
            "ppl",
            "Perplexity",
            ("language", "base", "top"),
            (("en", 8.0, math.inf), ("zh", None, Spread(3.0, 2.0, math.inf))),
            log_bars=("top",),
        ),
        Curves(
            "dose", "Dose", "factor", "perplexity", (0.0, 1.0), {"en": (None, 2.0)}, bands={"en": ((1.0,), (2.0,))}
        ),
        Points("near", "Near", (0.0, math.nan), (1.0, -math.inf), ("en", "zh"), ("nsubj", "obj"), ("before", "after")),
        Matrix("jaccard", "Overlap", ("a",), ("b",), ((0.5,),), tree=((0.0, 1.0, 0.5, 2.0),)),
        HeatMaps("core", "Core", (HeatMap("w", (2, 2), ((0.0, 1.0),), (0.5,), (0.5, 0.5), (0, 0, ((1, 0),))),)),
        Texts("said", "Said", "Fudan", {"base": "is a university"}),
    ),
    facts={"fraction": 0.03, "worst": math.inf, "languages": ["en", "zh"], "none": None},
    seconds=1.5,
)


def test_what_is_written_is_read_back() -> None:
    """Through real JSON, which knows no infinity."""
    text = json.dumps(SECTION.to_dict(), allow_nan=False)
    back = Section.from_dict(json.loads(text))
    assert repr(back) == repr(SECTION), "no NaN equals itself"
    assert [part for part in back.parts if part.name != "near"] == [
        part for part in SECTION.parts if part.name != "near"
    ]


def test_parts_are_found_by_name() -> None:
    """And a wrong name says which there are."""
    assert SECTION.part("dose").x_label == "factor"
    with pytest.raises(KeyError, match="jaccard"):
        SECTION.part("nothing")


@pytest.mark.parametrize("damage", [{"parts": [{"kind": "nothing"}]}, {"text": None}, {"seconds": "long"}])
def test_other_files_are_named(damage: dict[str, object]) -> None:
    """A file of something else is an error that says what to do."""
    with pytest.raises(InputError, match="no section"):
        Section.from_dict({**SECTION.to_dict(), **damage})
