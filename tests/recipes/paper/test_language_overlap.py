"""Overlap of the languages' cores."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hf_langcore.importance import compute_core_mask
from hf_langcore.recipes.bench.texts import Texts
from hf_langcore.recipes.bench.workbench import Bench, BenchSettings
from hf_langcore.recipes.paper.language_overlap import overlap_parts, repeat_table
from hf_langcore.recipes.paper.language_regions import LanguageRegions


@pytest.fixture
def regions(bpe_llama: Any, bpe: Any, small: Any, tmp_path: Path) -> LanguageRegions:
    settings = BenchSettings(block_size=16)
    bench = Bench(bpe_llama, bpe, Texts(small.train, small.test, "three"), output=tmp_path, settings=settings)
    return LanguageRegions(bench, fraction=0.2, among=("en", "zh"))


def test_overlap(regions: LanguageRegions) -> None:
    """Every cell is the Jaccard index of two cores; the tree names rows; shares of shared weights add up."""
    matrix, curves, scripts = overlap_parts(regions, ["en", "de", "zh"])
    assert sorted(matrix.rows) == ["de", "en", "zh"]
    assert matrix.columns == matrix.rows
    for row, one in enumerate(matrix.rows):
        for column, other in enumerate(matrix.columns):
            expected = regions.core(one).jaccard(regions.core(other))
            assert matrix.values[row][column] == pytest.approx(expected, abs=1e-4)
    assert matrix.tree is not None
    first = matrix.tree[0]
    assert 1 - first[2] == pytest.approx(matrix.values[int(first[0])][int(first[1])], abs=1e-4)
    assert first[2] == min(step[2] for step in matrix.tree)

    total = regions.core("en").numel()
    union = regions.core("en") | regions.core("de") | regions.core("zh")
    assert curves.x == (1.0, 2.0, 3.0)
    assert sum(one or 0 for one in curves.lines["cores"]) == pytest.approx(union.count() / total)
    assert curves.lines["random masks"] == (
        pytest.approx(3 * 0.2 * 0.64),
        pytest.approx(3 * 0.04 * 0.8),
        pytest.approx(0.008),
    )
    rows = {row[0]: row[1:] for row in scripts.rows}
    within = regions.core("en").jaccard(regions.core("de"))
    assert rows["Latin"][:2] == ("en, de", pytest.approx(within))
    assert rows["Chinese characters"][:2] == ("zh", None)


def test_repeats(regions: LanguageRegions) -> None:
    """Halves are every other document, of one language and of two."""
    table = repeat_table(regions)
    assert table is not None
    bench = regions.bench
    halves = {
        (language, half): compute_core_mask(
            bench.model,
            bench.tokenizer,
            {language: list(bench.texts.train[language])[half::2]},
            fraction=0.2,
            block_size=16,
            progress=False,
        )
        for language in ("en", "zh")
        for half in (0, 1)
    }
    rows = {row[0]: row[1:] for row in table.rows}
    for language, other in (("en", "zh"), ("zh", "en")):
        own = halves[language, 0].jaccard(halves[language, 1])
        assert rows[language] == pytest.approx((own, halves[language, 0].jaccard(halves[other, 1])))


def test_too_few_texts_to_repeat(regions: LanguageRegions) -> None:
    """One document has no halves, so that nothing can be told."""
    texts = Texts(
        {"en": ["a cat sat on the mat"], "zh": ["猫坐在垫子上看着月亮"]}, {"en": ["a dog"], "zh": ["狗"]}, "two"
    )
    bench = Bench(regions.bench.model, regions.bench.tokenizer, texts, output=regions.bench.output)
    assert repeat_table(LanguageRegions(bench, fraction=0.2, among=("en", "zh"))) is None
