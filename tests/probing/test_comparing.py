"""Many languages compared pair by pair: known arrangements, halves on the diagonal, shuffled labels."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import ortho_group

from hf_langcore.probing.comparing import Side, compare_procrustes, compare_similarity, compare_transport
from hf_langcore.probing.procrustes import procrustes
from hf_langcore.probing.similarity import distance_matrices, permuted_profiles, profiles, similarity
from hf_langcore.probing.transport import dataset_distance

DRAWS = np.random.default_rng(0)
BASE = DRAWS.normal(size=(8, 20))
TURN = ortho_group(20, seed=1).rvs()


def _side(vectors: np.ndarray) -> Side:
    """One layer; four draws, and halves, are the same vectors with noise."""
    noisy = np.stack([vectors, *(vectors + 0.1 * DRAWS.normal(size=vectors.shape) for _ in range(6))])[None]
    products = noisy @ np.swapaxes(noisy, -1, -2)
    return Side.of(products[:, :5], products[:, 5:], distance="cosine", correlation="spearman")


SIDES = {"one": _side(BASE), "turned": _side(BASE @ TURN), "other": _side(DRAWS.normal(size=(8, 20)))}


def test_similarity() -> None:
    found = compare_similarity(SIDES, shuffles=40, seed=0)
    assert found.pairs[0, 0, 1] == pytest.approx(1.0)
    assert abs(found.pairs[0, 0, 2]) < 0.5
    assert found.draws.shape == (1, 4)
    halves = SIDES["other"].split[0]
    assert found.pairs[0, 2, 2] == pytest.approx(similarity(*map(distance_matrices, halves)))
    assert np.isnan(found.low[0, 2, 2])
    assert found.low[0, 0, 1] < 1 < found.high[0, 0, 1]
    assert abs(found.chance[0]) < 0.2
    assert found.chance[0] < found.chance_high[0] < 0.8


def test_shuffles_are_permutations_of_one_side() -> None:
    found = compare_similarity(SIDES, shuffles=8, seed=5)
    generator = np.random.default_rng([5, 8])
    orders = np.array([generator.permutation(8) for _ in range(8)])
    own = {name: profiles(distance_matrices(side.places[0, 0])) for name, side in SIDES.items()}
    expected = [
        permuted_profiles(own[other], orders) @ own[one]
        for one, other in (("one", "turned"), ("one", "other"), ("turned", "other"))
    ]
    assert found.chance[0] == pytest.approx(np.mean(expected))
    assert found.chance_high[0] == pytest.approx(np.quantile(expected, 0.95, axis=1).mean())


def test_procrustes() -> None:
    found = compare_procrustes(SIDES, draws=3, shuffles=5, seed=0)
    assert list(found) == ["residual", "held_out_error", "retrieval"]
    # The rest lies in a dimension that the other relations do not span: no rotation can be learnt for it.
    fit = procrustes(BASE, BASE @ TURN)
    assert found["residual"].pairs[0, 0, 1] == pytest.approx(0, abs=1e-9)
    assert found["held_out_error"].pairs[0, 1, 0] == pytest.approx(fit.held_out_error)
    assert found["retrieval"].draws.shape == (1, 3)
    halves = procrustes(*SIDES["other"].split[0])
    assert found["held_out_error"].pairs[0, 2, 2] == pytest.approx(halves.held_out_error)
    assert found["residual"].chance[0] > 0.05 + found["residual"].pairs[0, 0, 1]
    assert found["held_out_error"].chance[0] > found["held_out_error"].pairs[0, 0, 1]


def _clouds(shift: float) -> list[list[dict[str, np.ndarray]]]:
    """Two subsamples of two halves, one layer; "c" is not compared."""
    return [
        [
            {
                label: DRAWS.normal(shift + place, 1, size=(1, 5, 3)).astype(np.float32)
                for place, label in enumerate("abc")
            }
            for _ in range(2)
        ]
        for _ in range(2)
    ]


def test_transport() -> None:
    """Across halves of different sentences, above the distance within; smallest and largest over the subsamples."""
    clouds = {"one": _clouds(0), "far": _clouds(3)}
    found = compare_transport(clouds, ["a", "b"])
    values = []
    for seed in range(2):
        halves = [[_flat(half) for half in clouds[name][seed]] for name in ("one", "far")]
        within = sum(dataset_distance(*first, *second) for first, second in halves) / 2
        (a, b), (c, d) = halves
        values.append((dataset_distance(*a, *d) + dataset_distance(*b, *c)) / 2 / within - 1)
    assert found.draws[0] == pytest.approx(values)
    assert found.pairs[0, 0, 1] == found.pairs[0, 1, 0] == pytest.approx(np.mean(values))
    assert (found.low[0, 0, 1], found.high[0, 0, 1]) == pytest.approx((min(values), max(values)))
    assert found.pairs[0, 0, 0] == 0
    assert np.isnan(found.chance[0])
    assert found.by_seeds
    assert min(values) > 1


def _flat(half: dict[str, np.ndarray]) -> tuple[np.ndarray, list[str]]:
    return np.concatenate([half["a"][0], half["b"][0]]), ["a"] * 5 + ["b"] * 5
