"""What an edit does to the probes of a model."""

from __future__ import annotations

import json
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from hf_langcore.editing import perturb
from hf_langcore.errors import CorpusError
from hf_langcore.masks import CoreMask
from hf_langcore.probing.alignment import AlignmentSettings, align_relations
from hf_langcore.probing.layers import labelled, probe_layers
from hf_langcore.probing.representations import word_vectors
from hf_langcore.probing.runs import ProbePlan
from hf_langcore.recipes.bench.workbench import Subject
from hf_langcore.recipes.lab.syntax_damage import (
    MEAN,
    Damage,
    SyntaxDamage,
    _Counts,
    _drops,
    similarity_of_languages,
)

pytest.importorskip("sklearn")

PLAN = ProbePlan((0, 1), 60)


@pytest.fixture
def damage(bpe_llama: Any, bpe: Any, parallel: Any) -> SyntaxDamage:
    subject = Subject("tiny", bpe_llama, bpe, is_encoder=False, digest="abc")
    return SyntaxDamage(subject, parallel, sources=["en", "zh"], layers=[1, 2], max_sentences=20, plan=PLAN, draws=4)


@pytest.fixture(scope="module")
def region(bpe_llama: Any) -> CoreMask:
    scores = {name: value.abs() for name, value in bpe_llama.named_parameters() if "layers" in name}
    return CoreMask.from_scores(scores, fraction=0.5)


def test_no_edit_takes_nothing(damage: SyntaxDamage) -> None:
    """Every drop and both ends are exactly zero; accuracies are those of `probe_layers`."""
    found = damage.measure(lambda _: nullcontext())
    assert {(drop.drop, drop.low, drop.high, *drop.by_seed) for drop in found.drops.values()} == {(0.0,) * 5}
    subject = damage.subject
    report = probe_layers(
        subject.model,
        subject.tokenizer,
        damage.treebanks,
        train_languages=["en", "zh"],
        task="relation",
        seeds=(0, 1),
        max_items=60,
        progress=False,
    )
    for layer in (1, 2):
        assert found.drops["relation", layer, "original", "de"].before == report.accuracy[layer]["de"]
        mean = found.drops["relation", layer, "retrained", MEAN].after
        assert mean == pytest.approx(report.mean_accuracy(layer))


def test_an_edit(damage: SyntaxDamage, region: CoreMask) -> None:
    """Retrained probes do as probes of the edited model do; original ones are those of the unedited; weights come back."""
    model = damage.subject.model
    before = {name: value.clone() for name, value in model.state_dict().items()}
    found = damage.measure(lambda one: perturb(one, region))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    with perturb(model, region):
        report = probe_layers(
            model,
            damage.subject.tokenizer,
            damage.treebanks,
            train_languages=["en", "zh"],
            task="upos",
            seeds=(0, 1),
            max_items=60,
            progress=False,
        )
    for layer in (1, 2):
        assert found.drops["upos", layer, "retrained", "de"].after == report.accuracy[layer]["de"]
        original = found.drops["upos", layer, "original", MEAN]
        assert original.drop > found.drops["upos", layer, "retrained", MEAN].drop
        assert original.low <= original.drop <= original.high
        assert original.drop == pytest.approx(np.mean(original.by_seed))
    again = Damage.from_dict(json.loads(json.dumps(found.to_dict())))
    assert again == found


def test_similarity(damage: SyntaxDamage) -> None:
    """That of `align_relations`, on vectors that are there."""
    subject, banks = damage.subject, damage.treebanks
    vectors = word_vectors(subject.model, subject.tokenizer, banks, layers=[1, 2])
    found = similarity_of_languages(labelled(vectors, "relation"), banks, draws=4)
    assert len(found) == 2
    alignment = damage.measure(lambda _: nullcontext()).alignment
    assert list(alignment) == [1, 2]
    assert alignment[2] == pytest.approx(found[1])
    assert all(low <= mean <= high for mean, low, high in found)
    with pytest.raises(CorpusError, match="Only 0 relations stand at least 99 times"):
        similarity_of_languages(labelled(vectors, "relation"), banks, draws=4, min_count=99)
    without = SyntaxDamage(subject, banks, sources=["en"], layers=[1], max_sentences=20, plan=PLAN, draws=0)
    assert without.measure(lambda _: nullcontext()).alignment == {}


def test_similarity_is_that_of_the_alignment(damage: SyntaxDamage, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same mean and ends as the report of `align_relations`, where as many relations are there."""
    monkeypatch.setattr("hf_langcore.probing.alignment._LEAST_LABELS", 3)
    subject, banks = damage.subject, damage.treebanks
    vectors = word_vectors(subject.model, subject.tokenizer, banks, layers=[1, 2])
    found = similarity_of_languages(labelled(vectors, "relation"), banks, draws=4)
    settings = AlignmentSettings(draws=4, procrustes_draws=0, seeds=0)
    report = align_relations(subject.model, subject.tokenizer, banks, layers=[1, 2], settings=settings)
    assert found[1] == pytest.approx(report.measures["rsa"].interval(1))


def test_drops_are_paired() -> None:
    """The same sentences are drawn before and after: a loss of one right item in each is exact, its interval a point."""
    total = np.full((1, 12), 4.0)
    right = np.arange(12.0)[None] % 3 + 1
    found = _drops({"en": _Counts(right, total)}, {"en": _Counts(right - 1, total)})
    assert (found["en"].before, found["en"].after) == (0.5, 0.25)
    assert (found["en"].low, found["en"].high) == pytest.approx((0.25, 0.25))
    noisy = _drops({"en": _Counts(right, total)}, {"en": _Counts(right * 0 + 1, total)})
    assert noisy["en"].low < 0.25 < noisy["en"].high
    two = {"en": _Counts(right, total), "de": _Counts(right + 1, total)}
    mean = _drops(two, {"en": _Counts(right - 1, total), "de": _Counts(right + 1, total)})[MEAN]
    assert (mean.before, mean.drop, mean.low) == pytest.approx((0.625, 0.125, 0.125))


def test_similarity_of_treebanks_in_another_order(damage: SyntaxDamage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Draws follow the sentences: where one is missing and the others are reversed, it is that of the alignment, too."""
    monkeypatch.setattr("hf_langcore.probing.alignment._LEAST_LABELS", 3)
    subject = damage.subject
    named = {
        code: [replace(one, name=f"s{place}") for place, one in enumerate(some)]
        for code, some in damage.treebanks.items()
    }
    banks = {code: some[:0:-1] if number else some for number, (code, some) in enumerate(named.items())}
    found = similarity_of_languages(
        labelled(word_vectors(subject.model, subject.tokenizer, banks, layers=[2]), "relation"), banks, draws=4
    )
    settings = AlignmentSettings(draws=4, procrustes_draws=0, seeds=0)
    report = align_relations(subject.model, subject.tokenizer, banks, layers=[2], settings=settings)
    assert found[0] == pytest.approx(report.measures["rsa"].interval(0))
