"""Tagging across languages with frozen vectors."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from hf_langcore.errors import CorpusError, InputError
from hf_langcore.probing import Labelled, tag_few_shot, tag_labelled, tag_zero_shot
from hf_langcore.probing.runs import ProbePlan
from tests.conftest import ByteTokenizer, build_llama
from tests.probing.conftest import parallel_treebanks, same_bits_after, separable

QUICK = ProbePlan(seeds=(0, 1), max_items=100, penalty=1.0)


def test_a_few_sentences_of_the_target_help() -> None:
    """The target lies elsewhere, so that the sources alone mislead; with all sentences the target alone does as well."""
    items = separable(shift=8.0)
    found = tag_labelled(items, train_languages=["a"], target_languages=["b"], shots=(0, 2, 20), plan=QUICK)
    accuracy = [found.accuracy[shot]["b"] for shot in (0, 2, 20)]
    assert accuracy[0] < 0.8
    assert accuracy[1] > accuracy[0] + 0.1
    assert accuracy[2] > 0.9
    assert list(found.alone) == [2, 20]
    assert found.alone[20]["b"].accuracy > 0.9
    assert len(found.joint[2]["b"].by_seed) == 2


def test_the_sources_help_where_the_target_is_like_them() -> None:
    found = tag_labelled(separable(), train_languages=["a"], target_languages=["b"], shots=(0, 1), plan=QUICK)
    assert found.accuracy[0]["b"] > 0.9
    assert found.joint[1]["b"].accuracy > found.alone[1]["b"].accuracy + 0.05


def test_the_layer_is_chosen_without_the_target() -> None:
    """Layer 1 tells labels apart in the source, layer 0 in the target only."""
    items = separable()
    items["b"] = replace(items["b"], layers=items["b"].layers[::-1])
    found = tag_labelled(
        items, train_languages=["a"], target_languages=["b"], shots=(0,), plan=QUICK, layer_numbers=[3, 5]
    )
    assert found.layer == 5
    assert found.accuracy[0]["b"] < 0.6


def test_the_model_is_read_and_not_trained() -> None:
    model = build_llama()
    treebanks = parallel_treebanks(20)
    with same_bits_after(model):
        zero = tag_zero_shot(model, ByteTokenizer(), treebanks, train_languages=["en"], seeds=[0], progress=False)
        few = tag_few_shot(
            model,
            ByteTokenizer(),
            treebanks,
            train_languages=["en"],
            shots=[0, 4],
            layer=zero.layer,
            seeds=[0],
            progress=False,
        )
    assert zero.languages == few.languages == ["de"]
    assert few.joint[0] == zero.joint[0]
    assert few.accuracy[4]["de"] > few.accuracy[0]["de"]
    assert few.settings["words"] == {"en": 120, "de": 120}


def test_wrong_arguments() -> None:
    items = separable(20)
    for train, target in ((["a"], ["a"]), ([], ["b"]), (["a"], [])):
        with pytest.raises(InputError, match="one source language and one other"):
            tag_labelled(items, train_languages=train, target_languages=target)
    for shots in ((), (-1,), (True,), (2.5,)):
        with pytest.raises(InputError, match="shots must be numbers"):
            tag_labelled(items, train_languages=["a"], target_languages=["b"], shots=shots)  # type: ignore[arg-type]
    with pytest.raises(CorpusError, match="'b' has 16 sentences that are not held out, fewer than the 17"):
        tag_labelled(items, train_languages=["a"], target_languages=["b"], shots=(17,))
    with pytest.raises(CorpusError, match="no treebank of 'c'"):
        tag_labelled(items, train_languages=["a"], target_languages=["c"])


def test_sources_and_target_count_the_same() -> None:
    """The vectors say nothing: half of 30 % and half of all is more than half, though the sources have far more items."""
    mixed = ("x",) * 7 + ("y",) * 3
    items = {
        language: Labelled(np.zeros((1, 200, 2), np.float32), labels * 20, np.repeat(np.arange(20), 10))
        for language, labels in (("a", mixed), ("b", mixed), ("c", ("y",) * 10))
    }
    found = tag_labelled(items, train_languages=["a", "b"], target_languages=["c"], shots=(0, 1), plan=QUICK)
    assert found.accuracy == {0: {"c": 0.0}, 1: {"c": 1.0}}
    assert found.alone[1]["c"].accuracy == 1.0
