"""What an edit of the model does to its syntax: probes applied as they are, and trained again, language by language."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from functools import cached_property
from itertools import combinations
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from torch import nn

from hf_langcore.errors import CorpusError
from hf_langcore.probing.folds import Fold
from hf_langcore.probing.linear import LinearProbe
from hf_langcore.probing.parallel import sentence_numbers
from hf_langcore.probing.prototypes import LEAST_LABELS, frequent_labels, sentence_draws, weighted_prototypes
from hf_langcore.probing.representations import Labelled
from hf_langcore.probing.runs import ProbePlan
from hf_langcore.probing.similarity import distance_matrices, profiles
from hf_langcore.probing.splits import training_rows
from hf_langcore.probing.treebanks import Sentence
from hf_langcore.recipes.bench.workbench import Subject
from hf_langcore.recipes.lab.syntax import TASKS, SubjectWords

Kind = Literal["original", "retrained"]
KINDS: tuple[Kind, ...] = ("original", "retrained")
MEAN = "mean"
"""Stands for all languages, where drops are kept by language."""

_SAMPLES = 1000
_ENDS = (0.025, 0.975)
_ERRORS = 1.96  # standard errors to each side: 95 %


@dataclass(frozen=True, slots=True)
class Drop:
    """What an edit takes from the accuracy of a probe in one language.

    Attributes:
        before: Accuracy of the unedited model, mean over seeds.
        after: Accuracy of the edited one.
        low: Lower end of the 95 % interval of before - after: test sentences are drawn again, the same for both.
        high: Upper end.
        by_seed: before - after of each seed.
    """

    before: float
    after: float
    low: float
    high: float
    by_seed: tuple[float, ...]

    @property
    def drop(self) -> float:
        """What is lost: `before` less `after`."""
        return self.before - self.after


@dataclass(frozen=True, slots=True)
class Damage:
    """What one edit does.

    Attributes:
        drops: (task, layer, kind of probe, language or `MEAN`) -> drop.
        alignment: Layer -> similarity of the languages' relations (mean over pairs), and its 95 % interval.
    """

    drops: Mapping[tuple[str, int, str, str], Drop]
    alignment: Mapping[int, tuple[float, float, float]]

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        drops = [[*key, {**asdict(drop), "by_seed": list(drop.by_seed)}] for key, drop in self.drops.items()]
        return {"drops": drops, "alignment": [[layer, *map(float, ends)] for layer, ends in self.alignment.items()]}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Damage:
        """The reverse of `to_dict`."""
        drops = {
            (task, layer, kind, code): Drop(**{**one, "by_seed": tuple(one["by_seed"])})
            for task, layer, kind, code, one in values["drops"]
        }
        return cls(drops, {layer: (mean, low, high) for layer, mean, low, high in values["alignment"]})


@dataclass(frozen=True, slots=True)
class _Counts:
    """Right and all test items by seed and sentence, (seeds, sentences)."""

    right: NDArray[np.float64]
    total: NDArray[np.float64]

    def accuracy(self) -> NDArray[np.float64]:
        """Of each seed."""
        share: NDArray[np.float64] = self.right.sum(1) / self.total.sum(1)
        return share

    def drawn(self, draws: NDArray[np.float64]) -> NDArray[np.float64]:
        """Mean over seeds in each of the draws of sentences; NaN where a draw has no test item."""
        totals = self.total @ draws.T
        with np.errstate(invalid="ignore", divide="ignore"):
            shares = np.where(totals > 0, (self.right @ draws.T) / totals, np.nan)
        means: NDArray[np.float64] = shares.mean(0)
        return means


_Cell = dict[str, _Counts]  # language -> counts, of one task, layer and kind


class SyntaxDamage:
    """Measures edits of one model; what needs no edit is made once, when it is needed."""

    def __init__(
        self,
        subject: Subject,
        treebanks: Mapping[str, Sequence[Sentence]],
        *,
        sources: Sequence[str],
        layers: Sequence[int],
        max_sentences: int,
        plan: ProbePlan,
        draws: int,
    ) -> None:
        """Nothing is measured yet.

        Args:
            subject: The model that will be edited.
            treebanks: Language -> sentences.
            sources: What probes learn from.
            layers: Whose vectors are probed.
            max_sentences: Only so many of the first sentences of each language.
            plan: How probes are trained.
            draws: Of sentences, for the interval of the alignment; 0 leaves the alignment out.
        """
        self.subject, self.treebanks, self.sources = subject, treebanks, list(sources)
        self.layers, self.max_sentences, self.plan, self.draws = list(layers), max_sentences, plan, draws

    def measure(self, edit: Callable[[nn.Module], AbstractContextManager[Any]]) -> Damage:
        """What the edit does; it is undone when this returns.

        Args:
            edit: Opens the edit of the model that it gets.
        """
        originals = self._originals
        with edit(self.subject.model):
            items = self._items()
        drops: dict[tuple[str, int, str, str], Drop] = {}
        for task in TASKS:
            folds = list(self.plan.folds(items[task]))
            for place, layer in enumerate(self.layers):
                known, before = originals[task, layer]
                for kind, probes in (("original", known), ("retrained", self._train(folds, place))):
                    after = _test(probes, folds, place)
                    drops |= {(task, layer, kind, code): one for code, one in _drops(before, after).items()}
        return Damage(drops, self._alignment(items["relation"]))

    @cached_property
    def _originals(self) -> dict[tuple[str, int], tuple[list[LinearProbe], _Cell]]:
        """(task, layer) -> the probes of the unedited model, one for each seed, and how they do."""
        items = self._items()
        found = {}
        for task, some in items.items():
            folds = list(self.plan.folds(some))
            for place, layer in enumerate(self.layers):
                probes = self._train(folds, place)
                found[task, layer] = probes, _test(probes, folds, place)
        return found

    def _items(self) -> dict[str, dict[str, Labelled]]:
        words = SubjectWords(self.subject, self.treebanks, max_sentences=self.max_sentences, layers=self.layers)
        return {task: words.items(task) for task in TASKS}

    def _train(self, folds: Sequence[Fold], place: int) -> list[LinearProbe]:
        rows = [training_rows(one.items, self.sources, one.split, max_items=self.plan.max_items) for one in folds]
        return [
            self.plan.fit(fold.stacked(place, own), fold.labels(own)) for fold, own in zip(folds, rows, strict=True)
        ]

    def _alignment(self, items: Mapping[str, Labelled]) -> dict[int, tuple[float, float, float]]:
        if not self.draws:
            return {}
        banks = {language: list(some)[: self.max_sentences] for language, some in self.treebanks.items()}
        ends = similarity_of_languages(items, banks, draws=self.draws)
        return dict(zip(self.layers, ends, strict=True))


def similarity_of_languages(
    items: Mapping[str, Labelled],
    treebanks: Mapping[str, Sequence[Sentence]],
    *,
    draws: int,
    min_count: int = 10,
    seed: int = 0,
) -> list[tuple[float, float, float]]:
    """How alike languages arrange their relations: the correlation of distances between prototypes, as `align_relations` has it.

    It works on vectors that are there already.

    Args:
        items: Language -> relations with their vectors.
        treebanks: Language -> the sentences that these are of.
        draws: Bootstrap draws over sentences.
        min_count: Relations that a language has more seldom are left out, for all languages.
        seed: Of the draws.

    Returns:
        For each layer the mean over pairs of languages, and about it the 95 % interval by the bootstrap's standard error.

    Raises:
        CorpusError: Fewer than three relations are frequent in all languages.
    """
    labels = sorted(set.intersection(*(set(frequent_labels(some, min_count=min_count)) for some in items.values())))
    if len(labels) < LEAST_LABELS:
        raise CorpusError(
            f"Only {len(labels)} relations stand at least {min_count} times in every language, {LEAST_LABELS} are needed to compare "
            "languages. Give more sentences (max_sentences), or leave the alignment out (draws=0)."
        )
    weights, numbers = sentence_draws(treebanks, draws=draws, seed=seed), sentence_numbers(treebanks)
    known = []
    for language, some in items.items():
        every = np.ones((1 + draws, 1 + numbers[language].max()))
        every[1:, numbers[language]] = weights[language]
        every = every[:, some.groups]
        known.append(profiles(distance_matrices(weighted_prototypes(some, labels, every))))
    pairs = [(one * other).sum(-1) for one, other in combinations(known, 2)]
    found = np.nanmean(pairs, axis=0)
    half = _ERRORS * found[:, 1:].std(1, ddof=1)
    return [(float(mean), float(mean - by), float(mean + by)) for mean, by in zip(found[:, 0], half, strict=True)]


def _test(probes: Sequence[LinearProbe], folds: Sequence[Fold], place: int) -> _Cell:
    """How the probe of each fold does on its held-out sentences, by language."""
    found = {}
    for language in folds[0].items:
        counts = [_counts(probe, fold, language, place) for probe, fold in zip(probes, folds, strict=True)]
        right, total = (np.stack(some) for some in zip(*counts, strict=True))
        found[language] = _Counts(right, total)
    return found


def _counts(
    probe: LinearProbe, fold: Fold, language: str, place: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Right and all items of each sentence."""
    rows, size = fold.test_rows(language), len(fold.split.held_out)
    groups = fold.items[language].groups[rows]
    is_right = probe.predict(fold.vectors(language, place, rows)) == np.array(fold.labels({language: rows}))
    right = np.bincount(groups, weights=is_right, minlength=size).astype(np.float64)
    return right, np.bincount(groups, minlength=size).astype(np.float64)


def _drops(before: _Cell, after: _Cell) -> dict[str, Drop]:
    """Language -> drop, and that of the mean over languages, by one bootstrap over sentence numbers."""
    size = next(iter(before.values())).total.shape[1]
    draws = np.random.default_rng(0).multinomial(size, np.full(size, 1 / size), _SAMPLES).astype(np.float64)
    found, differences = {}, []
    for language, was in before.items():
        now = after[language]
        drawn = was.drawn(draws) - now.drawn(draws)
        differences.append(drawn)
        found[language] = _drop(was.accuracy(), now.accuracy(), drawn)
    accuracies = [np.mean([cell[code].accuracy() for code in before], axis=0) for cell in (before, after)]
    found[MEAN] = _drop(accuracies[0], accuracies[1], np.mean(differences, axis=0))
    return found


def _drop(before: NDArray[np.float64], after: NDArray[np.float64], drawn: NDArray[np.float64]) -> Drop:
    low, high = np.nanquantile(drawn, _ENDS)
    by_seed = tuple(float(one) for one in before - after)
    return Drop(float(before.mean()), float(after.mean()), float(low), float(high), by_seed)
