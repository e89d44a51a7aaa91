"""Do languages arrange their syntactic relations alike? Prototypes of relations compared across languages, by layer.

Three questions, from loose to strict: are the same relations near to each other (similarity); does one rotation carry the
prototypes of one language to those of the other, also a relation that it was not fitted on (Procrustes); do the clouds
themselves lie in the same place (transport)? After Xu et al. 2022 and 2023.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn
from tqdm.auto import tqdm

from hf_langcore.errors import CorpusError, InputError
from hf_langcore.probing.alignment_report import AlignmentReport
from hf_langcore.probing.comparing import Clouds, Side, compare_procrustes, compare_similarity, compare_transport
from hf_langcore.probing.prototypes import frequent_labels, sentence_draws, sentence_halves, weighted_prototypes
from hf_langcore.probing.representations import Labelled, Pooling, labelled_relations, word_vectors
from hf_langcore.probing.similarity import Correlation, Distance
from hf_langcore.probing.treebanks import Sentence

_LEAST_LABELS = 4


@dataclass(frozen=True, slots=True)
class AlignmentSettings:
    """How alignment is measured.

    Attributes:
        max_sentences: Only so many of the first sentences of each language.
        min_count: Relations that a language has more seldom are left out, for all languages.
        draws: Bootstrap draws over sentences for the similarity. Parallel sentences are drawn together.
        procrustes_draws: How many of these draws are rotated, too, which takes longer; 0 leaves Procrustes out.
        shuffles: Shuffles of the labels that say what chance gives; of Procrustes an eighth as many.
        seeds: Subsamples of the transport distance; 0 leaves it out.
        samples_per_label: Vectors per relation in each half of a subsample.
        distance: Between prototypes, for the similarity.
        correlation: Of these distances.
        pooling: Of a word's tokens.
        seed: Of all draws.
    """

    max_sentences: int | None = 300
    min_count: int = 10
    draws: int = 100
    procrustes_draws: int = 8
    shuffles: int = 64
    seeds: int = 3
    samples_per_label: int = 8
    distance: Distance = "cosine"
    correlation: Correlation = "spearman"
    pooling: Pooling = "mean"
    seed: int = 0

    def __post_init__(self) -> None:
        least = {"min_count": 2, "draws": 2, "procrustes_draws": 0, "shuffles": 8, "seeds": 0, "samples_per_label": 2}
        wrong = {name: getattr(self, name) for name, low in least.items() if getattr(self, name) < low}
        if wrong or self.procrustes_draws == 1 or self.procrustes_draws > self.draws:
            raise InputError(
                f"Out of range: {wrong or {'procrustes_draws': self.procrustes_draws}}. At least {least}; procrustes_draws is 0, "
                "or from 2 to draws."
            )


def align_relations(
    model: nn.Module,
    tokenizer: Any,
    treebanks: Mapping[str, Sequence[Sentence]],
    *,
    layers: Sequence[int] | None = None,
    settings: AlignmentSettings | None = None,
    batch_size: int = 16,
    progress: bool = False,
) -> AlignmentReport:
    """Compare how languages arrange their relations, in each layer.

    Relations are vectors h(dependent) - h(head). Only relations that all of the languages have often enough are compared,
    so that the figures of all pairs are of the same relations.

    Args:
        model: An encoder or a decoder, used as it is now: open edits count.
        tokenizer: Any callable with transformers' tokenizer interface.
        treebanks: Language -> sentences, at least two languages.
        layers: Numbers of layers, 0 are the embeddings; None for all.
        settings: Sizes and seeds.
        batch_size: Sentences per forward pass.
        progress: Show progress bars.

    Raises:
        CorpusError: Fewer than four relations are frequent in all languages.
        InputError: There are fewer than two languages, or an option is out of range.
    """
    chosen = settings or AlignmentSettings()
    if len(treebanks) < 2:  # noqa: PLR2004
        raise InputError(f"Alignment is between languages, at least two; got {list(treebanks)}. Name more.")
    banks = {language: list(some)[: chosen.max_sentences] for language, some in treebanks.items()}
    weights = sentence_draws(banks, draws=chosen.draws, seed=chosen.seed)
    halves = [sentence_halves(banks, seed=chosen.seed + number) for number in range(max(chosen.seeds, 1))]
    found, numbers = {}, tuple(layers or ())
    for language, sentences in tqdm(banks.items(), unit="language", disable=not progress):
        one = word_vectors(
            model, tokenizer, {language: sentences}, pooling=chosen.pooling, batch_size=batch_size, layers=layers
        )[language]
        numbers = one.layer_numbers
        own_halves = [half[language] for half in halves]
        found[language] = _summary(labelled_relations(one), weights[language], own_halves, chosen)
    labels = _common(found, chosen.min_count)
    sides = {language: _side(one, labels, chosen) for language, one in found.items()}
    measures = {"rsa": compare_similarity(sides, shuffles=chosen.shuffles, seed=chosen.seed)}
    if chosen.procrustes_draws:
        measures |= compare_procrustes(
            sides, draws=chosen.procrustes_draws, shuffles=chosen.shuffles // 8, seed=chosen.seed, progress=progress
        )
    if chosen.seeds:
        clouds = {language: one.clouds for language, one in found.items()}
        measures["transport"] = compare_transport(clouds, labels, progress=progress)
    return AlignmentReport(tuple(found), numbers, labels, measures, asdict(chosen))


@dataclass(frozen=True, slots=True)
class _Summary:
    """What is kept of one language when its vectors are gone.

    `products` are (layers, 1 + draws, labels, labels): of the prototypes of all sentences and of each draw; `split` the same
    of the two halves of the sentences; `clouds[seed][half]` are subsamples, label -> (layers, items, width).
    """

    labels: tuple[str, ...]
    products: NDArray[np.float64]
    split: NDArray[np.float64]
    clouds: list[list[Clouds]]


def _summary(
    labelled: Labelled, weights: NDArray[np.float64], halves: Sequence[NDArray[np.bool_]], chosen: AlignmentSettings
) -> _Summary:
    labels = frequent_labels(labelled, min_count=chosen.min_count)
    groups = labelled.groups
    every = np.vstack([np.ones((1, weights.shape[1])), weights])[:, groups]
    split = np.stack([halves[0], ~halves[0]])[:, groups].astype(np.float64)
    clouds = [
        [_clouds(labelled, labels, side[groups], chosen, seed=seed) for side in (half, ~half)]
        for seed, half in enumerate(halves[: chosen.seeds])
    ]
    return _Summary(labels, _products(labelled, labels, every), _products(labelled, labels, split), clouds)


def _products(labelled: Labelled, labels: Sequence[str], weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """One layer at a time: all draws of all layers would not fit beside a large model."""
    found = []
    for layer in range(len(labelled.layers)):
        own = replace(labelled, layers=labelled.layers[layer : layer + 1])
        vectors = weighted_prototypes(own, labels, weights)[0]
        vectors = vectors - (vectors.mean((0, 1)) if labels else 0.0)  # small numbers lose less in their products
        found.append(vectors @ np.swapaxes(vectors, -1, -2))
    return np.stack(found)


def _clouds(
    labelled: Labelled, labels: Sequence[str], side: NDArray[np.bool_], chosen: AlignmentSettings, *, seed: int
) -> Clouds:
    generator = np.random.default_rng([chosen.seed, seed])
    names, found = np.asarray(labelled.labels), dict[str, NDArray[np.float32]]()
    for label in labels:
        rows = np.flatnonzero((names == label) & side)
        rows = generator.permutation(rows)[: chosen.samples_per_label]
        if len(rows):
            found[label] = labelled.layers[:, rows]
    return found


def _common(found: Mapping[str, _Summary], min_count: int) -> tuple[str, ...]:
    common = set.intersection(*(set(one.labels) for one in found.values()))
    if len(common) < _LEAST_LABELS:
        counts = ", ".join(f"{language} {len(one.labels)}" for language, one in found.items())
        raise CorpusError(
            f"Only {len(common)} relations stand at least {min_count} times in every language, and {_LEAST_LABELS} are needed. Each "
            f"language by itself has so many: {counts}. Give more sentences, lower min_count, or leave a language out."
        )
    return tuple(sorted(common))


def _side(one: _Summary, labels: Sequence[str], chosen: AlignmentSettings) -> Side:
    """A language, brought down to the common labels."""
    rows = [one.labels.index(label) for label in labels]
    return Side.of(
        one.products[..., rows, :][..., rows],
        one.split[..., rows, :][..., rows],
        distance=chosen.distance,
        correlation=chosen.correlation,
    )
