"""The same few sentences in three languages, as treebanks."""

from __future__ import annotations

import numpy as np
import pytest

from hf_langcore.probing.treebanks import Sentence

WORDS = {
    "en": ("the", ("cat", "dog", "bird", "tree"), ("sees", "eats", "finds")),
    "de": ("die", ("Katze", "Hund", "Vogel", "Baum"), ("sieht", "frisst", "findet")),
    "zh": ("那", ("猫", "狗", "鸟", "树"), ("看", "吃", "找")),
}


@pytest.fixture(scope="session")
def parallel() -> dict[str, list[Sentence]]:
    """Twenty sentences such as "the cat sees the dog ." with their translations."""
    draw = np.random.default_rng(0)
    picked = [(int(draw.integers(4)), int(draw.integers(3)), int(draw.integers(4))) for _ in range(20)]
    return {code: [_sentence(code, number, *one) for number, one in enumerate(picked)] for code in WORDS}


def _sentence(code: str, number: int, subject: int, verb: int, target: int) -> Sentence:
    the, nouns, verbs = WORDS[code]
    words = (the, nouns[subject], verbs[verb], the, nouns[target], ".")
    return Sentence(
        words=words,
        upos=("DET", "NOUN", "VERB", "DET", "NOUN", "PUNCT"),
        heads=(1, 2, -1, 4, 2, 2),
        relations=("det", "nsubj", "root", "det", "obj", "punct"),
        text=" ".join(words),
        name=str(number),
    )
