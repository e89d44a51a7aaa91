"""Which figures are a breach, and how it is said."""

from __future__ import annotations

import math

import pytest

from hf_langcore.evaluation import LanguageScore
from hf_langcore.training.sentinel_breaches import Breach, Limits, loss_breach, mean
from hf_langcore.training.sentinel_drift import Drift

BASE = {"en": LanguageScore(math.log(10), 5), "de": LanguageScore(math.log(40), 5)}


def scores(en: float, de: float) -> dict[str, LanguageScore]:
    return {"en": LanguageScore(math.log(en), 5), "de": LanguageScore(math.log(de), 5)}


@pytest.mark.parametrize(
    ("now", "expected"),
    [
        ((11.9, 47.9), []),
        ((12.1, 40.0), [("en", 1)]),
        ((14.5, 60.0), [("en", 2), ("de", 2)]),
        ((1.0, 1000.0), [("de", 17)]),
        ((math.inf, 40.0), [("en", 1000)]),
    ],
)
def test_any_language_above_the_limit_is_a_breach(now: tuple[float, float], expected: list[tuple[str, int]]) -> None:
    """The level counts how many times the limit was passed."""
    found = Limits(1.2, "language", None).breaches(7, scores(*now), BASE, Drift())
    assert [(one.subject, one.level) for one in found] == expected
    assert all((one.step, one.kind) == (7, "perplexity") for one in found)


def test_the_mean_is_geometric() -> None:
    """A language that doubles is made up for by one that halves."""
    assert mean(BASE) == pytest.approx(20)
    limits = Limits(1.2, "mean", None)
    assert limits.breaches(1, scores(20, 20), BASE, Drift()) == []
    (breach,) = limits.breaches(1, scores(20, 40), BASE, Drift())
    assert (breach.kind, breach.value, breach.allowed) == ("mean", pytest.approx(28.28, abs=0.01), pytest.approx(24))


def test_drift_counts_only_with_a_limit() -> None:
    """And above it; twice the limit is the second level."""
    assert Limits(1.2, "language", None).breaches(1, BASE, BASE, Drift(9.0, "w[0]")) == []
    limits = Limits(1.2, "language", 0.1)
    assert limits.breaches(1, BASE, BASE, Drift(0.1, "w[0]")) == []
    (breach,) = limits.breaches(1, BASE, BASE, Drift(0.25, "w[0]"))
    assert (breach.kind, breach.subject, breach.level) == ("drift", "w[0]", 2)
    assert limits.breaches(1, BASE, BASE, Drift(math.inf, "w[0]"))[0].level == 1000


def test_a_breach_is_said_with_figures() -> None:
    """Step, language, both perplexities, ratio and what is allowed."""
    (breach,) = Limits(1.2, "language", None).breaches(50, scores(15, 40), BASE, Drift())
    expected = "step 50: perplexity of en is 15.00, 1.50 times what it was before training (10.00); allowed is 12.00"
    assert str(breach) == expected
    assert str(loss_breach(3, "the logged loss")) == "step 3: the logged loss is no finite number"
    drift = Breach(4, "drift", "w[0]", 0.25, 0.0, 0.1, 2)
    assert str(drift) == "step 4: w[0] has moved by 25.0%, allowed are 10.0%"
    assert "1.00e+09" in str(Limits(1.2, "language", None).breaches(1, scores(1e9, 40), BASE, Drift())[0])


@pytest.mark.parametrize(
    "breach", [loss_breach(3, "the logged loss"), Breach(1, "mean", "x", 3.0, 2.0, 2.4, 2, "stop")]
)
def test_a_breach_survives_json(breach: Breach) -> None:
    """Infinity included."""
    assert Breach.from_dict(breach.to_dict()) == breach
