"""Prototypes: one mean vector for each label of a language, and how it varies with the sentences."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hf_langcore.errors import CorpusError, InputError
from hf_langcore.probing.representations import Labelled
from hf_langcore.probing.treebanks import Sentence

LEAST_LABELS = 3
"""Two labels have one distance between them, and nothing correlates with one figure."""


@dataclass(frozen=True, slots=True)
class Prototypes:
    """Mean vectors of one language.

    Attributes:
        layers: (layers, labels, width), float64.
        labels: Their names, in alphabetical order.
        counts: Items behind each.
    """

    layers: NDArray[np.float64]
    labels: tuple[str, ...]
    counts: tuple[int, ...]


def frequent_labels(labelled: Labelled, *, min_count: int) -> tuple[str, ...]:
    """Labels with at least so many items, in alphabetical order."""
    counts = Counter(labelled.labels)
    return tuple(sorted(label for label, count in counts.items() if count >= min_count))


def prototypes(labelled: Labelled, *, min_count: int = 10, labels: Sequence[str] | None = None) -> Prototypes:
    """The mean vector of each label in each layer.

    Args:
        labelled: Vectors of one language with their labels, such as `labelled_relations` gives.
        min_count: Rarer labels are left out.
        labels: Only these, whatever their count; None for all that are frequent enough.

    Raises:
        CorpusError: A label of `labels` has no item, or no label is frequent enough.
        InputError: `min_count` is below 1.
    """
    if min_count < 1:
        raise InputError(f"min_count is a number of items, at least 1, got {min_count!r}.")
    chosen = tuple(labels) if labels is not None else frequent_labels(labelled, min_count=min_count)
    counts = Counter(labelled.labels)
    lacking = [label for label in chosen if not counts[label]]
    if lacking or not chosen:
        raise CorpusError(
            f"There is no item of {', '.join(lacking) or f'any label that stands {min_count} times'}. Give more sentences, or "
            "lower min_count."
        )
    every = np.ones((1, len(labelled.labels)))
    means = weighted_prototypes(labelled, chosen, every)[:, 0]
    return Prototypes(means, chosen, tuple(counts[label] for label in chosen))


def weighted_prototypes(
    labelled: Labelled, labels: Sequence[str], weights: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Prototypes under several weightings of the items, such as bootstrap draws.

    Args:
        labelled: Vectors of one language.
        labels: Whose means; each has an item.
        weights: (draws, items), at least 0. Where a draw leaves out all items of a label, their plain mean stands in.

    Returns:
        (layers, draws, labels, width).
    """
    names = np.asarray(labelled.labels)
    layers, _, width = labelled.layers.shape
    found = np.empty((layers, len(weights), len(labels), width))
    for place, label in enumerate(labels):
        rows = np.flatnonzero(names == label)
        own = weights[:, rows]
        totals = own.sum(1, keepdims=True)
        own = np.where(totals > 0, own, 1.0)
        own = own / own.sum(1, keepdims=True)
        for layer in range(layers):
            found[layer, :, place] = own @ labelled.layers[layer, rows].astype(np.float64)
    return found


def sentence_draws(
    treebanks: Mapping[str, Sequence[Sentence]], *, draws: int, seed: int
) -> dict[str, NDArray[np.float64]]:
    """How often each sentence stands in each bootstrap draw; parallel sentences are drawn together.

    Sentences of several languages are taken to be parallel where their `sent_id` is the same, as in the Parallel Universal
    Dependencies; a sentence whose name is missing or not unique in its treebank stands for itself.

    Args:
        treebanks: Language -> sentences.
        draws: Number of bootstrap draws.
        seed: Of the draws.

    Returns:
        Language -> (draws, sentences).
    """
    places, count = _places(treebanks)
    counts = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), size=draws)
    return {language: counts[:, own].astype(np.float64) for language, own in places.items()}


def sentence_halves(treebanks: Mapping[str, Sequence[Sentence]], *, seed: int) -> dict[str, NDArray[np.bool_]]:
    """A random half of the sentences of each language; parallel ones, as in `sentence_draws`, fall into the same half.

    Args:
        treebanks: Language -> sentences.
        seed: Of the draw.

    Returns:
        Language -> (sentences,), True for one half and False for the other.
    """
    places, count = _places(treebanks)
    is_first = np.random.default_rng(seed).permutation(count) < count / 2
    return {language: is_first[own] for language, own in places.items()}


def _places(treebanks: Mapping[str, Sequence[Sentence]]) -> tuple[dict[str, list[int]], int]:
    """Language -> which sentence each of its sentences is, among those of all languages; and how many there are."""
    keys = {language: _keys(language, sentences) for language, sentences in treebanks.items()}
    known = {key: place for place, key in enumerate(dict.fromkeys(key for own in keys.values() for key in own))}
    return {language: [known[key] for key in own] for language, own in keys.items()}, len(known)


def _keys(language: str, sentences: Sequence[Sentence]) -> list[tuple[object, ...]]:
    names = Counter(one.name for one in sentences)
    return [
        (one.name,) if one.name and names[one.name] == 1 else (language, place) for place, one in enumerate(sentences)
    ]
