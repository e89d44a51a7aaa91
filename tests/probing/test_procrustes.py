"""Procrustes against SciPy; a rotation is found, also for the label that was held out; noise is not."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.linalg import orthogonal_procrustes
from scipy.spatial import procrustes as scipy_procrustes
from scipy.stats import ortho_group

from hf_langcore.errors import InputError
from hf_langcore.probing.procrustes import coordinates, procrustes

DRAWS = np.random.default_rng(0)
ONE, OTHER = DRAWS.normal(size=(12, 5)), DRAWS.normal(size=(12, 5))
TURN = ortho_group(5, seed=1).rvs()


def test_residual_is_scipys() -> None:
    assert procrustes(ONE, OTHER).residual == pytest.approx(scipy_procrustes(ONE, OTHER)[2])


def test_a_rotation_is_found() -> None:
    """With scale and shift, in both directions, for labels that the fit has not seen."""
    fit = procrustes(ONE, 3 * ONE @ TURN + 7)
    assert fit.residual == pytest.approx(0, abs=1e-9)
    assert fit.held_out_error == pytest.approx(0, abs=1e-9)
    assert fit.retrieval == 1


def test_held_out_by_hand() -> None:
    """The fit of each label without it, by SciPy's rotation."""
    other = ONE @ TURN + 0.5 * OTHER
    errors, sizes, right = [], [], []
    for start, goal in ((ONE, other), (other, ONE)):
        error = size = found = 0.0
        for out in range(12):
            rest = [place for place in range(12) if place != out]
            first, second = start[rest] - start[rest].mean(0), goal[rest] - goal[rest].mean(0)
            turn, scale = orthogonal_procrustes(first, second)
            guess = (start[out] - start[rest].mean(0)) @ turn * scale / (first**2).sum()
            aims = goal - goal[rest].mean(0)
            error += ((guess - aims[out]) ** 2).sum()
            size += (aims[out] ** 2).sum()
            cosines = aims @ guess / np.linalg.norm(aims, axis=1)
            found += cosines.argmax() == out
        errors.append(error)
        sizes.append(size)
        right.append(found / 12)
    fit = procrustes(ONE, other)
    assert 0 < fit.held_out_error < 1
    assert fit.held_out_error == pytest.approx(np.mean([e / s for e, s in zip(errors, sizes, strict=True)]))
    assert fit.retrieval == pytest.approx(np.mean(right))
    assert fit.retrieval > 0.3


def test_few_points_in_many_dimensions_fit_anything_and_predict_nothing() -> None:
    """Why the residual alone says little."""
    one, other = DRAWS.normal(size=(2, 8, 4000))
    fit = procrustes(coordinates(one @ one.T), coordinates(other @ other.T))
    assert fit.residual < 0.02
    assert fit.held_out_error > 0.95
    assert fit.retrieval <= 0.25


def test_coordinates_keep_all_distances() -> None:
    """And so the fit; of points that span fewer dimensions, too."""
    wide = np.random.default_rng(5).normal(size=(2, 7, 300))
    wide[:, 6] = (wide[:, 5] + wide[:, 4]) / 2  # no two in one place, where rounding would tell which is the nearest
    places = coordinates(wide @ np.swapaxes(wide, -1, -2))
    assert places.shape == (2, 7, 7)
    for side in range(2):
        np.testing.assert_allclose(
            np.linalg.norm(places[side, :, None] - places[side], axis=-1),
            np.linalg.norm(wide[side, :, None] - wide[side], axis=-1),
            atol=1e-5,
        )
    narrow, full = procrustes(places[0], places[1]), procrustes(wide[0], wide[1])
    assert narrow.residual == pytest.approx(full.residual)
    assert narrow.held_out_error == pytest.approx(full.held_out_error)
    assert narrow.retrieval == full.retrieval


def test_many_at_once_and_symmetric() -> None:
    stack = DRAWS.normal(size=(3, 12, 5))
    fit, back = procrustes(stack, OTHER[None]), procrustes(OTHER[None], stack)
    single = procrustes(stack[2], OTHER)
    for name in ("residual", "held_out_error", "retrieval"):
        assert getattr(fit, name).shape == (3,)
        np.testing.assert_allclose(getattr(fit, name), getattr(back, name))
        assert getattr(fit, name)[2] == pytest.approx(getattr(single, name))


def test_too_few_labels() -> None:
    for one, other in ((ONE[:3], OTHER[:3]), (ONE, OTHER[:11])):
        with pytest.raises(InputError, match="at least 4"):
            procrustes(one, other)
