"""Regions damaged one after the other."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from hf_langcore.editing import perturb
from hf_langcore.errors import CoreMaskMismatchError, InputError
from hf_langcore.evaluation import LanguageScore, PerplexityReport, evaluate_perplexity, prepare_scoring
from hf_langcore.importance import compute_importance
from hf_langcore.masks import CoreMask
from hf_langcore.recipes import regions as regions_module
from hf_langcore.recipes.regions import compare_regions, harm_ratio, paper_regions, standard_regions


@pytest.fixture
def scores(llama: Any, tokenizer: Any, texts: Any) -> Any:
    return compute_importance(llama, tokenizer, texts, block_size=16, progress=False)


def test_each_condition_is_what_perturb_gives(llama: Any, tokenizer: Any, texts: Any, scores: Any) -> None:
    """Base first, then each region perturbed on its own, and the model restored."""
    before = {name: parameter.detach().clone() for name, parameter in llama.named_parameters()}
    regions = standard_regions(scores, 0.1)
    task = prepare_scoring(llama, tokenizer, texts)
    report = compare_regions(llama, task, regions, how="noise", seed=3, progress=False)
    assert list(report.conditions) == ["base", "top 10 %", "bottom 10 %", "random 10 %"]
    assert report["base"].nll == evaluate_perplexity(llama, tokenizer, texts, progress=False).nll
    for name, region in regions.items():
        with perturb(llama, region, how="noise", seed=3):
            assert report[name].nll == evaluate_perplexity(llama, tokenizer, texts, progress=False).nll
    assert all(torch.equal(parameter, before[name]) for name, parameter in llama.named_parameters())


def test_finished_conditions_are_kept(
    llama: Any, tokenizer: Any, texts: Any, scores: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second call measures only what is new; another model, way or text is new."""
    task, regions = prepare_scoring(llama, tokenizer, texts), standard_regions(scores, 0.1)
    first = compare_regions(llama, task, regions, resume_dir=tmp_path, progress=False)
    measured: list[str] = []
    plain = regions_module.score
    monkeypatch.setattr(
        regions_module,
        "score",
        lambda *args, condition, **options: measured.append(condition) or plain(*args, condition=condition, **options),
    )
    again = compare_regions(llama, task, regions, resume_dir=tmp_path, progress=False)
    assert measured == []
    assert again.conditions == first.conditions
    compare_regions(llama, task, standard_regions(scores, 0.2), resume_dir=tmp_path, progress=False)
    assert measured == ["top 20 %", "bottom 20 %", "random 20 %"]
    with torch.no_grad():
        llama.model.norm.weight[0] = 2
    compare_regions(llama, task, {}, resume_dir=tmp_path, progress=False)
    assert measured[-1] == "base"


def test_standard_regions(scores: Any) -> None:
    """Top, bottom and as many random masks as asked for, all of one size."""
    regions = standard_regions(scores, 0.05, random_seeds=2)
    assert list(regions) == ["top 5 %", "bottom 5 %", "random 5 %, seed 0", "random 5 %, seed 1"]
    assert len({mask.count() for mask in regions.values()}) == 1
    assert (regions["top 5 %"] & regions["bottom 5 %"]).count() == 0
    assert regions["random 5 %, seed 0"] != regions["random 5 %, seed 1"]


def test_harm_ratio() -> None:
    """The rise under a region over the mean rise under the controls; infinite where those do no harm."""
    rows = {"base": (1.0, 1.0), "top": (4.0, 2.0), "r0": (1.5, 0.9), "r1": (2.5, 1.0)}
    report = PerplexityReport(
        {name: {"en": LanguageScore(en, 9), "zh": LanguageScore(zh, 9)} for name, (en, zh) in rows.items()}
    )
    assert harm_ratio(report, "top", ["r0", "r1"]) == {"en": 3.0, "zh": math.inf}


def test_paper_regions(llama: Any, scores: Any) -> None:
    """The four kinds by name: the masks that these names stand for."""
    magnitude = compute_importance(llama, method="magnitude")
    regions = paper_regions(scores, 0.1, magnitude=magnitude, random_seeds=2)
    assert list(regions) == ["top", "bottom", "magnitude", "random 0", "random 1"]
    assert regions["magnitude"] == CoreMask.from_scores(magnitude, fraction=0.1)
    assert regions["bottom"] == CoreMask.from_scores(scores, fraction=0.1, which="bottom")
    assert regions["random 1"] == CoreMask.from_scores(scores, fraction=0.1, which="random", seed=1)
    assert list(paper_regions(scores, 0.1)) == ["top", "bottom", "random 0"]


def test_wrong_regions_are_refused_before_anything_is_measured(
    llama: Any, tokenizer: Any, texts: Any, scores: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A way that does not exist, and a mask of another model that comes last."""
    task, regions = prepare_scoring(llama, tokenizer, texts), standard_regions(scores, 0.1)
    monkeypatch.setattr(regions_module, "score", lambda *_, **__: pytest.fail("measured"))
    with pytest.raises(InputError, match="how must be"):
        compare_regions(llama, task, regions, how="melt", progress=False)  # type: ignore[arg-type]
    other = CoreMask({"model.layers.9.mlp.up_proj.weight": torch.ones(2, 2, dtype=torch.bool)})
    with pytest.raises(CoreMaskMismatchError, match=r"layers\.9"):
        compare_regions(llama, task, {**regions, "other": other}, progress=False)
