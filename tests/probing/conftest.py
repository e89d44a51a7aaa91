"""Tiny treebanks, tokenizers of several kinds, and a tiny encoder, all without files or network."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch

from hf_langcore.probing.representations import Labelled
from hf_langcore.probing.treebanks import Sentence
from tests.conftest import same_bits, snapshot

NOUNS = {"en": ["cat", "dog", "bird", "tree"], "de": ["Katze", "Hund", "Vogel", "Baum"]}
VERBS = {"en": ["sees", "eats", "finds"], "de": ["sieht", "frisst", "findet"]}
THE = {"en": "the", "de": "die"}


def parallel_treebanks(count: int = 30, *, seed: int = 0) -> dict[str, list[Sentence]]:
    """The same random sentences (the cat sees the dog .) in two languages."""
    draw = np.random.default_rng(seed)
    choices = [(int(draw.integers(4)), int(draw.integers(3)), int(draw.integers(4))) for _ in range(count)]
    return {language: [_sentence(language, *choice) for choice in choices] for language in NOUNS}


def _sentence(language: str, subject: int, verb: int, target: int) -> Sentence:
    words = (
        THE[language],
        NOUNS[language][subject],
        VERBS[language][verb],
        THE[language],
        NOUNS[language][target],
        ".",
    )
    return Sentence(
        words=words,
        upos=("DET", "NOUN", "VERB", "DET", "NOUN", "PUNCT"),
        heads=(1, 2, -1, 4, 2, 2),
        relations=("det", "nsubj", "root", "det", "obj", "punct"),
        text=" ".join(words[:-1]) + ".",
    )


def conllu(sentences: list[Sentence]) -> str:
    """Sentences as a CoNLL-U file."""
    blocks = []
    for one in sentences:
        rows = zip(one.words, one.upos, one.heads, one.relations, strict=True)
        lines = [
            f"{number}\t{word}\t_\t{tag}\t_\t_\t{head + 1}\t{relation}\t_\t_"
            for number, (word, tag, head, relation) in enumerate(rows, start=1)
        ]
        blocks.append("\n".join([f"# text = {one.text}", *lines]))
    return "\n\n".join(blocks) + "\n\n"


def plain_sentence(*words: str, text: str | None = None, contractions: Any = ()) -> Sentence:
    """A sentence whose tree does not matter: each word depends on the first."""
    count = len(words)
    return Sentence(
        words,
        ("X",) * count,
        (-1, *[0] * (count - 1)),
        ("root", *["dep"] * (count - 1)),
        text,
        contractions=contractions,
    )


def fast(tokenizer: Any, special: dict[str, str]) -> Any:
    """A tokenizer of the tokenizers library as one of transformers."""
    from transformers import PreTrainedTokenizerFast

    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, **{f"{name}_token": token for name, token in special.items()}
    )


@pytest.fixture(scope="session")
def byte_tokenizer() -> Any:
    """Byte-level BPE without merges, like GPT-2's: each byte is a token."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {"<pad>": 0, "<s>": 1, **{letter: number for number, letter in enumerate(alphabet, start=2)}}
    tokenizer = Tokenizer(models.BPE(vocabulary, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return fast(tokenizer, {"bos": "<s>", "pad": "<pad>"})


@pytest.fixture(scope="session")
def merging_tokenizer() -> Any:
    """BPE without pre-tokenizer: "of the" is one token, and so is the end of one word with the beginning of the next."""
    from tokenizers import Tokenizer, models

    pieces = ["<s>", *"abcdefghijklmnopqrstuvwxyz ", "of", "th", "the", "of ", "of the"]
    merges = [("o", "f"), ("t", "h"), ("th", "e"), ("of", " "), ("of ", "the")]
    tokenizer = Tokenizer(models.BPE({piece: number for number, piece in enumerate(pieces)}, merges))
    return fast(tokenizer, {"bos": "<s>"})


@pytest.fixture(scope="session")
def sentence_piece_tokenizer() -> Any:
    """Unigram pieces with a mark for spaces, also at the beginning, as of Llama 2 or XLM-R."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    pieces = [("<unk>", 0.0), ("<s>", 0.0), ("\u2581", -3.0), ("\u2581the", -2.0), ("\u2581c", -3.0), ("at", -3.0)]
    tokenizer = Tokenizer(models.Unigram([*pieces, ("美國", -3.0), ("的", -3.0)], unk_id=0, byte_fallback=False))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always", split=False)
    return fast(tokenizer, {"bos": "<s>", "unk": "<unk>"})


def word_piece() -> Any:
    """WordPiece with CLS and SEP, as of BERT; it strips accents and drops control characters."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

    letters = "abcdefghijklmnopqrstuvwxyz."
    words = [word.lower() for table in (NOUNS, VERBS) for row in table.values() for word in row] + list(THE.values())
    pieces = [
        "[PAD]",
        "[UNK]",
        "[CLS]",
        "[SEP]",
        *letters,
        *(f"##{letter}" for letter in letters),
        *dict.fromkeys(words),
    ]
    tokenizer = Tokenizer(
        models.WordPiece({piece: number for number, piece in enumerate(pieces)}, unk_token="[UNK]")  # noqa: S106 no password
    )
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return fast(tokenizer, {"cls": "[CLS]", "sep": "[SEP]", "pad": "[PAD]", "unk": "[UNK]"})


@pytest.fixture(scope="session")
def word_piece_tokenizer() -> Any:
    """Such a tokenizer."""
    return word_piece()


def build_bert(seed: int = 0, **options: Any) -> Any:
    """A random BERT with a head for masked words; `options` override its config."""
    from transformers import BertConfig, BertForMaskedLM

    config = {
        "vocab_size": 120,
        "hidden_size": 16,
        "intermediate_size": 24,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "max_position_embeddings": 64,
        "initializer_range": 0.2,
    }
    torch.manual_seed(seed)
    return BertForMaskedLM(BertConfig(**{**config, **options})).eval()


def separable(count: int = 40, *, languages: str = "ab", shift: float = 0.0, seed: int = 0) -> dict[str, Labelled]:
    """Two layers: noise, and one that tells three labels apart; five items a sentence; `shift` moves each further language."""
    centres = np.random.default_rng(9).normal(0, 4, (3, 6))
    found = {}
    for number, language in enumerate(languages):
        draw = np.random.default_rng([seed, number])
        kinds = draw.integers(3, size=count * 5)
        noise = draw.normal(0, 1, (2, count * 5, 6))
        noise[1] += centres[kinds] + shift * number
        found[language] = Labelled(
            noise.astype(np.float32),
            tuple("xyz"[kind] for kind in kinds),
            np.repeat(np.arange(count), 5),
            tuple(f"{'xyz'[kind]}{draw.integers(4)}" for kind in kinds),
        )
    return found


@contextmanager
def same_bits_after(model: Any) -> Iterator[None]:
    """Fails where a weight changed meanwhile."""
    before = snapshot(model)
    yield
    assert same_bits(model, before)


@pytest.fixture(autouse=True)
def _same_draws(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """A test draws the same numbers whichever tests have run before it in its process."""
    if hasattr(request.module, "DRAWS"):
        monkeypatch.setattr(request.module, "DRAWS", np.random.default_rng(7))  # not what stands at its top
