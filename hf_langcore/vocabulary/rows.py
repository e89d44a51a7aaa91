"""What the rows of new tokens begin with, in embeddings and LM head."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch

Initialisation = Literal["mean_of_pieces", "mean", "normal", "zero"]

INITIALISATIONS: dict[str, str] = {
    "mean_of_pieces": "the mean of the rows of the old tokens that stood for the new one",
    "mean": "the mean of all old rows",
    "normal": "drawn from a normal distribution with the mean and the covariance of the old rows",
    "zero": "zeros",
}
"""What the rows of new tokens can begin with, in a word and in several."""


def new_rows(
    old: torch.Tensor, pieces: Sequence[Sequence[int]], initialisation: str, *, generator: torch.Generator
) -> torch.Tensor:
    """The rows of new tokens.

    Args:
        old: Rows of the old tokens, (tokens, width).
        pieces: For each new token the old tokens that stood for it; where there are none it gets the mean of all.
        initialisation: One of `INITIALISATIONS`.
        generator: Of what is drawn.

    Returns:
        float32 on the CPU, (new tokens, width).
    """
    known = old.detach().float().cpu()
    centre = known.mean(dim=0)
    if initialisation == "zero":
        return torch.zeros(len(pieces), known.shape[1])
    if initialisation == "mean":
        return centre.repeat(len(pieces), 1)
    if initialisation == "normal":
        return centre + _drawn(known - centre, len(pieces), generator)
    return torch.stack([known[list(ids)].mean(dim=0) if ids else centre for ids in pieces])


def _drawn(centred: torch.Tensor, count: int, generator: torch.Generator) -> torch.Tensor:
    """Draws with the covariance of the given rows, by its root: it may be singular, so that Cholesky does not do."""
    wide = centred.double()
    values, vectors = torch.linalg.eigh(wide.T @ wide / max(1, len(wide) - 1))
    root = vectors * values.clamp(min=0).sqrt()
    drawn: torch.Tensor = torch.randn(count, len(values), generator=generator, dtype=torch.float64) @ root.T
    return drawn.float()
