"""Blocks and masks of masked language modelling."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from hf_langcore.errors import InputError
from hf_langcore.recipes.encoder import train_masking_tokenizer
from hf_langcore.recipes.masking import Masking, masking_blocks


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return train_masking_tokenizer(["The cat sees a dog.", "猫看见狗。"], vocab_size=300)


def test_blocks(tokenizer: Any) -> None:
    """Each block is [CLS], text and [SEP]; a block too short for text is refused."""
    text = "The cat sees a dog. " * 9
    blocks = masking_blocks({"en": [text]}, tokenizer, block_size=10)["en"]
    assert blocks.shape[1] == 10
    assert (blocks[:, 0] == 1).all()
    assert (blocks[:, -1] == 2).all()
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    assert blocks[:, 1:-1].flatten().tolist() == ids[: 8 * len(blocks)]
    with pytest.raises(InputError, match="block_size must be at least 4 tokens, got 3"):
        masking_blocks({"en": [text]}, tokenizer, block_size=3)


def test_masking(tokenizer: Any) -> None:
    """The share is predicted: 8 of 10 become [MASK], 1 another token, 1 stays; never a special token."""
    ids = torch.randint(4, 300, (200, 100), generator=torch.Generator().manual_seed(0))
    ids[:, 0], ids[:, -1] = 1, 2
    inputs, labels = Masking(tokenizer, 0.25)(ids.clone(), torch.Generator().manual_seed(0))
    chosen = labels != -100
    assert not chosen[:, [0, -1]].any()
    assert torch.equal(labels[chosen], ids[chosen])
    assert torch.equal(inputs[~chosen], ids[~chosen])
    assert chosen.float().mean().item() == pytest.approx(0.245, abs=0.01)
    masked = inputs[chosen] == 3
    stays = inputs[chosen] == ids[chosen]
    assert masked.float().mean().item() == pytest.approx(0.8, abs=0.02)
    assert stays.float().mean().item() == pytest.approx(0.1, abs=0.02)


def test_unigram(tokenizer: Any) -> None:
    """A text of two tokens, equally frequent: log 2, whatever the special tokens."""
    two = tokenizer("a!", add_special_tokens=False)["input_ids"]
    assert len(two) == 2
    blocks = torch.tensor([[1, two[0], two[1], 2]] * 3)
    assert Masking(tokenizer, 0.5).unigram(blocks, torch.tensor(two)) == pytest.approx(math.log(2))
