"""What is frozen, and what anchors weigh by."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from hf_langcore.errors import InputError
from hf_langcore.importance import compute_importance
from hf_langcore.masks import CoreMask
from hf_langcore.recipes.protection.shields import Shields, ShieldSize, compute_shields

SIZE = ShieldSize(
    fraction=0.1, core_languages=("en", "zh"), block_size=12, core_blocks=2, column_blocks=2, fisher_blocks=2
)


@pytest.fixture(scope="module")
def shields(bpe_llama: Any, bpe: Any, small: Any) -> Shields:
    source = {language: small.train[language] for language in ("en", "de")}
    return compute_shields(bpe_llama, bpe, small.train, source, size=SIZE, progress=False)


def test_the_core_and_its_controls_have_one_size(shields: Shields, bpe_llama: Any) -> None:
    """Core, random and magnitude mask take the same number of every tensor, and other weights."""
    core, random, largest = (shields.mask(name, seed=0) for name in ("core", "random", "magnitude"))
    for name in core:
        assert core[name].sum() == random[name].sum() == largest[name].sum() == int(0.1 * core[name].numel())
    assert core != random != largest != core
    assert core == shields.mask("core", seed=1)
    assert random != shields.mask("random", seed=1)
    weights = dict(bpe_llama.named_parameters())
    name = "model.layers.0.mlp.up_proj.weight"
    inside = weights[name].detach().abs()[largest[name]]
    assert inside.min() >= weights[name].detach().abs()[~largest[name]].max()


def test_the_core_is_that_of_its_languages(shields: Shields, bpe_llama: Any, bpe: Any, small: Any) -> None:
    """Not of the kept languages, as importance for anchors is."""
    options = {"block_size": 12, "max_tokens": 24, "progress": False}
    languages = {language: small.train[language] for language in ("en", "zh")}
    scores = compute_importance(bpe_llama, bpe, languages, batch_size=8, **options)
    assert shields.mask("core", seed=0) == CoreMask.from_scores(scores, fraction=0.1)
    kept = {language: small.train[language] for language in ("en", "de")}
    fisher = compute_importance(bpe_llama, bpe, kept, method="fisher", batch_size=1, **options)
    assert all(torch.equal(shields.importance[name], fisher[name]) for name in fisher)


def test_columns_are_whole(shields: Shields) -> None:
    """Half of the columns of every matrix, all of each; random ones as many."""
    for frozen in ("columns", "random columns"):
        mask = shields.mask(frozen, seed=0)
        for name in mask:
            columns = mask[name].all(dim=0)
            assert torch.equal(mask[name], columns.expand_as(mask[name]))
            assert columns.sum() == mask[name].shape[1] // 2
    assert shields.mask("columns", seed=0) == shields.mask("columns", seed=1)
    assert shields.mask("random columns", seed=0) != shields.mask("random columns", seed=1)
    assert list(shields.mask("columns", seed=0)) == list(shields.mask("random columns", seed=0))


def test_an_unknown_name_is_refused(shields: Shields) -> None:
    """With the names that there are."""
    with pytest.raises(InputError, match="frozen must be one of"):
        shields.mask("rows", seed=0)  # type: ignore[arg-type]


def test_finished_languages_are_kept(
    bpe_llama: Any, bpe: Any, small: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second call reads the scores of all languages from the folder."""
    options = {"size": SIZE, "resume_dir": tmp_path, "progress": False}
    first = compute_shields(bpe_llama, bpe, small.train, {"de": small.train["de"]}, **options)
    compute = "hf_langcore.importance.compute._score"
    monkeypatch.setattr(compute, lambda *_args, **_options: pytest.fail("nothing is computed twice"))
    again = compute_shields(bpe_llama, bpe, small.train, {"de": small.train["de"]}, **options)
    assert again.columns == first.columns
    assert again.mask("core", seed=0) == first.mask("core", seed=0)
