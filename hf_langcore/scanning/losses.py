"""Losses of pieces of text under one state of a model: what perplexity is made of, and what intervals are drawn from."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from hf_langcore.data import Window
from hf_langcore.evaluation import ScoringTask, window_losses

LONGEST_PIECE = 32
"""Scored tokens in one piece, at most."""

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class WindowLosses:
    """Losses of a text in one state of a model, cut into pieces.

    A piece is a run of at most 32 consecutive scored tokens of one window; longer windows are cut into pieces of nearly
    equal length. Two states that were measured on one `ScoringTask` have the same pieces in the same order.

    Attributes:
        nll_sums: Language -> sum of the negative log-likelihoods of each piece in nats, float64, (pieces,); infinite where
            the model gave NaN or infinity.
        tokens: Language -> scored tokens of each piece, int64, (pieces,).
    """

    nll_sums: Mapping[str, FloatArray]
    tokens: Mapping[str, NDArray[np.int64]]

    @property
    def num_tokens(self) -> int:
        """Scored tokens in all languages."""
        return int(sum(counts.sum() for counts in self.tokens.values()))

    def nll(self) -> dict[str, float]:
        """Language -> mean negative log-likelihood per token, in nats."""
        return {language: float(sums.sum() / self.tokens[language].sum()) for language, sums in self.nll_sums.items()}

    def mean_nll(self) -> float:
        """The mean of `nll` over languages, each counting the same."""
        values = self.nll().values()
        return sum(values) / len(values)

    @property
    def perplexity(self) -> float:
        """Geometric mean of the perplexities over languages; infinite where that is no float."""
        try:
            return math.exp(self.mean_nll())
        except OverflowError:
            return math.inf


def measure(model: nn.Module, task: ScoringTask, *, batch_size: int | Literal["auto"] = "auto") -> WindowLosses:
    """Losses of prepared texts with the model as it is now.

    Args:
        model: A causal LM, bare or wrapped; open edits and adapters count.
        task: The texts, from `prepare_scoring`.
        batch_size: Windows per forward pass; "auto" keeps the logits below 256 MB.
    """
    order = [(language, window) for language, windows in task.windows.items() for window in windows]
    losses = window_losses(model, [window for _, window in order], pad_id=task.start.id, batch_size=batch_size)
    sums: dict[str, list[FloatArray]] = {language: [] for language in task.windows}
    for (language, _), per_token in zip(order, losses, strict=True):
        starts = np.cumsum([0, *piece_lengths(len(per_token))[:-1]])
        sums[language].append(np.add.reduceat(per_token.numpy().astype(np.float64), starts))
    return WindowLosses(
        {language: without_nan(np.concatenate(parts)) for language, parts in sums.items()},
        {language: tokens_of_pieces(windows) for language, windows in task.windows.items()},
    )


def piece_lengths(num_scored: int) -> list[int]:
    """Lengths of the pieces that a window of so many scored tokens is cut into."""
    count = max(1, math.ceil(num_scored / LONGEST_PIECE))
    return [(num_scored + place) // count for place in range(count)]


def tokens_of_pieces(windows: Sequence[Window]) -> NDArray[np.int64]:
    """Scored tokens of each piece, window after window: int64, (pieces,)."""
    return np.array([length for window in windows for length in piece_lengths(window.num_scored)], dtype=np.int64)


def without_nan(values: Any) -> FloatArray:
    """Losses in which NaN is infinite: a model that gives NaN predicts nothing."""
    found = values.cpu().numpy() if isinstance(values, torch.Tensor) else np.asarray(values)
    return np.where(np.isnan(found), np.inf, found).astype(np.float64)
