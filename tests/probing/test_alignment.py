"""Alignment of a model's relations: what is compared, what is drawn, and what it depends on."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from hf_langcore.errors import CorpusError, InputError
from hf_langcore.probing.alignment import AlignmentSettings, align_relations
from hf_langcore.probing.alignment_report import MEASURES
from hf_langcore.probing.procrustes import procrustes
from hf_langcore.probing.prototypes import prototypes
from hf_langcore.probing.representations import labelled_relations, word_vectors
from hf_langcore.probing.similarity import distance_matrices, similarity
from tests.conftest import build_llama
from tests.probing.conftest import build_bert
from tests.probing.relation_banks import relation_banks

SETTINGS = AlignmentSettings(draws=8, procrustes_draws=2, shuffles=16, seeds=2, samples_per_label=4)
BANKS = relation_banks()
LABELS = ("advmod", "amod", "case", "det", "nsubj", "obj", "obl")


@pytest.fixture(scope="module")
def model() -> Any:
    return build_llama(max_position_embeddings=128)


def test_figures_are_those_of_the_prototypes(model: Any, tokenizer: Any) -> None:
    """Through scalar products and coordinates, the figures of the plain mean vectors come out."""
    found = align_relations(model, tokenizer, BANKS, settings=SETTINGS)
    assert found.languages == ("a", "b", "c")
    assert found.layers == (0, 1, 2)
    assert found.labels == LABELS
    assert set(found.measures) == set(MEASURES)
    vectors = word_vectors(model, tokenizer, BANKS)
    means = [prototypes(labelled_relations(vectors[code])).layers for code in "ac"]
    expected = similarity(*map(distance_matrices, means))
    for place, layer in enumerate(found.layers):
        assert found.matrix("rsa", layer)[0, 2] == pytest.approx(expected[place])
        own = procrustes(means[0][place], means[1][place])
        for name in ("residual", "held_out_error", "retrieval"):
            assert found.matrix(name, layer)[2, 0] == pytest.approx(getattr(own, name), abs=1e-6)
    for one in found.measures.values():
        off = ~np.eye(3, dtype=bool)
        np.testing.assert_allclose(one.pairs, np.swapaxes(one.pairs, 1, 2))
        assert (one.low[:, off] <= one.pairs[:, off] + 1e-9).all()
        assert (one.high[:, off] >= one.pairs[:, off] - 1e-9).all()
        np.testing.assert_allclose(one.mean, one.pairs[:, [0, 0, 1], [1, 2, 2]].mean(-1))


def test_languages_that_are_the_same(model: Any, tokenizer: Any) -> None:
    """Are aligned fully, whatever sentences are drawn, since parallel ones are drawn together; and near in transport."""
    found = align_relations(model, tokenizer, {"x": BANKS["a"], "y": BANKS["a"]}, settings=SETTINGS)
    np.testing.assert_allclose(found.measures["rsa"].mean, 1)
    np.testing.assert_allclose(found.measures["rsa"].draws, 1)
    np.testing.assert_allclose(found.measures["residual"].draws, 0, atol=1e-6)
    assert abs(found.measures["transport"].mean).max() < 0.05
    other = align_relations(model, tokenizer, {"x": BANKS["a"], "y": BANKS["b"]}, settings=SETTINGS)
    assert other.measures["rsa"].mean[1] < 0.9999
    assert (found.measures["rsa"].chance < 0.5).all()
    alone = [replace(one, name=f"{one.name}y") for one in BANKS["a"]]
    drawn = align_relations(model, tokenizer, {"x": BANKS["a"], "y": alone}, settings=SETTINGS)
    assert drawn.measures["rsa"].draws[1].max() < 0.9999, "no longer parallel"


def test_the_same_seed_gives_the_same(model: Any, tokenizer: Any) -> None:
    first, again = (align_relations(model, tokenizer, BANKS, layers=[1], settings=SETTINGS) for _ in range(2))
    assert first.to_dict() == again.to_dict()
    assert first.layers == (1,)
    other = align_relations(model, tokenizer, BANKS, layers=[1], settings=replace(SETTINGS, seed=1))
    assert other.matrix("rsa", 1)[0, 1] == first.matrix("rsa", 1)[0, 1]
    for name in ("rsa", "transport"):
        assert (other.measures[name].draws != first.measures[name].draws).any()


def test_only_relations_that_all_have(model: Any, tokenizer: Any) -> None:
    banks = {**BANKS, "c": [replace(one, relations=("x", *one.relations[1:])) for one in BANKS["c"]]}
    settings = replace(SETTINGS, procrustes_draws=0, seeds=0)
    found = align_relations(model, tokenizer, banks, layers=[0], settings=settings)
    assert found.labels == ("advmod", "amod", "case", "nsubj", "obj", "obl")
    assert list(found.measures) == ["rsa"]
    with pytest.raises(CorpusError, match=r"Only 0 relations stand at least 10 times.*a 0, b 0"):
        align_relations(model, tokenizer, BANKS, layers=[0], settings=replace(settings, max_sentences=3))
    with pytest.raises(InputError, match="at least two"):
        align_relations(model, tokenizer, {"a": BANKS["a"]})


def test_encoders(word_piece_tokenizer: Any) -> None:
    found = align_relations(build_bert(), word_piece_tokenizer, BANKS, settings=replace(SETTINGS, seeds=0))
    assert found.layers == (0, 1, 2)


@pytest.mark.parametrize(
    "wrong", [{"draws": 1}, {"procrustes_draws": 1}, {"procrustes_draws": 9}, {"min_count": 1}, {"seeds": -1}]
)
def test_settings(wrong: dict[str, int]) -> None:
    with pytest.raises(InputError, match=next(iter(wrong))):
        AlignmentSettings(**{"draws": 8, "procrustes_draws": 2, **wrong})
