"""Colours: words can be read on every background, lines be seen, in both themes."""

from __future__ import annotations

import math

import pytest

from hf_langcore.report.palette import (
    DARK,
    LIGHT,
    PLACES,
    STEPS,
    THEMES,
    VARIABLES,
    Look,
    blend,
    contrast,
    step_of,
    words_on,
)

LOOKS = pytest.mark.parametrize("look", THEMES.values(), ids=list(THEMES))


def test_contrast_is_that_of_the_rules() -> None:
    """Black on white is 21 : 1, and #767676 is the lightest grey that may be read on white."""
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#ffffff", "#767676") == pytest.approx(4.54, abs=0.01)


@LOOKS
def test_words_can_be_read(look: Look) -> None:
    """4.5 : 1 on the page, on boxes and on every colour of a heat map."""
    for background in (look.background, look.panel):
        assert min(contrast(colour, background) for colour in (look.text, look.muted, look.accent)) >= 4.5
    for colour in (*look.steps, *look.negative):
        assert contrast(words_on(colour), colour) >= 4.5


@LOOKS
def test_lines_can_be_seen_and_told_apart(look: Look) -> None:
    assert min(contrast(colour, look.background) for colour in look.series) >= 3
    assert len(set(look.series)) == 10


@LOOKS
def test_more_is_always_further_from_the_page(look: Look) -> None:
    """So that a heat map can be read without a scale."""
    for colours in (look.steps, look.negative):
        distances = [contrast(colour, look.background) for colour in colours]
        assert distances == sorted(distances)
        assert len(colours) == STEPS
        assert distances[-1] > 5


def test_every_colour_is_a_variable_of_the_page() -> None:
    """What is drawn for the page names variables that both themes have."""
    names = {name.removeprefix("var(--").removesuffix(")") for name in VARIABLES.values()}
    assert names <= set(LIGHT.variables())
    assert set(LIGHT.variables()) == set(DARK.variables())
    assert VARIABLES[PLACES.text] == "var(--text)"
    assert VARIABLES[PLACES.series[3]] == "var(--s3)"
    assert len({*PLACES.series, *PLACES.steps, *PLACES.negative, PLACES.text, PLACES.rule}) == 10 + 2 * STEPS + 2


def test_blend_and_steps() -> None:
    assert blend(("#000000", "#0000ff"), 3) == ("#000000", "#000080", "#0000ff")
    assert [step_of(value, 0, 1) for value in (-1, 0, 0.5, 1, 7)] == [0, 0, 10, 20, 20]
    assert step_of(math.inf, 0, 1) == 20
    assert step_of(-math.inf, 0, 1) == 0
    assert step_of(3, 2, 2) == 0
