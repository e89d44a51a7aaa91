"""Noise of known kinds, in a known share of the samples."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from hf_langcore.errors import InputError
from hf_langcore.recipes.bench.texts import Texts
from hf_langcore.recipes.bench.workbench import Bench
from hf_langcore.recipes.paper.noise_text import KINDS, noisy_block, pieces_of, replaced, with_noise
from tests.conftest import TEXTS


@pytest.fixture
def bench(llama: Any, bpe: Any, tmp_path: Path) -> Bench:
    return Bench(llama, bpe, Texts(TEXTS, TEXTS, "tiny"), output=tmp_path)


def text_of(bench: Bench, kind: str, *, seed: str = "0", size: int = 60) -> str:
    block = noisy_block(bench, kind, "en", block_size=size, seed=seed)
    assert len(block) == size
    assert block[0] == bench.tokenizer.bos_token_id
    return pieces_of(bench.tokenizer, block)


def test_one_word_again_and_again(bench: Bench) -> None:
    """A word of the language's own text, to the end of the block; another seed, another word."""
    words = [text_of(bench, "repeated words", seed=str(seed)).split()[:-1] for seed in range(8)]
    assert all(len(set(each)) == 1 and len(each) > 5 for each in words)
    assert all(any(each[0] in text for text in TEXTS["en"]) for each in words)
    assert len({each[0] for each in words}) > 2


def test_non_words_differ(bench: Bench) -> None:
    words = text_of(bench, "non-words").split()[:-1]
    assert len(words) == len(set(words)) > 3
    assert all(word.isascii() and word.islower() and 4 <= len(word) <= 10 for word in words)


def test_answers_belong_to_other_questions(bench: Bench) -> None:
    """The instruction is the language's, the answer of any document."""
    text = text_of(bench, "mismatched instructions", size=200)
    asked, _, answer = text.partition("\n\n### Response:\n")
    assert asked.removeprefix("### Instruction:\n") in {each[:120] for each in TEXTS["en"]}
    assert any(answer.partition("\n")[0][:10] in each for each in TEXTS["en"] + TEXTS["de"])


def test_a_share_of_the_samples_is_replaced(bench: Bench) -> None:
    """The others keep their place; more noise has all of the lesser noise in it."""
    samples = torch.full((20, 12), 3)
    languages = ["en", "de"] * 10
    little = with_noise(bench, samples, languages, kind="non-words", share=0.1, seed=4)
    much = with_noise(bench, samples, languages, kind="non-words", share=0.5, seed=4)
    noisy = (little != samples).any(dim=1)
    assert int(noisy.sum()) == 2
    assert int((much != samples).any(dim=1).sum()) == 10
    assert torch.equal(much[noisy], little[noisy])
    assert (samples == 3).all()
    other = with_noise(bench, samples, languages, kind="non-words", share=0.1, seed=5)
    assert not torch.equal(other, little)
    assert [replaced(200, share) for share in (0, 0.001, 0.05, 1)] == [0, 1, 10, 200]


def test_unknown_kinds_are_refused(bench: Bench) -> None:
    with pytest.raises(InputError, match="kinds of noise are"):
        noisy_block(bench, "hiss", "en", block_size=8, seed="0")
    assert len(KINDS) == 3


def test_ids_stand_for_text_where_nothing_decodes(tokenizer: Any) -> None:
    assert pieces_of(tokenizer, [1, 5]) == "1 5"
