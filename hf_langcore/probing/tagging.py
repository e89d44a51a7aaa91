"""Cross-lingual part-of-speech tagging with frozen representations: zero-shot, and with a few sentences of the target.

The tagger is the linear probe of one layer; the model is not trained. So what is measured is what a language's vectors share
with those of the source languages as they are, and figures lie below those of fine-tuned taggers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from torch import nn
from tqdm.auto import tqdm

from hf_langcore.errors import CorpusError, InputError
from hf_langcore.probing.folds import Fold
from hf_langcore.probing.layers import circumstances
from hf_langcore.probing.representations import Labelled, Pooling, labelled_words, word_vectors
from hf_langcore.probing.runs import (
    DEFAULT_MAX_ITEMS,
    DEFAULT_SEEDS,
    DEFAULT_TEST_SHARE,
    ProbePlan,
    choose_languages,
    probe_labelled,
)
from hf_langcore.probing.scores import ProbeScore, Tally
from hf_langcore.probing.splits import Rows, training_rows
from hf_langcore.probing.tagging_report import TaggingReport
from hf_langcore.probing.treebanks import Sentence

DEFAULT_SHOTS = (0, 10, 50, 100)
"""Sentences of the target language that a tagger is also trained on."""

Cells = dict[int, dict[str, Tally]]


def tag_zero_shot(
    model: nn.Module,
    tokenizer: Any,
    treebanks: Mapping[str, Sequence[Sentence]],
    *,
    train_languages: Sequence[str],
    target_languages: Sequence[str] | None = None,
    layer: int | None = None,
    pooling: Pooling = "mean",
    seeds: Sequence[int] = DEFAULT_SEEDS,
    center: bool = False,
    progress: bool = True,
) -> TaggingReport:
    """Train a tagger on some languages and let it tag others: `tag_few_shot` with no sentence of the target."""
    return tag_few_shot(
        model,
        tokenizer,
        treebanks,
        train_languages=train_languages,
        target_languages=target_languages,
        shots=(0,),
        layer=layer,
        pooling=pooling,
        seeds=seeds,
        center=center,
        progress=progress,
    )


def tag_few_shot(
    model: nn.Module,
    tokenizer: Any,
    treebanks: Mapping[str, Sequence[Sentence]],
    *,
    train_languages: Sequence[str],
    target_languages: Sequence[str] | None = None,
    shots: Sequence[int] = DEFAULT_SHOTS,
    layer: int | None = None,
    pooling: Pooling = "mean",
    max_sentences: int | None = None,
    batch_size: int = 16,
    seeds: Sequence[int] = DEFAULT_SEEDS,
    max_items: int = DEFAULT_MAX_ITEMS,
    test_share: float = DEFAULT_TEST_SHARE,
    center: bool = False,
    progress: bool = True,
) -> TaggingReport:
    """Train a tagger on some languages and a few sentences of the target, and beside it one on these sentences alone.

    Args:
        model: An encoder or decoder of transformers as it is now; it is not trained.
        tokenizer: Its tokenizer.
        treebanks: Language -> sentences, as from `load_treebanks`.
        train_languages: Source languages.
        target_languages: Which to tag; all others of `treebanks` where None.
        shots: Numbers of target sentences to train on. More include those of fewer. All sources together and the target
            then count the same, since a few sentences would be lost among thousands of words.
        layer: Whose vectors to read; where None the one whose probe tags other sentences of the sources best, so that no
            sentence of a target decides it.
        pooling: "mean", "first" or "last" token of each word.
        max_sentences: Only so many of the first sentences of each language.
        batch_size: Sentences per forward pass.
        seeds: Each holds out other sentences, the same numbers in all languages, and draws other training items.
        max_items: Training items of the sources together.
        test_share: Share of the sentences to hold out.
        center: Take each language's mean vector off its vectors first, which needs text of the target but no labels.
        progress: Show progress bars.

    Raises:
        CorpusError: A language has no treebank, or too few sentences.
        InputError: An option is out of range.
        MissingExtraError: scikit-learn is not installed (`pip install "hf_langcore[probing]"`).
    """
    targets = (
        [one for one in treebanks if one not in train_languages] if target_languages is None else target_languages
    )
    chosen = choose_languages(treebanks, [*train_languages, *targets])
    vectors = word_vectors(
        model,
        tokenizer,
        chosen,
        pooling=pooling,
        max_sentences=max_sentences,
        batch_size=batch_size,
        layers=None if layer is None else [layer],
        progress=progress,
    )
    items = {language: labelled_words(found) for language, found in vectors.items()}
    return tag_labelled(
        items,
        train_languages=train_languages,
        target_languages=list(targets),
        shots=shots,
        plan=ProbePlan(tuple(seeds), max_items, test_share, center=center),
        layer_numbers=next(iter(vectors.values())).layer_numbers,
        settings=circumstances(model, vectors, pooling),
        progress=progress,
    )


def tag_labelled(
    items: Mapping[str, Labelled],
    *,
    train_languages: Sequence[str],
    target_languages: Sequence[str],
    shots: Sequence[int] = DEFAULT_SHOTS,
    plan: ProbePlan | None = None,
    layer_numbers: Sequence[int] = (),
    settings: Mapping[str, Any] | None = None,
    progress: bool = False,
) -> TaggingReport:
    """`tag_few_shot` on vectors that are there already; with several layers the best on the sources is taken.

    Raises:
        CorpusError: A language is not among `items`, or has too few sentences.
        InputError: `shots` are no numbers of sentences, a target is also a source, or no language is named.
    """
    plan = plan or ProbePlan()
    _require_languages(train_languages, target_languages)
    choose_languages(items, [*train_languages, *target_languages])
    _require_shots(items, target_languages, shots, plan)
    place = _best_place(items, train_languages, plan)
    joint: Cells = {shot: {language: Tally() for language in target_languages} for shot in shots}
    alone: Cells = {shot: {language: Tally() for language in target_languages} for shot in shots if shot}
    with tqdm(total=len(plan.seeds) * len(target_languages), unit="language", disable=not progress) as bar:
        for fold in plan.folds(items):
            sources = training_rows(items, train_languages, fold.split, max_items=plan.max_items)
            for language in target_languages:
                _Tagger(fold, place, plan).measure(sources, language, joint, alone)
                bar.update()
    return TaggingReport(
        list(train_languages),
        layer=(list(layer_numbers) or list(range(place + 1)))[place],
        joint=_scores(joint),
        alone=_scores(alone),
        settings={**(settings or {}), **plan.settings()},
    )


@dataclass(frozen=True, slots=True)
class _Tagger:
    """Trains and tests taggers on one layer and one split."""

    fold: Fold
    place: int
    plan: ProbePlan

    def measure(self, sources: Mapping[str, Rows], target: str, joint: Cells, alone: Cells) -> None:
        """Add what taggers with each number of sentences say of the target's held-out sentences."""
        for shot, cells in joint.items():
            chosen = self.fold.split.few_rows(self.fold.items[target], sentences=shot, name=target)
            few = {target: chosen} if shot else {}
            self._fit_and_test({**sources, **few}, target, cells[target])
            if shot:
                self._fit_and_test(few, target, alone[shot][target])

    def _fit_and_test(self, rows: Mapping[str, Rows], target: str, tally: Tally) -> None:
        vectors = self.fold.stacked(self.place, rows)
        probe = self.plan.fit(vectors, self.fold.labels(rows), weights=_weights(rows, target), least_labels=1)
        self.fold.test(probe, target, self.place, tally)


def _weights(rows: Mapping[str, Rows], target: str) -> np.ndarray[Any, np.dtype[np.float64]] | None:
    """Weights by which the sources together count as much as the target; None where there is only one of both."""
    total = sum(map(len, rows.values()))
    share = len(rows.get(target, ()))
    if share in {0, total}:
        return None
    weight = {language: total / (2 * (share if language == target else total - share)) for language in rows}
    return np.concatenate([np.full(len(chosen), weight[language]) for language, chosen in rows.items()])


def _best_place(items: Mapping[str, Labelled], train_languages: Sequence[str], plan: ProbePlan) -> int:
    """Which layer tags held-out sentences of the sources best, by the first seed."""
    sources = {language: items[language] for language in train_languages}
    if len(next(iter(sources.values())).layers) == 1:
        return 0
    report = probe_labelled(sources, train_languages=train_languages, plan=replace(plan, seeds=plan.seeds[:1]))
    return report.best_layer()


def _scores(cells: Cells) -> dict[int, dict[str, ProbeScore]]:
    return {shot: {language: tally.score() for language, tally in row.items()} for shot, row in cells.items()}


def _require_languages(train_languages: Sequence[str], target_languages: Sequence[str]) -> None:
    both = sorted(set(train_languages) & set(target_languages))
    if both or not train_languages or not target_languages:
        raise InputError(
            "Name at least one source language and one other language as target; "
            f"got sources {list(train_languages)} and targets {list(target_languages)}."
        )


def _require_shots(
    items: Mapping[str, Labelled], targets: Sequence[str], shots: Sequence[int], plan: ProbePlan
) -> None:
    if not shots or any(isinstance(shot, bool) or not isinstance(shot, int) or shot < 0 for shot in shots):
        raise InputError(f"shots must be numbers of sentences, such as {DEFAULT_SHOTS}, got {list(shots)!r}.")
    for fold in plan.folds(items):
        for language in targets:
            there = len(np.unique(items[language].groups[~fold.split.held_out[items[language].groups]]))
            if there < max(shots):
                raise CorpusError(
                    f"{language!r} has {there} sentences that are not held out, fewer than the {max(shots)} of shots=. Ask for "
                    "fewer, or give more sentences."
                )
