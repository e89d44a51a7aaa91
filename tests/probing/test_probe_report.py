"""Reports of probes: figures, JSON and tables."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from hf_langcore.errors import InputError
from hf_langcore.probing.probe_report import ProbeReport, TransferReport
from hf_langcore.probing.scores import ProbeScore


def score(accuracy: float) -> ProbeScore:
    return ProbeScore(accuracy, accuracy / 2, accuracy - 0.02, accuracy + 0.02, 0.1, 0.3, (accuracy,), 100.0)


def report(train: tuple[str, ...] = ("en",), lift: float = 0.0) -> ProbeReport:
    """Layer 3 is best in what was trained on, layer 2 elsewhere."""
    figures = {0: (0.5, 0.3, 0.3), 2: (0.6, 0.4 + lift, 0.5), 3: (0.9, 0.4, 0.4)}
    cells = {layer: dict(zip(("en", "de", "zh"), map(score, row), strict=True)) for layer, row in figures.items()}
    return ProbeReport("upos", train, cells, settings={"model": "tiny", "seeds": [0]})


def test_figures() -> None:
    found = report()
    assert found.layers == [0, 2, 3]
    assert found.languages == ["en", "de", "zh"]
    assert found.unseen_languages == ["de", "zh"]
    assert found.accuracy[2]["zh"] == 0.5
    assert found.macro_f1[2]["zh"] == 0.25
    assert found.mean_accuracy(0) == pytest.approx(1.1 / 3)
    assert found.mean_accuracy(3, ["en", "de"]) == pytest.approx(0.65)
    for layer, languages in ((1, ["en"]), (0, ["fr"]), (0, [])):
        with pytest.raises(InputError, match="the layers"):
            found.mean_accuracy(layer, languages)


def test_the_best_layer_is_that_of_languages_not_trained_on() -> None:
    """Unless all were, or others are named; the lowest of equals."""
    assert report().best_layer() == 2
    assert report().best_layer(["en"]) == 3
    assert report(("en", "de", "zh")).best_layer() == 3
    assert report().best_layer(["de"]) == 2


def test_json_there_and_back(tmp_path: Path) -> None:
    found = report()
    text = found.to_json(tmp_path / "r.json")
    assert json.loads(text)["best_layer"] == 2
    for read in (
        ProbeReport.from_json(tmp_path / "r.json"),
        ProbeReport.from_json(text),
        ProbeReport.from_dict(found.to_dict()),
    ):
        assert read.to_dict() == found.to_dict()
        assert read.scores == found.scores
    (tmp_path / "bad.json").write_text("{", encoding="utf-8")
    for source in (tmp_path / "none.json", tmp_path / "bad.json", "{}", '{"format_version": 1}'):
        with pytest.raises(InputError, match="probe report"):
            ProbeReport.from_json(source)


@pytest.mark.parametrize(
    "change", [{"format_version": 2}, {"scores": {}}, {"scores": []}, {"scores": {"x": {}}}, {"train_languages": None}]
)
def test_values_that_are_no_report(change: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        ProbeReport.from_dict({**report().to_dict(), **change})


def test_rows_of_other_languages_are_refused() -> None:
    with pytest.raises(InputError, match="the same languages"):
        ProbeReport("upos", ["en"], {0: {"en": score(0.5)}, 1: {"de": score(0.5)}})


def test_the_table_marks_what_was_trained_on() -> None:
    text = str(report())
    assert "en *" in text
    assert "0.500 ±0.020" in text
    assert "mean of others" in text
    assert "mean of trained" not in text  # one language is its own mean
    assert "embeddings" in text
    assert repr(report()) == "ProbeReport(upos, 3 languages, best layer 2: 0.500)"


def test_transfer() -> None:
    """Means are over pairs of two different languages."""
    found = TransferReport({"en": report(), "de": report(("de",), lift=0.3)})
    assert found.accuracy(2)["de"] == {"en": 0.6, "de": pytest.approx(0.7), "zh": 0.5}
    assert found.mean_transfer(2) == pytest.approx((0.4 + 0.5 + 0.6 + 0.5) / 4)
    assert found.mean_transfer(3) == pytest.approx((0.4 + 0.4 + 0.9 + 0.4) / 4)
    assert found.best_layer() == 3
    assert TransferReport.from_dict(found.to_dict()).to_dict() == found.to_dict()
    with pytest.raises(InputError, match="not 1"):
        found.accuracy(1)
    with pytest.raises(InputError, match="transfer report"):
        TransferReport.from_dict({"reports": []})
    single = ProbeReport("upos", ["en"], {0: {"en": score(0.5)}})
    with pytest.raises(InputError, match="has others"):
        TransferReport({"en": report(), "de": single})
    with pytest.raises(InputError, match="no pair"):
        TransferReport({"en": single}).mean_transfer(0)


def test_the_transfer_table_is_that_of_the_best_layer() -> None:
    from rich.console import Console

    console = Console(width=120, color_system=None)
    with console.capture() as capture:
        console.print(TransferReport({"en": report(), "de": report(("de",))}))
    text = capture.get()
    assert "layer 3" in " ".join(text.split())
    assert "0.90" in text
