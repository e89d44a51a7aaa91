"""Probes on vectors with labels, whatever these came from: train on some languages, test on others, layer by layer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm.auto import tqdm

from hf_langcore.errors import CorpusError, InputError
from hf_langcore.probing.folds import Fold
from hf_langcore.probing.linear import DEFAULT_ITERATIONS, DEFAULT_PENALTY, LinearProbe, fit_linear_probe
from hf_langcore.probing.probe_report import ProbeReport, TransferReport
from hf_langcore.probing.representations import Labelled
from hf_langcore.probing.scores import Tally
from hf_langcore.probing.splits import Rows, split_sentences, training_rows

DEFAULT_MAX_ITEMS = 4000
"""Training items of one probe, of all its languages together."""

DEFAULT_TEST_SHARE = 0.2
DEFAULT_SEEDS = (0, 1, 2)


@dataclass(frozen=True, slots=True)
class ProbePlan:
    """How probes are trained and tested.

    Attributes:
        seeds: Each decides which sentences are held out and which items are trained on.
        max_items: Training items of one probe, of all its languages together.
        test_share: Share of the sentence numbers to hold out, the same ones in all languages.
        penalty: L2 penalty, the inverse of scikit-learn's C.
        max_iterations: Of L-BFGS.
        control: Also train probes for random labels of word types (twice the time).
        center: Take each language's mean vector off its vectors first.
    """

    seeds: tuple[int, ...] = DEFAULT_SEEDS
    max_items: int = DEFAULT_MAX_ITEMS
    test_share: float = DEFAULT_TEST_SHARE
    penalty: float = DEFAULT_PENALTY
    max_iterations: int = DEFAULT_ITERATIONS
    control: bool = False
    center: bool = False

    def __post_init__(self) -> None:
        """Refuse what cannot be carried out."""
        if not self.seeds or len(set(self.seeds)) != len(self.seeds) or any(seed < 0 for seed in self.seeds):
            raise InputError(f"seeds must be different whole numbers of at least 0, at least one, got {self.seeds!r}.")
        if self.max_items < 1:
            raise InputError(f"max_items must be at least 1, got {self.max_items!r}.")

    def fit(
        self,
        vectors: NDArray[np.float32],
        labels: Sequence[str],
        *,
        weights: NDArray[np.float64] | None = None,
        least_labels: int = 2,
    ) -> LinearProbe:
        """Train one probe."""
        return fit_linear_probe(
            vectors,
            labels,
            weights=weights,
            penalty=self.penalty,
            max_iterations=self.max_iterations,
            least_labels=least_labels,
        )

    def folds(self, items: Mapping[str, Labelled]) -> Iterator[Fold]:
        """One split for each seed."""
        for seed in self.seeds:
            yield Fold(items, split_sentences(items, test_share=self.test_share, seed=seed), self.center)

    def settings(self) -> dict[str, Any]:
        """As JSON values."""
        return {**asdict(self), "seeds": list(self.seeds)}


def probe_labelled(
    items: Mapping[str, Labelled],
    *,
    train_languages: Sequence[str],
    test_languages: Sequence[str] | None = None,
    plan: ProbePlan | None = None,
    task: str = "labels",
    layer_numbers: Sequence[int] = (),
    settings: Mapping[str, Any] | None = None,
    progress: bool = False,
) -> ProbeReport:
    """`probe_layers` on vectors that are there already, with labels of any kind.

    Args:
        items: Language -> vectors and labels.
        train_languages: What to train on.
        test_languages: What to test on; all where None.
        plan: How; the defaults where None.
        task: What the labels are, for the report.
        layer_numbers: The number of each layer in `items`; 0, 1, ... where empty.
        settings: What else the report is to say.
        progress: Show a progress bar.

    Raises:
        CorpusError: A language is not among `items`, or has too few.
        InputError: No language is named.
    """
    plan = plan or ProbePlan()
    tested = list(items if test_languages is None else test_languages)
    choose_languages(items, [*train_languages, *tested])
    if not train_languages or not tested:
        raise InputError("Name at least one language to train on and one to test on.")
    numbers = list(layer_numbers) or list(range(len(items[tested[0]].layers)))
    cells = {number: {language: Tally() for language in tested} for number in numbers}
    early = 0
    with tqdm(total=len(plan.seeds) * len(numbers), unit="probe", disable=not progress) as bar:
        for fold in plan.folds(items):
            rows = training_rows(items, list(dict.fromkeys(train_languages)), fold.split, max_items=plan.max_items)
            for place, number in enumerate(numbers):
                early += _probe_layer(fold, place, rows, plan, cells[number])
                bar.update()
    return ProbeReport(
        task,
        list(dict.fromkeys(train_languages)),
        {number: {language: tally.score() for language, tally in row.items()} for number, row in cells.items()},
        settings={**(settings or {}), **plan.settings(), "stopped_early": early},
    )


def transfer_labelled(
    items: Mapping[str, Labelled],
    *,
    plan: ProbePlan | None = None,
    task: str = "labels",
    layer_numbers: Sequence[int] = (),
    settings: Mapping[str, Any] | None = None,
    progress: bool = False,
) -> TransferReport:
    """`transfer_matrix` on vectors that are there already; the arguments are those of `probe_labelled`."""
    reports = {
        language: probe_labelled(
            items, train_languages=[language], plan=plan, task=task, layer_numbers=layer_numbers, settings=settings
        )
        for language in tqdm(items, unit="language", disable=not progress)
    }
    return TransferReport(reports)


def choose_languages(given: Mapping[str, Any], wanted: Sequence[str]) -> dict[str, Any]:
    """What is given for some languages, each once.

    Raises:
        CorpusError: Nothing is given for one of them.
    """
    missing = [language for language in wanted if language not in given]
    if missing:
        raise CorpusError(
            f"There is no treebank of {', '.join(map(repr, dict.fromkeys(missing)))}; there are {', '.join(given)}. Name some of these."
        )
    return {language: given[language] for language in dict.fromkeys(wanted)}


def _probe_layer(fold: Fold, place: int, rows: Mapping[str, Rows], plan: ProbePlan, cells: Mapping[str, Tally]) -> int:
    """Train on one layer, test on each language; how many probes stopped early."""
    vectors = fold.stacked(place, rows)
    probe = plan.fit(vectors, fold.labels(rows))
    for language, tally in cells.items():
        fold.test(probe, language, place, tally)
    if not plan.control:
        return int(not probe.is_converged)
    control = plan.fit(vectors, fold.control_labels(rows, rows))
    for language, tally in cells.items():
        chosen = fold.test_rows(language)
        truth = fold.control_labels({language: chosen}, rows)
        tally.add_control(truth, control.predict(fold.vectors(language, place, chosen)))
    return int(not probe.is_converged) + int(not control.is_converged)
