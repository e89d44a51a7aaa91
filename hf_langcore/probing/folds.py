"""One split of the items of several languages: vectors to train on, vectors to test on, and what a test adds to a tally."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from hf_langcore.errors import CorpusError
from hf_langcore.probing.linear import LinearProbe
from hf_langcore.probing.representations import Labelled
from hf_langcore.probing.scores import Tally
from hf_langcore.probing.splits import Rows, Split, control_labels


@dataclass(frozen=True, slots=True)
class Fold:
    """Items and a split of their sentences.

    Attributes:
        items: Language -> vectors and labels.
        split: Which sentences are held out.
        center: Take each language's mean vector off its vectors. The mean is that of the sentences that are not held out, and
            needs no label.
    """

    items: Mapping[str, Labelled]
    split: Split
    center: bool = False
    _means: dict[tuple[str, int], NDArray[np.float32]] = field(default_factory=dict)

    def vectors(self, language: str, place: int, rows: Rows) -> NDArray[np.float32]:
        """Vectors of some rows of one language in one layer: (rows, width)."""
        chosen: NDArray[np.float32] = self.items[language].layers[place][rows]
        return chosen - self._mean(language, place) if self.center else chosen

    def stacked(self, place: int, rows: Mapping[str, Rows]) -> NDArray[np.float32]:
        """Vectors of some rows of several languages, one below the other."""
        return np.concatenate([self.vectors(language, place, chosen) for language, chosen in rows.items()])

    def labels(self, rows: Mapping[str, Rows]) -> list[str]:
        """Labels of the same rows, in the same order."""
        return [self.items[language].labels[row] for language, chosen in rows.items() for row in chosen]

    def control_labels(self, rows: Mapping[str, Rows], drawn_from: Mapping[str, Rows]) -> list[str]:
        """Labels of the control task of the same rows, as frequent as the labels of `drawn_from`."""
        types = [self.items[language].types[row] for language, chosen in rows.items() for row in chosen]
        return control_labels(types, self.labels(drawn_from), seed=self.split.seed)

    def test_rows(self, language: str) -> Rows:
        """The held-out items of a language.

        Raises:
            CorpusError: There are none.
        """
        rows = self.split.test_rows(self.items[language])
        if not len(rows):
            raise CorpusError(
                f"{language!r} has no item in the held-out sentences to test on. Give more sentences, or hold out more "
                "(test_share=)."
            )
        return rows

    def test(self, probe: LinearProbe, language: str, place: int, tally: Tally) -> None:
        """Add what a probe says of the held-out items of a language."""
        rows = self.test_rows(language)
        tally.add(
            self.labels({language: rows}),
            probe.predict(self.vectors(language, place, rows)),
            self.items[language].groups[rows],
            most_frequent=probe.most_frequent,
        )

    def _mean(self, language: str, place: int) -> NDArray[np.float32]:
        key = (language, place)
        if key not in self._means:
            rows = self.split.training_rows(self.items[language], most=len(self.items[language].labels))
            layer = self.items[language].layers[place]
            self._means[key] = layer[rows if len(rows) else slice(None)].mean(axis=0)
        return self._means[key]
