"""Which items a probe is trained on and which it is tested on."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hf_langcore.errors import CorpusError, InputError
from hf_langcore.probing.representations import Labelled

Rows = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Split:
    """Sentences that are held out, the same numbers in all languages.

    In parallel treebanks a number is one sentence and its translations (`sentence_numbers`), so that a probe is never trained on a translation
    of a sentence that it is tested on.

    Attributes:
        held_out: (sentences,), True for those to test on.
        seed: Of the choice, here and of what is drawn from the split.
    """

    held_out: NDArray[np.bool_]
    seed: int

    def test_rows(self, items: Labelled) -> Rows:
        """The items of held-out sentences."""
        return np.flatnonzero(self.held_out[items.groups])

    def training_rows(self, items: Labelled, *, most: int, name: str = "") -> Rows:
        """At most `most` items of other sentences, drawn at random, in order.

        Args:
            items: Items of one language.
            most: How many.
            name: The language, so that languages draw independently.
        """
        return self.draw(np.flatnonzero(~self.held_out[items.groups]), most, name)

    def few_rows(self, items: Labelled, *, sentences: int, name: str = "") -> Rows:
        """All items of a few other sentences; more sentences include those of fewer."""
        others = np.unique(items.groups[~self.held_out[items.groups]])
        chosen = self._generator(name).permutation(others)[:sentences]
        return np.flatnonzero(np.isin(items.groups, chosen))

    def draw(self, rows: Rows, most: int, name: str = "") -> Rows:
        """At most `most` of some rows, in order."""
        if len(rows) <= most:
            return rows
        return np.sort(self._generator(name).choice(rows, most, replace=False))

    def _generator(self, name: str) -> np.random.Generator:
        return np.random.default_rng([self.seed, *name.encode()])


def split_sentences(items: Mapping[str, Labelled], *, test_share: float, seed: int) -> Split:
    """Hold out a share of the sentence numbers that occur in any language.

    Raises:
        InputError: `test_share` is not between 0 and 1.
    """
    if not 0 < test_share < 1:
        raise InputError(f"test_share must lie between 0 and 1, got {test_share!r}.")
    count = 1 + max((int(labelled.groups.max()) for labelled in items.values() if len(labelled.groups)), default=0)
    held_out = np.zeros(count, bool)
    order = np.random.default_rng(seed).permutation(count)
    held_out[order[: max(1, round(test_share * count))]] = True
    return Split(held_out, seed)


def training_rows(
    items: Mapping[str, Labelled], languages: Sequence[str], split: Split, *, max_items: int
) -> dict[str, Rows]:
    """Equal numbers of training items of each language, `max_items` in all.

    Raises:
        CorpusError: A language has none.
    """
    most = max(1, max_items // len(languages))
    rows = {one: split.training_rows(items[one], most=most, name=one) for one in languages}
    for language, found in rows.items():
        if not len(found):
            raise CorpusError(
                f"{language!r} has no item outside of the held-out sentences to train on. Give more sentences, or hold out fewer "
                "(test_share=)."
            )
    return rows


def control_labels(types: Sequence[str], labels: Sequence[str], *, seed: int) -> list[str]:
    """A random label for each word type, the same wherever the type occurs, as often as the true labels are.

    A probe that does well on these has learnt which word it sees rather than what the vectors say of it (control tasks,
    Hewitt and Liang 2019).

    Args:
        types: Word type of each item.
        labels: True labels to draw from, by their frequency.
        seed: Another seed is another control task.

    Raises:
        InputError: There are no types or no labels.
    """
    if not types or not len(labels):
        raise InputError("A control task needs the word type of each item (`types`) and labels to draw from.")
    names, counts = np.unique(np.array(labels), return_counts=True)
    shares = np.cumsum(counts) / counts.sum()
    drawn = {word: names[int(np.searchsorted(shares, _uniform(word, seed), side="right"))] for word in set(types)}
    return [str(drawn[word]) for word in types]


def _uniform(word: str, seed: int) -> float:
    """A number from 0 to 1 (exclusive) that depends on the word and the seed alone."""
    digest = hashlib.blake2b(f"{seed}:{word}".encode(), digest_size=6).digest()
    return int.from_bytes(digest, "big") / (1 << 48)
