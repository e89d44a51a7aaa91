"""Results as Markdown: one table for each model and text."""

from __future__ import annotations

import math
from dataclasses import replace

from hf_langcore.hub.eval_record import EvalRecord
from hf_langcore.hub.results_table import results_section, results_table

BASE = EvalRecord(model="me/model", condition="base", language="en", tokens=1000, nll=1.5, bytes=4000, perturbed=False)
GERMAN = replace(BASE, language="de", nll=2.0, bytes=5000)
ZEROED = replace(BASE, condition="top 3 %", nll=math.inf, perturbed=True, core_mask="b" * 64)


def test_languages_and_conditions() -> None:
    """One row a language, one column a condition, the model as it is first; what was not measured is empty."""
    records = [replace(ZEROED, condition="a | b"), replace(ZEROED, language="de", nll=9.0), GERMAN, BASE]
    lines = results_table(records).splitlines()
    assert lines[0] == "Perplexity of `me/model`:"
    assert lines[2] == r"| language | tokens | base | a \| b | top 3 % | bits per byte, base |"
    assert lines[3] == "| --- | ---: | ---: | ---: | ---: | ---: |"
    assert sorted(lines[4:6]) == [
        "| de | 1,000 | 7.39 |  | 8,103.08 | 0.577 |",
        "| en | 1,000 | 4.48 | inf |  | 0.541 |",
    ]
    assert results_table([]) == ""


def test_large_figures_stay_short() -> None:
    """And without bytes there is no column of bits."""
    lines = results_table([replace(BASE, nll=20.0, bytes=None)]).splitlines()
    assert lines[2] == "| language | tokens | base |"
    assert lines[4] == "| en | 1,000 | 4.85e+08 |"


def test_models_and_texts_are_kept_apart() -> None:
    """Each with a heading that says what was measured."""
    other = replace(
        BASE, model="me/other", model_revision="a" * 40, adapter="x (LORA)", dataset="me/texts", dataset_split="test"
    )
    text = results_table([BASE, other, replace(BASE, text_sha256="c" * 64)])
    assert f"Perplexity of `me/other` at revision `{'a' * 40}` with adapter x (LORA) on me/texts, test:" in text
    assert text.count("| en |") == text.count("Perplexity of") == 3


def test_masks_are_kept_apart() -> None:
    """Two masks with a condition of one name are told by their digests."""
    text = results_table([ZEROED, replace(ZEROED, core_mask="c" * 64), replace(ZEROED, core_mask=None)])
    assert "| top 3 % (mask bbbbbbbb) | top 3 % (mask cccccccc) | top 3 % (no mask) |" in text


def test_tables_of_two_masks_and_texts() -> None:
    """Neither captions nor columns are alike where masks and texts are not."""
    other = replace(ZEROED, core_mask="c" * 64, text_sha256="e" * 64)
    lines = results_table([replace(ZEROED, text_sha256="d" * 64), other, BASE]).splitlines()
    captions = [line for line in lines if line.startswith("Perplexity of")]
    assert captions == [
        "Perplexity of `me/model` (text not noted):",
        "Perplexity of `me/model` (text `dddddddd`):",
        "Perplexity of `me/model` (text `eeeeeeee`):",
    ]
    heads = [line for line in lines if line.startswith("| language")]
    assert heads[0] == "| language | tokens | base | bits per byte, base |"
    assert "| top 3 % (mask bbbbbbbb) |" in heads[1]
    assert "| top 3 % (mask cccccccc) |" in heads[2]


def test_a_card_marks_figures_of_other_masks() -> None:
    """Its own need no mark."""
    both = [BASE, ZEROED, replace(ZEROED, condition="rival", core_mask="c" * 64)]
    text = results_section(both, core_mask="b" * 64)
    assert "| base | top 3 % | rival (mask cccccccc) |" in text
    assert "**another mask**" in text
    assert "another mask" not in results_section([BASE, ZEROED], core_mask="b" * 64)
    assert "| top 3 % (mask bbbbbbbb) |" in results_section([BASE, ZEROED], core_mask="c" * 64)
    assert results_section([], core_mask="b" * 64) == ""
