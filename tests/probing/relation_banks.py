"""Parallel treebanks of three invented languages with seven relations."""

from __future__ import annotations

import numpy as np

from hf_langcore.probing.treebanks import Sentence

_SHAPE = (  # relation, tag, 0-based head
    ("det", "DET", 2),
    ("amod", "ADJ", 2),
    ("nsubj", "NOUN", 4),
    ("advmod", "ADV", 4),
    ("root", "VERB", -1),
    ("case", "ADP", 6),
    ("obl", "NOUN", 4),
    ("punct", "PUNCT", 4),
    ("obj", "NOUN", 4),
)


def relation_banks(count: int = 24, *, languages: str = "abc", seed: int = 0) -> dict[str, list[Sentence]]:
    """The same sentences in all languages; each word has its language's letter and one of four forms."""
    choices = np.random.default_rng(seed).integers(4, size=(count, len(_SHAPE)))
    relations, tags, heads = zip(*_SHAPE, strict=True)
    found: dict[str, list[Sentence]] = {}
    for letter in languages:
        found[letter] = []
        for number, row in enumerate(choices):
            words = tuple(f"{letter}{relation[:2]}{form}" for relation, form in zip(relations, row, strict=True))
            found[letter].append(Sentence(words, tags, heads, relations, " ".join(words), f"s{number}", 1))
    return found
