"""What is kept of hidden states as they pass by: extremes for finding massive activations, means for holding them."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from hf_langcore.errors import InputError
from hf_langcore.sinks.residual import Batch


class Extremes:
    """Running extremes of one layer's hidden states."""

    def __init__(self, hidden: torch.Tensor) -> None:
        self.largest = torch.zeros(hidden.shape[-1])
        self.median = torch.ones(hidden.shape[-1])
        self.positions = torch.zeros(hidden.shape[-1], dtype=torch.int64)
        self.starts = torch.zeros(hidden.shape[-1], dtype=torch.int64)

    def add(self, hidden: torch.Tensor, batch: Batch, ratio: float, magnitude: float) -> None:
        """Look at (windows, tokens, width)."""
        massive, medians = massive_entries(hidden, batch, ratio, magnitude)
        values = hidden.masked_fill(~massive, 0.0).flatten(0, 1)
        peaks, places = values.abs().max(0)
        is_larger = (peaks > self.largest.abs().to(peaks.device)).cpu()
        signed = values.gather(0, places[None])[0].cpu()
        owners = medians[places // hidden.shape[1]].cpu()
        self.largest = torch.where(is_larger, signed, self.largest)
        self.median = torch.where(is_larger, owners, self.median)
        self.positions += massive.sum((0, 1)).cpu()
        self.starts += (massive & batch.starts.to(massive.device)[..., None]).sum((0, 1)).cpu()

    def found(self) -> list[tuple[int, float, float, int, int]]:
        """Dimension, largest value, median of its window, massive positions, start tokens among them."""
        rows = zip(
            self.largest.tolist(), self.median.tolist(), self.positions.tolist(), self.starts.tolist(), strict=True
        )
        return [(dimension, *row) for dimension, row in enumerate(rows) if row[2]]


class Notes:
    """Running means of some dimensions at the positions that count."""

    def __init__(
        self, dimensions: Mapping[int, tuple[int, ...]], positions: str, ratio: float, magnitude: float
    ) -> None:
        self._dimensions, self._positions = dimensions, positions
        self._ratio, self._magnitude = ratio, magnitude
        self._sums = {layer: torch.zeros(2, 2, len(chosen)).double() for layer, chosen in dimensions.items()}
        self._prefixes: dict[tuple[int, int], set[int]] = {}
        self._width = 0

    def add(self, layer: int, hidden: torch.Tensor, batch: Batch) -> None:
        """Look at (windows, tokens, width)."""
        self._width = hidden.shape[-1]
        if layer not in self._dimensions:
            return
        chosen = list(self._dimensions[layer])
        if not all(0 <= one < self._width for one in chosen):
            raise InputError(f"The hidden states have dimensions 0 to {self._width - 1}, got {chosen}.")
        counts = self._counting(hidden, batch)[..., chosen]
        starts = batch.starts.to(hidden.device)[..., None]
        for kind, there in enumerate((counts & starts, counts & ~starts)):
            values = hidden[..., chosen].masked_fill(~there, 0.0)
            self._sums[layer][kind] += torch.stack([values.double().sum((0, 1)), there.double().sum((0, 1))]).cpu()
        if self._positions == "massive":
            self._note_prefixes(layer, chosen, counts.cpu(), batch)

    @property
    def width(self) -> int:
        """Size of the hidden states."""
        return self._width

    def start_means(self) -> dict[int, tuple[float | None, ...]]:
        """Layer -> means at start tokens; None where no start token counted."""
        return {layer: _means(sums[0]) for layer, sums in self._sums.items()}

    def other_means(self) -> dict[int, tuple[float | None, ...]]:
        """Layer -> means at other tokens; None where none counted."""
        return {layer: _means(sums[1]) for layer, sums in self._sums.items()}

    def prefixes(self) -> dict[tuple[int, int], frozenset[int]]:
        """Layer and dimension -> hashes of the texts at whose last token it was massive."""
        return {place: frozenset(seen) for place, seen in self._prefixes.items()}

    def _counting(self, hidden: torch.Tensor, batch: Batch) -> torch.Tensor:
        if self._positions == "massive":
            return massive_entries(hidden, batch, self._ratio, self._magnitude)[0]
        where = batch.starts if self._positions == "start" else batch.present
        return where.to(hidden.device)[..., None].expand(hidden.shape)

    def _note_prefixes(self, layer: int, chosen: list[int], counts: torch.Tensor, batch: Batch) -> None:
        for row, token, column in counts.nonzero().tolist():
            seen = self._prefixes.setdefault((layer, chosen[column]), set())
            seen.add(batch.prefixes()[row][token])


def massive_entries(
    hidden: torch.Tensor, batch: Batch, ratio: float, magnitude: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Where hidden states are massive, and the median magnitude of each window."""
    magnitudes = hidden.abs().masked_fill(~batch.present.to(hidden.device)[..., None], float("nan"))
    medians = magnitudes.flatten(1).nanmedian(1).values
    # What is all zero, as behind a norm that was zeroed, has no large entries.
    return (magnitudes >= (ratio * medians).clamp_min(magnitude)[:, None, None]) & (magnitudes > 0), medians


def _means(sums: torch.Tensor) -> tuple[float | None, ...]:
    return tuple(total / count if count else None for total, count in zip(*sums.tolist(), strict=True))
