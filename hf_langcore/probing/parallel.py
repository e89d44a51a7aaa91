"""Which sentences of several treebanks are translations of each other."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import count

import numpy as np
from numpy.typing import NDArray

from hf_langcore.probing.treebanks import Sentence


def sentence_numbers(treebanks: Mapping[str, Sequence[Sentence]]) -> dict[str, NDArray[np.int64]]:
    """A number for each sentence, the same for its translations and different within a language.

    Sentences with the same `sent_id` are taken for translations, as in the Parallel Universal Dependencies, also where some are
    missing or in another order. Others have the number of their place, so that treebanks without names are parallel by place.

    Args:
        treebanks: Language -> sentences.

    Returns:
        Language -> (sentences,).
    """
    known: dict[str, int] = {}
    further = count(max(map(len, treebanks.values()), default=0))
    found = {}
    for language, sentences in treebanks.items():
        often = Counter(one.name for one in sentences)
        names = [one.name if often[one.name] == 1 else "" for one in sentences]
        taken = {known[name] for name in names if name in known}
        numbers = [
            known[name] if name in known else next(further) if place in taken else place
            for place, name in enumerate(names)
        ]
        known = {**{name: number for name, number in zip(names, numbers, strict=True) if name}, **known}
        found[language] = np.array(numbers, np.int64)
    return found
