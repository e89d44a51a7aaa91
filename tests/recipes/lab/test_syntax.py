"""Which languages probes learn from, and the words as a model represents them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hf_langcore.errors import InputError
from hf_langcore.probing.treebanks import Sentence
from hf_langcore.recipes.bench.workbench import Subject
from hf_langcore.recipes.lab.syntax import SubjectWords, source_languages, untrained

ONE = Sentence(
    ("the", "cat", "sat"), ("DET", "NOUN", "VERB"), (1, 2, -1), ("det", "nsubj", "root"), "the cat sat", "", 1
)


@pytest.fixture
def subject(bpe_llama: Any, bpe: Any) -> Subject:
    return Subject("tiny", bpe_llama, bpe, is_encoder=False, digest="abc")


def test_sources() -> None:
    """Those asked for; else the usual four; else a quarter; always with a language left to test on."""
    banks: dict[str, list[Sentence]] = {code: [ONE] for code in ("ar", "de", "en", "fi", "zh")}
    assert source_languages(banks, ()) == ("ar", "en", "zh")
    assert source_languages(banks, ("fi", "de", "fi")) == ("fi", "de")
    assert source_languages({code: [ONE] for code in ("de", "fi", "ko")}, ()) == ("de",)
    assert source_languages({code: [ONE] for code in ("en", "zh")}, ()) == ("en",)
    with pytest.raises(InputError, match=r"\['xx'\].*leave at least one"):
        source_languages(banks, ("xx",))
    with pytest.raises(InputError, match="leave at least one"):
        source_languages(banks, tuple(banks))


def test_words(subject: Subject) -> None:
    """Layers as asked for; sentences up to the limit; labels of both tasks."""
    words = SubjectWords(subject, {"en": [ONE] * 5}, max_sentences=2, layers=[0, 2])
    assert words.layer_numbers == (0, 2)
    assert words.items("upos")["en"].labels == ("DET", "NOUN", "VERB") * 2
    assert words.items("relation")["en"].labels == ("det", "nsubj") * 2
    assert words.vectors is words.vectors


def test_untrained(subject: Subject, tmp_path: Path) -> None:
    """Another model of the same shape, the same for the same seed; the model and the global generator stay as they were."""
    weights = {name: value.clone() for name, value in subject.model.state_dict().items()}
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    blank, again, other = untrained(subject, seed=5), untrained(subject, seed=5), untrained(subject, seed=6)
    assert torch.equal(torch.rand(1), expected)
    assert len({subject.digest, blank.digest, other.digest}) == 3
    assert blank.digest == again.digest
    name = "model.layers.0.mlp.up_proj.weight"
    one, same, third, own = (s.model.get_parameter(name) for s in (blank, again, other, subject))
    assert torch.equal(one, same)
    assert not torch.equal(one, third)
    assert not torch.equal(one, own)
    assert blank.name == "tiny, untrained"
    for key, value in subject.model.state_dict().items():
        assert torch.equal(value, weights[key])
    assert np.isfinite(SubjectWords(blank, {"en": [ONE]}, max_sentences=1).vectors["en"].layers).all()
