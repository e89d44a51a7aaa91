"""Regions of single languages, and what their removal does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hf_langcore.editing import perturb
from hf_langcore.evaluation import evaluate_perplexity
from hf_langcore.importance import compute_core_mask
from hf_langcore.recipes.bench.texts import Texts
from hf_langcore.recipes.bench.workbench import Bench, BenchSettings
from hf_langcore.recipes.paper.language_regions import (
    LanguageRegions,
    Removal,
    own_rises,
    removal_matrix,
    removal_table,
)
from hf_langcore.report.parts import Spread


@pytest.fixture
def bench(bpe_llama: Any, bpe: Any, small: Any, tmp_path: Path) -> Bench:
    settings = BenchSettings(block_size=16, test_tokens=None)
    return Bench(bpe_llama, bpe, Texts(small.train, small.test, "three"), output=tmp_path, settings=settings)


@pytest.fixture
def regions(bench: Bench) -> LanguageRegions:
    return LanguageRegions(bench, fraction=0.2, among=("en", "de", "zh"))


def test_regions(bench: Bench, regions: LanguageRegions) -> None:
    """A core is of its own language's texts; a monolingual region is in none of the other cores."""
    cores = {
        language: compute_core_mask(
            bench.model, bench.tokenizer, {language: list(documents)}, fraction=0.2, block_size=16, progress=False
        )
        for language, documents in bench.texts.train.items()
    }
    assert {language: regions.core(language) for language in cores} == cores
    assert regions.region("whole", "de") == cores["de"]
    alone = regions.region("monolingual", "de")
    assert alone == cores["de"] - cores["en"] - cores["zh"]
    assert 0 < alone.count() < cores["de"].count()
    assert regions.size("monolingual", "de") == alone.count()
    assert regions.size("whole", "de") == cores["de"].count()
    two = LanguageRegions(bench, fraction=0.2, among=("en", "de"))
    assert two.size("monolingual", "de") == (cores["de"] - cores["en"]).count() > alone.count()


def test_removal(bench: Bench, regions: LanguageRegions) -> None:
    """Rises are those of the loss under the zeroed region; controls are random masks of its size, shared by whole cores."""

    def losses() -> dict[str, float]:
        return evaluate_perplexity(bench.model, bench.tokenizer, bench.texts.test, block_size=16, progress=False).nll

    base = losses()
    found = regions.remove("monolingual", "zh", random_seeds=2)
    assert (found.language, found.size, len(found.controls)) == ("zh", regions.monolingual("zh").count(), 2)
    for region, rises in (
        (regions.monolingual("zh"), found.rises),
        (regions.monolingual("zh").random_like(seed=1), found.controls[1]),
    ):
        with perturb(bench.model, region):
            changed = losses()
        assert rises == pytest.approx({language: changed[language] - base[language] for language in base})
    assert found.controls[0] != found.controls[1]
    whole = [regions.remove("whole", language, random_seeds=1) for language in ("en", "zh")]
    assert whole[0].controls == whole[1].controls
    with perturb(bench.model, regions.core("zh").random_like(seed=0)):
        assert whole[1].controls[0]["de"] == pytest.approx(losses()["de"] - base["de"])
    assert losses() == base


def test_kept(bench: Bench, regions: LanguageRegions, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second run needs no mask; other company makes another monolingual region, and no other core."""
    first = [regions.remove(kind, "en", random_seeds=1) for kind in ("monolingual", "whole")]
    monkeypatch.setattr(Bench, "core", lambda *_, **__: pytest.fail("mask made again"))
    again = LanguageRegions(bench, fraction=0.2, among=("en", "zh", "de"))
    assert [again.remove(kind, "en", random_seeds=1) for kind in ("monolingual", "whole")] == first
    other = LanguageRegions(bench, fraction=0.2, among=("en", "zh"))
    assert other.remove("whole", "en", random_seeds=1) == first[1]
    with pytest.raises(pytest.fail.Exception, match="made again"):
        other.remove("monolingual", "en", random_seeds=1)


REMOVALS = [
    Removal(
        "a",
        10,
        {"a": 4.0, "b": 1.0, "c": 2.0, "x": 9.0},
        ({"a": 0.1, "b": 0.2, "c": 0.4}, {"a": 0.3, "b": 0.4, "c": 0.4}),
    ),
    Removal("b", 20, {"a": 0.5, "b": 5.0, "c": -1.0, "x": 8.0}, ({"a": 0.0, "b": 0.2, "c": 0.4},)),
    Removal("c", 30, {"a": 1.5, "b": 3.0, "c": 6.0, "x": 7.0}, ({"a": 0.2, "b": 0.2, "c": 0.4},)),
]


def test_matrix() -> None:
    """Own languages first, in the order of the rows, so that they lie on the diagonal; signs are kept."""
    found = removal_matrix("monolingual", REMOVALS, ["x", "c", "b", "a"])
    assert (found.rows, found.columns) == (("a", "b", "c"), ("a", "b", "c", "x"))
    assert found.values[1] == (0.5, 5.0, -1.0, 8.0)
    assert found.is_signed
    assert np.array_equal(own_rises(REMOVALS), [[4, 1, 2], [0.5, 5, -1], [1.5, 3, 6]])


def test_table() -> None:
    """Own rise, that of the others of the table, the language's under the others' regions, and random regions."""
    table = removal_table("whole", REMOVALS, 1000)
    assert table.rows[0] == (
        *("a", 10, 0.01, 4.0, 1.5, 1.0),
        Spread(pytest.approx(0.2), 0.1, 0.3),
        Spread(pytest.approx(0.35), pytest.approx(0.3), pytest.approx(0.4)),
    )
    assert [row[4] for row in table.rows] == [1.5, -0.25, 2.25, pytest.approx(3.5 / 3)]
    assert [row[5] for row in table.rows] == [1.0, 2.0, 0.5, pytest.approx(3.5 / 3)]
    assert table.rows[-1][:4] == ("mean", 20.0, pytest.approx(0.02), 5.0)
    assert table.last_is_total
