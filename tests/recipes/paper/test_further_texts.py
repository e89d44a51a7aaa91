"""Real text as far as it goes, generated text beyond, and nothing twice."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
import torch

from hf_langcore.data.mini import mini_corpora
from hf_langcore.errors import CorpusError, InputError
from hf_langcore.recipes.bench.texts import Texts
from hf_langcore.recipes.bench.workbench import Bench, BenchSettings
from hf_langcore.recipes.paper import further_texts
from hf_langcore.recipes.paper.further_texts import (
    block_size_for,
    enough_blocks,
    generated_blocks,
    held_out_generated,
    own_blocks,
    trained_language,
)

TRAIN = {
    "en": ["the cat sat on the mat and looked at the moon above the old tree"] * 3,
    "xx": ["foo bar baz and more of it"],
}


@pytest.fixture
def bench(llama: Any, tokenizer: Any, tmp_path: Path) -> Bench:
    return Bench(llama, tokenizer, Texts(TRAIN, TRAIN, "tiny"), output=tmp_path, settings=BenchSettings(block_size=16))


def test_the_own_text_comes_first(bench: Bench) -> None:
    """As many blocks as it has are real; one more, and all of them are generated."""
    own = own_blocks(bench, "en", block_size=16)
    assert own.source == "real text"
    assert own.blocks.shape == (12, 16)
    assert (own.blocks[:, 0] == 1).all()
    assert torch.equal(enough_blocks(bench, "en", 5, block_size=16).blocks, own.blocks[:5])
    assert enough_blocks(bench, "en", 12, block_size=16).source == "real text"
    more = enough_blocks(bench, "en", 13, block_size=16)
    assert (len(more), more.source) == (13, "generated text")


def test_generated_text_never_repeats(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """It goes on over several portions; what is held out has no sentence of it, nor have a bench's generated texts."""
    monkeypatch.setattr(further_texts, "_SENTENCES_AT_ONCE", 8)
    used: list[tuple[int, int]] = []

    def spied(languages: Any, *, sentences: int, start: int) -> Any:
        used.append((start, start + sentences))
        return mini_corpora(languages, sentences=sentences, start=start)

    monkeypatch.setattr(further_texts, "mini_corpora", spied)
    made = generated_blocks(bench, "en", 60, block_size=16)
    assert made.blocks.shape == (60, 16)
    assert not torch.equal(made.blocks[:30], made.blocks[30:])
    assert len(used) > 1
    held_out_generated(bench, "en")
    used.sort()
    assert used[0][0] >= 1_000_000
    assert all(end <= start for (_, end), (start, _) in itertools.pairwise(used))


def test_generated_benches_say_so(bench: Bench, llama: Any, tokenizer: Any, tmp_path: Path) -> None:
    """Their own text is no real text."""
    generated = Texts(TRAIN, TRAIN, "mini", is_generated=True)
    other = Bench(llama, tokenizer, generated, output=tmp_path)
    assert own_blocks(other, "en", block_size=16).source == "generated text of the bench"


def test_too_little_text_is_refused(bench: Bench) -> None:
    """A block that is not full, and a language that the generator does not speak."""
    with pytest.raises(CorpusError, match="has 26 tokens and does not fill one block of 64"):
        own_blocks(bench, "xx", block_size=64)
    with pytest.raises(CorpusError, match="'xx': 9 blocks are asked for"):
        enough_blocks(bench, "xx", 9, block_size=16)
    with pytest.raises(CorpusError, match="generator"):
        held_out_generated(bench, "xx")


def test_sizes_and_languages(bench: Bench, llama: Any, tokenizer: Any, tmp_path: Path) -> None:
    """What is not said is the bench's; Chinese comes first where it is a core language."""
    assert block_size_for(bench, None) == 16
    assert block_size_for(bench, 1000) == 64
    assert trained_language(bench, None) == "en"
    assert trained_language(bench, "xx") == "xx"
    with pytest.raises(InputError, match="language='fr' is to be trained on"):
        trained_language(bench, "fr")
    texts = {"es": ["hola a todos"], "zh": ["你好世界"]}
    chinese = Bench(llama, tokenizer, Texts(texts, texts, "tiny"), output=tmp_path)
    assert trained_language(chinese, None) == "zh"


def test_held_out_text_is_measured_as_the_bench_measures(bench: Bench) -> None:
    """Block size and number of tokens are the bench's."""
    task = held_out_generated(bench, "en")
    assert list(task.windows) == ["en"]
    assert task.num_tokens == bench.settings.test_tokens
    assert max(len(window.ids) for window in task.windows["en"]) == 16
