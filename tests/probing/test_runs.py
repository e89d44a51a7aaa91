"""Probes on vectors that are there already."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from hf_langcore.errors import CorpusError, InputError
from hf_langcore.probing.runs import ProbePlan, probe_labelled, transfer_labelled
from tests.probing.conftest import separable

QUICK = ProbePlan(seeds=(0, 1), max_items=120, penalty=1.0)


def test_layers_and_languages() -> None:
    """Noise is guessed, what is there is found, also in a language that was not trained on."""
    report = probe_labelled(separable(), train_languages=["a"], plan=QUICK, layer_numbers=[0, 4], task="kind")
    assert report.layers == [0, 4]
    assert report.unseen_languages == ["b"]
    assert max(report.accuracy[0].values()) < 0.55
    assert min(report.accuracy[4].values()) > 0.9
    assert report.best_layer() == 4
    assert report.scores[4]["b"].by_seed[0] != pytest.approx(report.scores[0]["b"].by_seed[0])
    assert (report.task, report.settings["max_items"], report.settings["seeds"]) == ("kind", 120, [0, 1])
    assert len(report.scores[4]["a"].by_seed) == 2


def test_the_same_seeds_give_the_same_report() -> None:
    once, again = (probe_labelled(separable(), train_languages=["a", "b"], plan=QUICK).to_dict() for _ in range(2))
    assert once == again
    other = probe_labelled(separable(), train_languages=["a", "b"], plan=replace(QUICK, seeds=(2, 3)))
    assert other.to_dict()["scores"] != once["scores"]


def test_a_language_that_lies_elsewhere_is_found_by_centring() -> None:
    """A shift is what tells languages apart; a probe of one language knows nothing of it."""
    items = separable(shift=20.0)
    plain = probe_labelled(items, train_languages=["a"], plan=QUICK)
    centred = probe_labelled(items, train_languages=["a"], plan=replace(QUICK, center=True))
    assert plain.accuracy[1]["b"] < 0.7
    assert centred.accuracy[1]["b"] > 0.9


def test_no_test_sentence_is_trained_on() -> None:
    """Each sentence has a vector of its own, the same in all languages, and random labels: to know it would be all."""
    draw = np.random.default_rng(0)
    codes = np.repeat(draw.normal(size=(60, 80)), 2, axis=0).astype(np.float32)[None]
    labels = tuple(np.repeat(draw.choice(list("xy"), 60), 2))
    items = {
        code: replace(separable(60)["a"], layers=codes, labels=labels, groups=np.repeat(np.arange(60), 2))
        for code in "ab"
    }
    report = probe_labelled(items, train_languages=["a", "b"], test_languages=["b"], plan=ProbePlan(penalty=1e-2))
    assert report.accuracy[0]["b"] < 0.75


def test_the_control_task_tells_memory_from_structure() -> None:
    """Vectors that name the word type are as good for random labels; those of the label are not."""
    items = separable(80)["a"]
    names = sorted(set(items.types))
    one_hot = np.eye(len(names), dtype=np.float32)[[names.index(word) for word in items.types]]
    padded = np.pad(items.layers[1], ((0, 0), (0, len(names) - 6)))
    both = replace(items, layers=np.stack([one_hot, padded]))
    report = probe_labelled({"a": both}, train_languages=["a"], plan=replace(QUICK, control=True, max_items=400))
    memory, structure = report.scores[0]["a"], report.scores[1]["a"]
    assert memory.accuracy > 0.95
    assert memory.selectivity == pytest.approx(0, abs=0.05)
    assert structure.accuracy > 0.9
    assert structure.selectivity is not None
    assert structure.selectivity > 0.1
    assert probe_labelled({"a": both}, train_languages=["a"], plan=QUICK).scores[0]["a"].control is None


def test_the_matrix_trains_on_each_language_alone() -> None:
    items = separable(shift=20.0)
    found = transfer_labelled(items, plan=QUICK, task="kind")
    assert found.accuracy(1)["a"] == probe_labelled(items, train_languages=["a"], plan=QUICK).accuracy[1]
    assert found.accuracy(1)["b"]["b"] > 0.9 > found.accuracy(1)["b"]["a"]


def test_wrong_plans_and_languages() -> None:
    items = separable()
    for seeds in ((), (1, 1), (-1,)):
        with pytest.raises(InputError, match="seeds must be different"):
            ProbePlan(seeds=seeds)
    with pytest.raises(InputError, match="max_items"):
        ProbePlan(max_items=0)
    with pytest.raises(CorpusError, match="no treebank of 'fr'; there are a, b"):
        probe_labelled(items, train_languages=["a"], test_languages=["fr", "fr"])
    for train, test in (([], ["a"]), (["a"], [])):
        with pytest.raises(InputError, match="at least one language"):
            probe_labelled(items, train_languages=train, test_languages=test)
