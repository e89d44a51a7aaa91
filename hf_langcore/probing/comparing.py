"""Prototypes and clouds of many languages, compared pair by pair."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray
from tqdm.auto import tqdm

from hf_langcore.probing.alignment_report import Measure, ends
from hf_langcore.probing.procrustes import coordinates, procrustes
from hf_langcore.probing.similarity import Correlation, Distance, distance_matrices, permuted_profiles, profiles
from hf_langcore.probing.transport import dataset_distance

_NONE = np.nan

Clouds = Mapping[str, NDArray[np.float32]]
"""Label -> (layers, items, width)."""


@dataclass(frozen=True, slots=True)
class Side:
    """One language, in the labels that all have.

    Attributes:
        places: (layers, 1 + draws, labels, labels), coordinates of its prototypes: of all sentences, and of each draw.
        split: (layers, 2, labels, labels), of the two halves of its sentences.
        profiles: (layers, 1 + draws, pairs of labels), standardised distances between them.
        split_profiles: (layers, 2, pairs of labels).
    """

    places: NDArray[np.float64]
    split: NDArray[np.float64]
    profiles: NDArray[np.float64]
    split_profiles: NDArray[np.float64]

    @classmethod
    def of(
        cls,
        products: NDArray[np.float64],
        split: NDArray[np.float64],
        *,
        distance: Distance,
        correlation: Correlation,
    ) -> Side:
        """From scalar products of the prototypes, (..., labels, labels) each."""
        places, halves = coordinates(products), coordinates(split)
        own, own_halves = (
            profiles(distance_matrices(each, distance=distance), correlation=correlation) for each in (places, halves)
        )
        return cls(places, halves, own, own_halves)


def compare_similarity(sides: Mapping[str, Side], *, shuffles: int, seed: int) -> Measure:
    """Correlation of the distances between prototypes, for all pairs.

    Args:
        sides: Language -> its prototypes.
        shuffles: How often the labels of one language are shuffled.
        seed: Of the shuffles.
    """
    every = np.stack([one.profiles for one in sides.values()])  # (languages, layers, 1 + draws, pairs of labels)
    found = np.einsum("alni,blni->labn", every, every, optimize=True)
    for place, one in enumerate(sides.values()):
        found[:, place, place] = (one.split_profiles[:, :1] * one.split_profiles[:, 1:]).sum(-1)
    labels = next(iter(sides.values())).places.shape[-1]
    orders = _orders(labels, shuffles, seed)
    shuffled = np.empty((found.shape[0], len(sides), len(sides), shuffles))
    for place in range(len(sides)):
        for layer in range(found.shape[0]):
            other = permuted_profiles(every[place, layer, 0], orders)
            shuffled[layer, :, place] = every[:, layer, 0] @ other.T
    return _measure(found[..., 0], found[..., 1:], shuffled)


def compare_procrustes(
    sides: Mapping[str, Side], *, draws: int, shuffles: int, seed: int, progress: bool = False
) -> dict[str, Measure]:
    """Residual, error on held-out labels and retrieval of them, for all pairs.

    Args:
        sides: Language -> its prototypes.
        draws: How many of the bootstrap's draws are fitted.
        shuffles: How often the labels of one language are shuffled.
        seed: Of the shuffles.
        progress: Show a progress bar.
    """
    every = list(sides.values())
    layers, languages, labels = len(every[0].places), len(every), every[0].places.shape[-1]
    orders = _orders(labels, shuffles, seed)
    names = ("residual", "held_out_error", "retrieval")
    count = 1 + draws
    found = np.full((3, layers, languages, languages, count), _NONE)
    shuffled = np.full((3, layers, languages, languages, shuffles), _NONE)
    pairs = list(combinations(range(languages), 2))
    for one, other in tqdm(pairs, unit="pair", desc="rotating", disable=not progress):
        for layer in range(layers):
            first, second = every[one].places[layer, :count], every[other].places[layer, :count]
            fit, by_chance = procrustes(first, second), procrustes(first[:1], second[0][orders])
            for place, name in enumerate(names):
                found[place, layer, one, other] = found[place, layer, other, one] = getattr(fit, name)
                shuffled[place, layer, one, other] = shuffled[place, layer, other, one] = getattr(by_chance, name)
    for number, side in enumerate(every):
        fit = procrustes(side.split[:, 0], side.split[:, 1])
        for place, name in enumerate(names):
            found[place, :, number, number] = getattr(fit, name)[:, None]
    return {
        name: _measure(found[place, ..., 0], found[place, ..., 1:], shuffled[place])
        for place, name in enumerate(names)
    }


def compare_transport(
    clouds: Mapping[str, Sequence[Sequence[Clouds]]], labels: Sequence[str], *, progress: bool = False
) -> Measure:
    """Transport distance above that within a language, as a share of it.

    It is 0 where two languages are no further apart than two samples of one language.

    Args:
        clouds: Language -> subsamples by seed -> two halves, each label -> (layers, items, width).
        labels: Only these.
        progress: Show a progress bar.
    """
    every = list(clouds.values())
    seeds, languages = len(every[0]), len(every)
    layers = len(next(iter(every[0][0][0].values())))
    values = np.empty((layers, languages, languages, seeds))
    for seed in tqdm(range(seeds), unit="seed", desc="transport", disable=not progress):
        for layer in range(layers):
            sets = [[_labelled_set(half, labels, layer) for half in one[seed]] for one in every]
            within = np.array([dataset_distance(*first, *second) for first, second in sets])
            values[layer, range(languages), range(languages), seed] = 0.0
            for one, other in combinations(range(languages), 2):
                (one_a, one_b), (other_a, other_b) = sets[one], sets[other]
                # Halves of different sentences, as within a language: what parallel sentences share gives no advantage.
                across = (dataset_distance(*one_a, *other_b) + dataset_distance(*one_b, *other_a)) / 2
                above = 2 * across / max(within[one] + within[other], np.finfo(float).tiny) - 1
                values[layer, one, other, seed] = values[layer, other, one, seed] = above
    none = np.full((layers, languages, languages, 1), _NONE)
    return _measure(values.mean(-1), values, none, by_seeds=True)


def _labelled_set(half: Clouds, labels: Sequence[str], layer: int) -> tuple[NDArray[np.float32], list[str]]:
    own = [label for label in labels if label in half]
    vectors = np.concatenate([half[label][layer] for label in own])
    return vectors, [label for label in own for _ in range(half[label].shape[1])]


def _measure(
    pairs: NDArray[np.float64], draws: NDArray[np.float64], shuffled: NDArray[np.float64], *, by_seeds: bool = False
) -> Measure:
    rows, columns = np.triu_indices(pairs.shape[-1], k=1)
    low, high = ends(pairs, draws, by_seeds=by_seeds)
    own = range(pairs.shape[-1])
    low[:, own, own] = high[:, own, own] = _NONE  # halves were not drawn again
    by_chance = shuffled[:, rows, columns]
    return Measure(
        pairs=pairs,
        low=low,
        high=high,
        mean=pairs[:, rows, columns].mean(-1),
        draws=draws[:, rows, columns].mean(1),
        chance=by_chance.mean((1, 2)),
        chance_high=np.quantile(by_chance, 0.95, axis=-1).mean(-1),
        by_seeds=by_seeds,
    )


def _orders(labels: int, count: int, seed: int) -> NDArray[np.int64]:
    generator = np.random.default_rng([seed, labels])
    return np.array([generator.permutation(labels) for _ in range(count)])
