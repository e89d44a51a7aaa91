"""The picture: one embedding for all panels, names beside their places."""

from __future__ import annotations

import numpy as np
import pytest

from hf_langcore.errors import InputError, NonFiniteError
from hf_langcore.probing.projection import project

DRAWS = np.random.default_rng(0)
CENTRES = np.eye(3, 8)
PANELS = {
    panel: {
        language: (CENTRES + 0.05 * DRAWS.normal(size=(3, 8)), ("nsubj", "obj", "obl"))
        for language in ("en", "de", "zh")
    }
    for panel in ("before", "after")
}


def test_names_and_places() -> None:
    """Clusters stay together, over languages and panels; lengths do not matter."""
    found = project(PANELS)
    assert found.labels == ("nsubj", "obj", "obl") * 6
    assert found.languages == tuple(language for language in ("en", "de", "zh") for _ in range(3)) * 2
    assert found.panels == ("before",) * 9 + ("after",) * 9
    places = np.column_stack([found.x, found.y])
    distances = np.linalg.norm(places[:, None] - places, axis=-1) + 1e9 * np.eye(18)
    nearest = distances.argmin(1)
    assert [found.labels[place] for place in nearest] == list(found.labels)
    longer = {panel: {code: (9 * one[0], one[1]) for code, one in own.items()} for panel, own in PANELS.items()}
    assert project(longer).x == found.x


def test_the_same_every_time() -> None:
    assert project(PANELS, seed=1) == project(PANELS, seed=1)


def test_bad_input() -> None:
    with pytest.raises(InputError, match="got 3"):
        project({"before": {"en": PANELS["before"]["en"]}})
    with pytest.raises(InputError, match="got 0"):
        project({})
    with pytest.raises(InputError, match="perplexity"):
        project(PANELS, perplexity=18)
    with pytest.raises(InputError, match="'de'"):
        project({"before": {"en": PANELS["before"]["en"], "de": (CENTRES[:, :4], ("a", "b", "c"))}})
    with pytest.raises(InputError, match="2 labels"):
        project({"before": {"en": (CENTRES, ("a", "b"))}})
    with pytest.raises(NonFiniteError):
        project({"before": {"en": (CENTRES * np.nan, ("a", "b", "c")), "de": PANELS["before"]["de"]}})
