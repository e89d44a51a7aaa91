"""Vectors of words are the model's own states, whatever they are batched with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from hf_langcore import perturb
from hf_langcore.errors import CorpusError, InputError, NonFiniteError, UnsupportedModelError
from hf_langcore.masks import CoreMask
from hf_langcore.probing.representations import labelled_relations, labelled_words, word_vectors
from hf_langcore.probing.words import special_tokens
from tests.conftest import ByteTokenizer, build_gpt2, build_llama, build_t5
from tests.probing.conftest import build_bert, parallel_treebanks, plain_sentence

BUILDERS = [build_llama, build_gpt2, build_bert, build_t5]


def sentences(lengths: tuple[int, ...] = (1, 5, 2, 9, 3)) -> list[Any]:
    letters = "abcdefghijkl"
    return [plain_sentence(*(letters[(n + k) % 12] * (1 + k % 3) for k in range(n))) for n in lengths]


@pytest.mark.parametrize("build", BUILDERS)
def test_vectors_are_the_states_of_the_words_tokens(build: Callable[[], Any]) -> None:
    """Mean, first and last, against a forward pass over one sentence alone, special tokens included."""
    model, tokenizer = build(), ByteTokenizer()
    sentence = plain_sentence("ab", "cde", "f")
    is_decoder = build in (build_llama, build_gpt2)
    special = special_tokens(tokenizer, is_encoder=not is_decoder)
    assert len(special.before) == 1
    ids = torch.tensor([[*special.before, *tokenizer("ab cde f", add_special_tokens=False)["input_ids"]]])
    stack = model.get_encoder() if build is build_t5 else model.base_model
    with torch.no_grad():
        states = torch.stack(stack(input_ids=ids, output_hidden_states=True).hidden_states)[:, 0].numpy()
    places = [(1, 3), (3, 7), (7, 9)]  # a blank is read with the word after it
    for pooling, pool in (("mean", lambda s: s.mean(1)), ("first", lambda s: s[:, 0]), ("last", lambda s: s[:, -1])):
        found = word_vectors(model, tokenizer, {"en": [sentence]}, pooling=pooling)["en"]
        expected = np.stack([pool(states[:, begin:end]) for begin, end in places], axis=1)
        assert found.layers.dtype == np.float32
        np.testing.assert_allclose(found.layers, expected, rtol=1e-4, atol=1e-5)
    assert found.layer_numbers == (0, 1, 2)


@pytest.mark.parametrize("build", BUILDERS)
def test_padding_changes_nothing(build: Callable[[], Any]) -> None:
    """One sentence at a time, or all of them in one padded batch, in the order of the treebank."""
    model, tokenizer = build(), ByteTokenizer()
    alone = word_vectors(model, tokenizer, {"en": sentences()}, batch_size=1)["en"]
    together = word_vectors(model, tokenizer, {"en": sentences()}, batch_size=5)["en"]
    np.testing.assert_allclose(alone.layers, together.layers, rtol=1e-4, atol=1e-5)
    assert together.sentence.tolist() == [0, 1, 1, 1, 1, 1, 2, 2, *[3] * 9, 4, 4, 4]
    assert together.words[:3] == ("b", "f", "gg")
    first = word_vectors(model, tokenizer, {"en": sentences((1,))})["en"]
    np.testing.assert_allclose(first.layers, together.layers[:, :1], rtol=1e-4, atol=1e-5)


def test_layers_and_sentences_can_be_chosen() -> None:
    model, tokenizer = build_llama(), ByteTokenizer()
    everything = word_vectors(model, tokenizer, {"en": sentences()})["en"]
    some = word_vectors(model, tokenizer, {"en": sentences()}, layers=[2, 0], max_sentences=2)["en"]
    assert some.layer_numbers == (2, 0)
    np.testing.assert_allclose(some.layers, everything.layers[[2, 0], :6], rtol=1e-4, atol=1e-5)
    for wrong in ([], [3], [-1], [1, 1]):
        with pytest.raises(InputError, match=r"0 \(the embeddings\) to 2"):
            word_vectors(model, tokenizer, {"en": sentences()}, layers=wrong)


def test_models_in_other_precisions_give_float32() -> None:
    model, tokenizer = build_llama(), ByteTokenizer()
    exact = word_vectors(model, tokenizer, {"en": sentences()})["en"].layers
    rounded = word_vectors(model.to(torch.bfloat16), tokenizer, {"en": sentences()})["en"].layers
    assert rounded.dtype == np.float32
    assert 0 < np.abs(exact - rounded).max() < 0.1 * np.abs(exact).max()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_a_gpu() -> None:
    tokenizer = ByteTokenizer()
    here = word_vectors(build_llama(), tokenizer, {"en": sentences()})["en"].layers
    there = word_vectors(build_llama().cuda(), tokenizer, {"en": sentences()})["en"].layers
    np.testing.assert_allclose(here, there, rtol=1e-2, atol=1e-3)


def test_heads_are_rows() -> None:
    """Of the same sentence, also after others; a head past the context is none, and its word is no relation."""
    model, tokenizer = build_llama(max_position_embeddings=16), ByteTokenizer()
    treebank = parallel_treebanks(3)["en"]
    found = word_vectors(model, tokenizer, {"en": treebank})["en"]
    assert found.words_cut == 3 * 3
    assert found.words == tuple(word for one in treebank for word in one.words[:3])
    assert found.heads.tolist() == [1, 2, -1, 4, 5, -1, 7, 8, -1]
    relations = labelled_relations(found)
    assert relations.labels == ("det", "nsubj") * 3
    assert relations.groups.tolist() == [0, 0, 1, 1, 2, 2]
    assert relations.types == tuple(word for one in treebank for word in one.words[:2])
    np.testing.assert_array_equal(relations.layers[:, 3], found.layers[:, 4] - found.layers[:, 5])
    backwards = plain_sentence("abcdefghijkl", "nopqrst")  # the second word is cut, the first is its head
    cut = word_vectors(model, tokenizer, {"en": [backwards]})["en"]
    assert (cut.words, cut.words_cut, cut.heads.tolist()) == (("abcdefghijkl",), 1, [-1])


def test_items_of_the_tasks() -> None:
    """Roots and punctuation have no relation, all words have a part of speech."""
    found = word_vectors(build_llama(), ByteTokenizer(), {"en": parallel_treebanks(2)["en"]})["en"]
    assert labelled_relations(found).labels == ("det", "nsubj", "det", "obj") * 2
    words = labelled_words(found)
    assert words.labels == ("DET", "NOUN", "VERB", "DET", "NOUN", "PUNCT") * 2
    np.testing.assert_array_equal(words.layers, found.layers)


def test_two_words_of_the_same_tokens_have_no_relation(merging_tokenizer: Any) -> None:
    """Their difference is zero and would give the relation away."""
    sentence = plain_sentence("of", "the", "day", text="of the day")
    found = word_vectors(build_llama(), merging_tokenizer, {"en": [sentence]})["en"]
    np.testing.assert_array_equal(found.layers[:, 0], found.layers[:, 1])
    relations = labelled_relations(found)
    assert relations.types == ("day",)


def test_sentences_without_words_that_count() -> None:
    """Nothing of the first is kept; if that holds of all, there is nothing to read."""
    model, tokenizer = build_llama(max_position_embeddings=8), ByteTokenizer()
    long, short = plain_sentence("abcdefghijk"), plain_sentence("ab")
    found = word_vectors(model, tokenizer, {"en": [long, short]}, batch_size=1)["en"]
    assert (found.sentence.tolist(), found.words_cut, found.layers.shape[1]) == ([1], 1, 1)
    with pytest.raises(CorpusError, match="'en': the treebank has no sentence"):
        word_vectors(model, tokenizer, {"en": [long]})


def test_open_edits_count_and_dropout_does_not() -> None:
    """The model is left in the mode that it was in."""
    model, tokenizer = build_llama(attention_dropout=0.5), ByteTokenizer()
    model.train()
    before = word_vectors(model, tokenizer, {"en": sentences()})["en"].layers
    assert model.training
    np.testing.assert_array_equal(before, word_vectors(model, tokenizer, {"en": sentences()})["en"].layers)
    name = "model.layers.1.mlp.down_proj.weight"
    with perturb(model, CoreMask({name: torch.ones_like(model.get_parameter(name), dtype=torch.bool)})):
        edited = word_vectors(model, tokenizer, {"en": sentences()})["en"].layers
    np.testing.assert_array_equal(before[:2], edited[:2])
    assert np.abs(before[2] - edited[2]).max() > 0.01


def test_wrong_arguments() -> None:
    model, tokenizer = build_llama(), ByteTokenizer()
    with pytest.raises(InputError, match="pooling must be one of mean, first, last"):
        word_vectors(model, tokenizer, {"en": sentences()}, pooling="max")  # type: ignore[arg-type]
    for wrong in (0, True, 2.5):
        with pytest.raises(InputError, match="max_sentences must be a whole number"):
            word_vectors(model, tokenizer, {"en": sentences()}, max_sentences=wrong)  # type: ignore[arg-type]
    with pytest.raises(CorpusError, match="treebanks must map"):
        word_vectors(model, tokenizer, {})
    with pytest.raises(UnsupportedModelError, match="no model of transformers"):
        word_vectors(torch.nn.Linear(2, 2), tokenizer, {"en": sentences()})


def test_states_that_are_not_finite() -> None:
    model, tokenizer = build_llama(), ByteTokenizer()
    with torch.no_grad():
        model.model.layers[1].mlp.down_proj.weight.fill_(float("inf"))
    with pytest.raises(NonFiniteError, match="'en': the hidden states of layer 2 have"):
        word_vectors(model, tokenizer, {"en": sentences()})
    assert word_vectors(model, tokenizer, {"en": sentences()}, layers=[0, 1])["en"].layer_numbers == (0, 1)


def test_translations_share_their_number() -> None:
    """A treebank that lacks its first sentence: no translation of a held-out sentence is trained on."""
    model, tokenizer = build_llama(), ByteTokenizer()
    named = [replace(one, name=f"s{place}") for place, one in enumerate(sentences())]
    found = word_vectors(model, tokenizer, {"en": named, "de": named[1:]})
    assert found["de"].sentence.tolist() == found["en"].sentence[found["en"].sentence > 0].tolist()
    alone = word_vectors(model, tokenizer, {"de": named[1:]})["de"]
    assert alone.sentence.tolist() == (found["de"].sentence - 1).tolist()
    assert alone.heads.tolist() == found["de"].heads.tolist()


def test_a_tokenizer_of_another_model_is_refused() -> None:
    model = build_llama()
    model.resize_token_embeddings(100)
    with pytest.raises(UnsupportedModelError, match=r"'en': the tokenizer gives the token .* 0 to 99 only"):
        word_vectors(model, ByteTokenizer(), {"en": sentences()})
