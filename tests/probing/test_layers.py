"""From a model and treebanks to a report."""

from __future__ import annotations

import os
from typing import Any

import pytest

from hf_langcore import CoreMask, perturb
from hf_langcore.errors import CorpusError, InputError
from hf_langcore.probing import load_treebanks, probe_layers, transfer_matrix
from tests.conftest import ByteTokenizer, build_llama
from tests.probing.conftest import build_bert, parallel_treebanks

OPTIONS: dict[str, Any] = {"seeds": [0], "max_items": 120, "penalty": 1.0, "progress": False}


def test_an_encoder_in_two_languages(word_piece_tokenizer: Any) -> None:
    """The words are few, so that even a random encoder tells parts of speech in the language that it was trained on."""
    treebanks = parallel_treebanks()
    found = probe_layers(build_bert(), word_piece_tokenizer, treebanks, train_languages=["en"], task="upos", **OPTIONS)
    assert (found.task, found.train_languages, found.languages) == ("upos", ("en",), ["en", "de"])
    assert found.layers == [0, 1, 2]
    assert found.accuracy[0]["en"] > 0.9 > found.accuracy[0]["de"]
    assert found.settings["words"] == {"en": 180, "de": 180}
    assert found.settings["words_cut"] == 0


def test_relations_need_both_words_of_a_decoder() -> None:
    """Subjects stand before the verb, objects after it: the words alone do not tell them apart, positions do."""
    treebanks = {"en": parallel_treebanks(60)["en"]}
    found = probe_layers(
        build_llama(),
        ByteTokenizer(),
        treebanks,
        train_languages=["en"],
        layers=[0, 2],
        control=True,
        seeds=[0, 1],
        progress=False,
    )
    assert found.layers == [0, 2]
    assert found.task == "relation"
    assert found.accuracy[2]["en"] > found.accuracy[0]["en"] > 0.7
    assert found.accuracy[2]["en"] > 0.95
    assert found.scores[2]["en"].control is not None


def test_the_report_names_open_edits() -> None:
    model = build_llama()
    name = "model.layers.0.mlp.down_proj.weight"
    treebanks = {"en": parallel_treebanks()["en"]}
    with perturb(model, CoreMask({name: model.get_parameter(name) > 0})):
        found = probe_layers(model, ByteTokenizer(), treebanks, train_languages=["en"], **OPTIONS)
    assert len(found.settings["edits"]) == 1
    assert found.settings["pooling"] == "mean"


def test_transfer() -> None:
    found = transfer_matrix(build_llama(), ByteTokenizer(), parallel_treebanks(), task="upos", layers=[1], **OPTIONS)
    assert found.languages == ["en", "de"]
    matrix = found.accuracy(1)
    assert matrix["en"]["en"] > matrix["en"]["de"]
    assert matrix["de"]["de"] > matrix["de"]["en"]


def test_languages_and_tasks_that_are_not_there() -> None:
    model, treebanks = build_llama(), parallel_treebanks(4)
    with pytest.raises(CorpusError, match="no treebank of 'fr'; there are en, de"):
        probe_layers(model, ByteTokenizer(), treebanks, train_languages=["fr"], **OPTIONS)
    with pytest.raises(InputError, match="task must be one of relation, upos"):
        probe_layers(model, ByteTokenizer(), treebanks, train_languages=["en"], task="ner", **OPTIONS)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="at least one language"):
        probe_layers(model, ByteTokenizer(), treebanks, train_languages=[], **OPTIONS)


@pytest.mark.real
def test_a_real_model_knows_its_parts_of_speech(real_model_path: Any) -> None:
    """Far better than guessing, and what it learns in one language is of use in another."""
    folder = os.environ.get("LANGCORE_TREEBANKS")
    if not folder:
        pytest.skip("LANGCORE_TREEBANKS is not set: it names a folder of treebanks")
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(real_model_path)
    tokenizer = AutoTokenizer.from_pretrained(real_model_path)
    treebanks = load_treebanks(folder, ["es", "pt"])
    found = probe_layers(
        model,
        tokenizer,
        treebanks,
        train_languages=["es"],
        task="upos",
        max_sentences=40,
        layers=[3],
        seeds=[0],
        progress=False,
    )
    scores = found.scores[3]
    assert scores["es"].low > 2 * scores["es"].majority
    assert scores["pt"].low > scores["pt"].majority + 0.1
