"""A linear probe: multinomial logistic regression on standardised vectors."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hf_langcore.errors import CorpusError, InputError
from hf_langcore.extras import require

DEFAULT_PENALTY = 100.0
"""Weight of half the squared norm of the probe's weights, beside the sum of the items' losses; the inverse of
scikit-learn's C. Weaker ones gained nothing within languages and lost much across them on a real model."""

DEFAULT_ITERATIONS = 100

_TOLERANCE = 1e-3
_FEATURE = "A linear probe"


@dataclass(frozen=True, slots=True)
class LinearProbe:
    """A probe that was trained on the vectors of one layer.

    Attributes:
        scaler: scikit-learn's StandardScaler, fitted on the training vectors.
        classifier: scikit-learn's LogisticRegression.
        most_frequent: The label that was most frequent in training: what one would guess without vectors.
        is_converged: False where the optimizer stopped at its last iteration.
    """

    scaler: Any
    classifier: Any
    most_frequent: str
    is_converged: bool

    def predict(self, vectors: NDArray[np.float32]) -> NDArray[np.str_]:
        """The label of each vector.

        Args:
            vectors: (items, width).
        """
        found: NDArray[np.str_] = self.classifier.predict(self.scaler.transform(vectors))
        return found


def fit_linear_probe(
    vectors: NDArray[np.float32],
    labels: Sequence[str],
    *,
    weights: NDArray[np.float64] | None = None,
    penalty: float = DEFAULT_PENALTY,
    max_iterations: int = DEFAULT_ITERATIONS,
    least_labels: int = 2,
) -> LinearProbe:
    """Train a probe.

    Args:
        vectors: (items, width).
        labels: Label of each.
        weights: How much each item counts; equally where None.
        penalty: L2 penalty, the inverse of scikit-learn's C.
        max_iterations: Of L-BFGS.
        least_labels: How many labels there must be; with 1, a probe that has seen one label says it always.

    Raises:
        CorpusError: There are fewer labels.
        InputError: Vectors and labels are of unequal number, or an option is out of range.
        MissingExtraError: scikit-learn is not installed.
    """
    linear = require("sklearn.linear_model", extra="probing", feature=_FEATURE)
    preprocessing = require("sklearn.preprocessing", extra="probing", feature=_FEATURE)
    if len(vectors) != len(labels):
        raise InputError(
            f"A probe needs one label for each vector, got {len(vectors)} vectors and {len(labels)} labels."
        )
    if not penalty > 0 or max_iterations < 1:
        raise InputError(f"penalty and max_iterations must be positive, got {penalty!r} and {max_iterations!r}.")
    names, counts = np.unique(np.array(labels), return_counts=True)
    if len(names) < least_labels:
        raise CorpusError(
            f"A probe needs items of at least {least_labels} labels to train on, got {len(labels)} of {names.tolist()}. Give "
            "more sentences."
        )
    scaler = preprocessing.StandardScaler().fit(vectors)
    if len(names) == 1:
        dummy = require("sklearn.dummy", extra="probing", feature=_FEATURE).DummyClassifier(strategy="most_frequent")
        return LinearProbe(scaler, dummy.fit(vectors, np.array(labels)), str(names[0]), is_converged=True)
    classifier = linear.LogisticRegression(C=1 / penalty, tol=_TOLERANCE, max_iter=max_iterations)
    with warnings.catch_warnings():
        # Stopping early regularises; what matters is how well the probe does on other sentences.
        warnings.simplefilter(
            "ignore", require("sklearn.exceptions", extra="probing", feature=_FEATURE).ConvergenceWarning
        )
        classifier.fit(scaler.transform(vectors), np.array(labels), sample_weight=weights)
    is_converged = bool(np.max(classifier.n_iter_) < max_iterations)
    return LinearProbe(scaler, classifier, str(names[int(counts.argmax())]), is_converged)
