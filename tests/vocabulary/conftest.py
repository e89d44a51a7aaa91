"""Tokenizers of every kind, each with a handful of tokens."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

UNKNOWN = "<unk>"
SPECIAL = {"bos_token": "<s>", "eos_token": "</s>"}
ENGLISH = ["the cat sat on the mat and looked at the moon", "a dog ran home over the old bridge at night"] * 3
CHINESE = ["猫坐在垫子上看着月亮和狗", "狗在夜里跑回家看着月亮和狗"] * 4


def byte_level() -> Tokenizer:
    """As GPT-2's and Llama 3's: the tokens are of English."""
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300,
        special_tokens=["<s>", "</s>", "<pad>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    made.train_from_iterator(ENGLISH, trainer)
    return made


def byte_fallback() -> Tokenizer:
    """As Llama 2's: no words, marks for spaces, bytes for characters that have no token."""
    tokens = [UNKNOWN, "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), "\u2581", *"abcdefghilmnorstuwkbgv"]
    vocabulary = {token: number for number, token in enumerate(dict.fromkeys(tokens))}
    merges = [("t", "h"), ("th", "e"), ("\u2581", "the")]
    for one, other in merges:
        vocabulary.setdefault(one + other, len(vocabulary))
    made = Tokenizer(models.BPE(vocabulary, merges, unk_token=UNKNOWN, byte_fallback=True, fuse_unk=True))
    made.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    made.decoder = decoders.Sequence(
        [decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return made


def unigram() -> Tokenizer:
    """As T5's: scored pieces, and an added token behind them."""
    letters = [(letter, -5.0 - number / 100) for number, letter in enumerate("abcdefghiklmnorstuvw")]
    pieces = [
        (UNKNOWN, 0.0),
        ("<s>", 0.0),
        ("</s>", 0.0),
        ("\u2581", -3.0),
        ("\u2581the", -4.0),
        ("at", -4.5),
        *letters,
    ]
    made = Tokenizer(models.Unigram(pieces, unk_id=0))
    made.pre_tokenizer = pre_tokenizers.Metaspace()
    made.decoder = decoders.Metaspace()
    made.add_special_tokens(["<extra>"])
    return made


def word_piece() -> Tokenizer:
    """As BERT's."""
    letters = "abcdefghiklmnorstuvw"
    tokens = [UNKNOWN, "<s>", "</s>", *letters, *(f"##{letter}" for letter in letters), "the"]
    vocabulary = {token: number for number, token in enumerate(tokens)}
    made = Tokenizer(models.WordPiece(vocabulary, unk_token=UNKNOWN))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.decoder = decoders.WordPiece()
    return made


def word_level() -> Tokenizer:
    """Whole words only."""
    return Tokenizer(models.WordLevel({UNKNOWN: 0, "<s>": 1, "</s>": 2}, unk_token=UNKNOWN))


def no_unknown() -> Tokenizer:
    """Byte pairs of letters alone: other characters are dropped."""
    tokens = ["<s>", "</s>", *"abcdefghijklmnopqrstuvwxyz"]
    made = Tokenizer(models.BPE({token: number for number, token in enumerate(tokens)}, []))
    made.decoder = decoders.Fuse()
    return made


KINDS: dict[str, Callable[[], Tokenizer]] = {
    "byte level": byte_level,
    "byte fallback": byte_fallback,
    "unigram": unigram,
    "word piece": word_piece,
    "word level": word_level,
    "no unknown": no_unknown,
}


@pytest.fixture
def make_tokenizer() -> Callable[..., Any]:
    """A tokenizer of transformers by its kind; further tokens are added behind its vocabulary."""

    def make(kind: str, *added: str) -> Any:
        made = PreTrainedTokenizerFast(tokenizer_object=KINDS[kind](), **SPECIAL)
        made.add_tokens([AddedToken(one, normalized=False) for one in added])
        return made

    return make


@pytest.fixture
def english() -> list[str]:
    return list(ENGLISH)


@pytest.fixture
def chinese() -> list[str]:
    return list(CHINESE)


@pytest.fixture
def make_model() -> Callable[..., Any]:
    """A random Llama with as many rows as are asked for."""

    def make(rows: int, **options: Any) -> Any:
        import torch

        torch.manual_seed(0)
        shape = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
        return LlamaForCausalLM(LlamaConfig(vocab_size=rows, **shape, max_position_embeddings=64, **options)).eval()

    return make
