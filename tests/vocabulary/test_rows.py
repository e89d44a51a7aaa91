"""What new rows begin with."""

from __future__ import annotations

import pytest
import torch

from hf_langcore.vocabulary.rows import INITIALISATIONS, new_rows

OLD = torch.tensor([[1.0, 0.0, 3.0], [3.0, 4.0, 3.0], [5.0, 2.0, 3.0], [7.0, 2.0, 3.0]], dtype=torch.bfloat16)
PIECES = [(0, 1), (2,), (1, 1, 0), ()]


def made(initialisation: str, count: int = 1, seed: int = 0) -> torch.Tensor:
    return new_rows(OLD, PIECES * count, initialisation, generator=torch.Generator().manual_seed(seed))


def test_known_rows() -> None:
    """By hand; tokens without pieces get the mean of all."""
    centre = [4.0, 2.0, 3.0]
    pieces = [[2.0, 2.0, 3.0], [5.0, 2.0, 3.0], [7 / 3, 8 / 3, 3.0], centre]
    assert torch.allclose(made("mean_of_pieces"), torch.tensor(pieces))
    assert torch.equal(made("mean"), torch.tensor([centre] * 4))
    assert torch.equal(made("zero"), torch.zeros(4, 3))


def test_normal_rows_have_mean_and_covariance_of_the_old() -> None:
    """Also where a dimension never varies; each seed draws others."""
    drawn = made("normal", count=5_000)
    assert torch.allclose(drawn.mean(dim=0), OLD.float().mean(dim=0), atol=0.05)
    assert torch.allclose(drawn.T.cov(), OLD.float().T.cov(), atol=0.2)
    assert torch.allclose(drawn[:, 2], torch.tensor(3.0), atol=1e-4)
    assert torch.equal(made("normal"), made("normal"))
    assert not torch.equal(made("normal"), made("normal", seed=1))


@pytest.mark.parametrize("initialisation", INITIALISATIONS)
def test_all_are_known(initialisation: str) -> None:
    rows = made(initialisation)
    assert rows.dtype == torch.float32
    assert rows.shape == (4, 3)
