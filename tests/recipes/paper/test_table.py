"""The paper's table as a section."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from hf_langcore.editing import perturb
from hf_langcore.errors import InputError
from hf_langcore.evaluation import evaluate_perplexity
from hf_langcore.importance import compute_importance
from hf_langcore.masks import CoreMask
from hf_langcore.recipes.bench.texts import Texts
from hf_langcore.recipes.bench.workbench import Bench, BenchSettings
from hf_langcore.recipes.paper import table as paper_table
from hf_langcore.recipes.paper.table import region_table
from hf_langcore.report.parts import Section, Spread


@pytest.fixture
def bench(bpe_llama: Any, bpe: Any, small: Any, tmp_path: Path) -> Bench:
    settings = BenchSettings(core_languages=("en", "zh"), block_size=16, test_tokens=None)
    return Bench(bpe_llama, bpe, Texts(small.train, small.test, "three"), output=tmp_path, settings=settings)


def _perplexity(bench: Bench, region: CoreMask | None, **options: Any) -> dict[str, float]:
    def measured() -> dict[str, float]:
        return evaluate_perplexity(
            bench.model, bench.tokenizer, bench.texts.test, block_size=16, progress=False
        ).perplexity

    if region is None:
        return measured()
    with perturb(bench.model, region, **options):
        return measured()


def test_figures_are_those_of_the_regions(bench: Bench) -> None:
    """Each cell is what perturbing that mask gives; random regions as mean and range, harm as the ratio of the rises."""
    section = region_table(bench, fractions=(0.3, 0.1), random_seeds=2, how="noise")
    assert Section.from_dict(json.loads(json.dumps(section.to_dict()))) == section
    assert [part.name for part in section.parts] == ["regions_10", "regions_30", "sizes"]
    table = section.part("regions_30")
    assert table.columns == ("language", "base", "top", "bottom", "magnitude", "random", "harm")
    train = {language: list(bench.texts.train[language]) for language in ("en", "zh")}
    scores = compute_importance(bench.model, bench.tokenizer, train, block_size=16, progress=False)
    large = compute_importance(bench.model, method="magnitude")
    base = _perplexity(bench, None)
    top, bottom, magnitude, *drawn = (
        _perplexity(bench, region, how="noise", seed=0)
        for region in (
            CoreMask.from_scores(scores, fraction=0.3),
            CoreMask.from_scores(scores, fraction=0.3, which="bottom"),
            CoreMask.from_scores(large, fraction=0.3),
            *(CoreMask.from_scores(scores, fraction=0.3, which="random", seed=seed) for seed in (0, 1)),
        )
    )
    for row in table.rows[:-1]:
        language = row[0]
        assert row[1:5] == pytest.approx((base[language], top[language], bottom[language], magnitude[language]))
        randoms = sorted(one[language] for one in drawn)
        assert isinstance(row[5], Spread)
        assert (row[5].low, row[5].high) == pytest.approx(randoms)
        assert row[5].value == pytest.approx(math.sqrt(randoms[0] * randoms[1]))
        rise = math.log(row[5].value / base[language])
        expected = math.log(top[language] / base[language]) / rise if rise > 0 else math.inf
        assert row[6] == pytest.approx(expected)
    means = table.rows[-1]
    assert (means[0], means[2], means[6]) == (
        "geometric mean",
        pytest.approx(math.exp(sum(map(math.log, top.values())) / 3)),
        None,
    )
    curves = section.part("sizes")
    assert curves.x == (10.0, 30.0)
    assert curves.lines["top"][1] == means[2]
    assert curves.level == means[1]
    assert (curves.bands["random"][0][1], curves.bands["random"][1][1]) == (means[5].low, means[5].high)


def test_goes_on_where_it_was(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second run measures nothing and computes no importance; another way or seed is new."""
    first = region_table(bench, fractions=[0.1], random_seeds=1)
    monkeypatch.setattr(Bench, "scores", lambda self: pytest.fail("importance computed again"))
    again = region_table(bench, fractions=[0.1], random_seeds=1)
    assert again.parts == first.parts
    with pytest.raises(pytest.fail.Exception, match="importance"):
        region_table(bench, fractions=[0.1], random_seeds=1, how="mean")
    with pytest.raises(pytest.fail.Exception, match="importance"):
        region_table(bench, fractions=[0.1], random_seeds=2)


def test_every_step_moves_the_bar(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[int] = []
    steps: list[int] = []
    monkeypatch.setattr(bench.progress, "expect", told.append)
    monkeypatch.setattr(bench.progress, "step", lambda: steps.append(1))
    region_table(bench, fractions=[0.1, 0.2], random_seeds=2)
    assert told == [len(steps)] == [1 + 2 * 5]


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"fractions": ()}, "at least one size"),
        ({"fractions": (0.1, 1.5)}, "between 0 and 1"),
        ({"random_seeds": 0}, "random_seeds"),
        ({"how": "scale"}, "zero.*noise"),
    ],
)
def test_wrong_sizes_are_refused_before_anything_is_measured(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any], problem: str
) -> None:
    monkeypatch.setattr(paper_table.Bench, "measure", lambda *_, **__: pytest.fail("measured"))
    with pytest.raises(InputError, match=problem):
        region_table(bench, **options)
