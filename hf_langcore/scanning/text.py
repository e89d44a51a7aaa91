"""Texts as batches that lie on the device, so that thousands of states of a model can be measured on them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from hf_langcore.architecture import unwrap
from hf_langcore.data import Window, check_batch_size, vocabulary_size
from hf_langcore.evaluation import ScoringTask
from hf_langcore.scanning.losses import WindowLosses, piece_lengths, tokens_of_pieces, without_nan

_LOGIT_BUDGET = 1 << 24  # logits in one batch: 64 MB in float32, which caches and small GPUs take well
_LARGEST_BATCH = 64
_CACHED = 1 << 17  # logits: 512 KB in float32
_NOT_SCORED = -100  # what cross_entropy passes over


@dataclass(frozen=True, slots=True)
class Batch:
    """Windows of similar length.

    Attributes:
        ids: int64, (windows, width).
        padding: `attention_mask` where windows are shorter than the batch, else nothing.
        wanted: Flat positions in (windows, width) of the logits that predict the scored tokens.
        targets: The scored tokens.
        everywhere: The scored tokens at their places among all positions, (windows x width,), -100 elsewhere.
        pieces: Number of the piece of text that each scored token belongs to.
    """

    ids: torch.Tensor
    padding: Mapping[str, torch.Tensor]
    wanted: torch.Tensor
    targets: torch.Tensor
    everywhere: torch.Tensor
    pieces: torch.Tensor

    def nll(self, model: nn.Module) -> torch.Tensor:
        """Negative log-likelihood of each scored token, float32, on the device."""
        logits = model(input_ids=self.ids, use_cache=False, **self.padding).logits
        if logits.shape[1] > self.ids.shape[1]:  # prompt-tuning adapters put positions of their own in front
            logits = logits[:, -self.ids.shape[1] :]
        logits = logits.reshape(-1, logits.shape[-1])
        # Copying logits costs more than losses that nobody asks for, unless these are many.
        if 2 * len(self.wanted) > len(logits):
            return _cross_entropy(logits, self.everywhere).index_select(0, self.wanted)
        return _cross_entropy(logits.index_select(0, self.wanted), self.targets)


def _cross_entropy(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Losses of positions, on a CPU some rows at a time, so that what is computed on the way stays in its cache."""
    rows = max(1, _CACHED // logits.shape[1]) if logits.device.type == "cpu" else len(logits)
    parts = [
        nn.functional.cross_entropy(some.float(), wanted, reduction="none")
        for some, wanted in zip(logits.split(rows), targets.split(rows), strict=True)
    ]
    return torch.cat(parts)


class PreparedText:
    """A text as batches.

    Attributes:
        batches: In the order in which they are measured; the longest windows first.
        num_tokens: Scored tokens.
    """

    def __init__(self, model: nn.Module, task: ScoringTask, *, batch_size: int | Literal["auto"] = "auto") -> None:
        device = next(model.parameters()).device
        self.num_tokens = task.num_tokens
        self._tokens = {language: tokens_of_pieces(windows) for language, windows in task.windows.items()}
        order = sorted(_numbered(task), key=lambda one: len(one[0].ids), reverse=True)
        longest = len(order[0][0].ids)
        fitting = max(1, min(_LARGEST_BATCH, _LOGIT_BUDGET // (longest * vocabulary_size(unwrap(model)))))
        size = check_batch_size(batch_size) or fitting
        self.batches = [
            _batch(order[first : first + size], task.start.id, device) for first in range(0, len(order), size)
        ]
        self._pieces = np.concatenate([batch.pieces.cpu().numpy() for batch in self.batches])

    def losses(self, nll: torch.Tensor) -> WindowLosses:
        """The losses of pieces from those of tokens.

        Args:
            nll: Of the scored tokens of all batches, one batch after the other.
        """
        ends: NDArray[np.int64] = np.cumsum([len(tokens) for tokens in self._tokens.values()])
        # On the CPU, where sums are always made in the same order.
        values = nll.cpu().double().numpy()
        with np.errstate(invalid="ignore"):
            sums = without_nan(np.bincount(self._pieces, weights=values, minlength=int(ends[-1])))
        return WindowLosses(dict(zip(self._tokens, np.split(sums, ends[:-1]), strict=True)), self._tokens)

    @property
    def num_positions(self) -> int:
        """Positions that go through the model, padding included."""
        return sum(batch.ids.numel() for batch in self.batches)


def excerpt(task: ScoringTask, tokens: int) -> ScoringTask:
    """The first windows of each language, about `tokens` scored tokens in all; the task itself where it is not longer.

    Args:
        task: A prepared text.
        tokens: Scored tokens in all languages together; each language gives an equal share, and a window at least.
    """
    if task.num_tokens <= tokens:
        return task
    share = tokens / len(task.windows)
    return replace(task, windows={language: _first(windows, share) for language, windows in task.windows.items()})


def _first(windows: Sequence[Window], tokens: float) -> list[Window]:
    chosen: list[Window] = []
    count = 0
    for window in windows:
        if count >= tokens:
            break
        chosen.append(window)
        count += window.num_scored
    return chosen


def _numbered(task: ScoringTask) -> Iterator[tuple[Window, int]]:
    """Every window and the number of its first piece."""
    first = 0
    for windows in task.windows.values():
        for window in windows:
            yield window, first
            first += len(piece_lengths(window.num_scored))


def _batch(windows: Sequence[tuple[Window, int]], pad_id: int, device: torch.device) -> Batch:
    width = max(len(window.ids) for window, _ in windows)
    ids = torch.full((len(windows), width), pad_id, dtype=torch.int64)
    present = torch.zeros((len(windows), width), dtype=torch.int64)
    pieces = torch.full((len(windows), width), -1, dtype=torch.int64)
    for row, (window, first) in enumerate(windows):
        length = len(window.ids)
        ids[row, :length] = torch.tensor(window.ids)
        present[row, :length] = 1
        lengths = torch.tensor(piece_lengths(window.num_scored))
        pieces[row, window.first_scored : length] = (first + torch.arange(len(lengths))).repeat_interleave(lengths)
    ahead = torch.cat([pieces[:, 1:], torch.full((len(windows), 1), -1)], dim=1).flatten()
    following = torch.cat([ids[:, 1:], ids[:, :1]], dim=1).flatten()
    wanted = (ahead >= 0).nonzero().flatten()
    return Batch(
        ids.to(device),
        {} if bool(present.all()) else {"attention_mask": present.to(device)},
        wanted.to(device),
        following[wanted].to(device),
        torch.where(ahead >= 0, following, _NOT_SCORED).to(device),
        ahead[wanted].to(device),
    )
