"""`langcore scan`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

OPTIONS = ("--max-tokens", 100, "--candidates", 20, "-q")


def test_scan_measures_and_writes(langcore: Any, model_folder: str, texts_folder: str, tmp_path: Path) -> None:
    """A table with time and passes, JSON on standard output and in a file."""
    outcome = langcore("scan", model_folder, "--data", texts_folder, *OPTIONS)
    assert outcome.code == 0, outcome.err
    assert "passes over a" in outcome.out
    asked = ("--json", "-o", "scan.json", "--kind", "norm, weight", "--source", "weights", "--factor", "0,3")
    outcome = langcore("scan", model_folder, "--data", texts_folder, *asked, *OPTIONS)
    values = json.loads(outcome.out)
    assert {one["kind"] for one in values["measured"]} == {"norm", "weight"}
    assert {one["factor"] for one in values["measured"] if one["kind"] == "norm"} <= {0.0, 3.0}
    assert values["settings"]["sources"] == ["weights"]
    written = json.loads((tmp_path / "scan.json").read_text(encoding="utf-8"))
    assert written["measured"] == values["measured"]


def test_scan_looks_at_a_mask(langcore: Any, model_folder: str, texts_folder: str) -> None:
    """The mask is loaded and named in the settings."""
    assert langcore("find", model_folder, "-o", "core", "--method", "magnitude", "--fraction", 0.1, "-q").code == 0
    options = ("--data", texts_folder, "--core-mask", "core", "--json", *OPTIONS)
    values = json.loads(langcore("scan", model_folder, *options).out)
    assert values["settings"]["core_mask"] is not None
    assert any("mask" in one["sources"] for one in values["measured"])


@pytest.mark.parametrize(
    ("option", "value"), [("--kind", "neuron"), ("--source", "hope"), ("--candidates", "many"), ("--candidates", "0")]
)
def test_wrong_usage(langcore: Any, model_folder: str, option: str, value: str) -> None:
    """Exit code 2, and the option is named."""
    outcome = langcore("scan", model_folder, option, value)
    assert outcome.code == 2
    assert option in outcome.err


def test_register_hands_the_scan_over(
    langcore: Any, model_folder: str, texts_folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The registry gets the scan and the model."""
    given: list[Any] = []
    registry = ModuleType("hf_langcore.registry")
    registry.register_scan = lambda scan, model: given.append((scan, model)) or []  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "hf_langcore.registry", registry)
    ran = langcore("scan", model_folder, "--data", texts_folder, "--register", *OPTIONS)
    assert ran.code == 0
    assert "registered 0 coordinates" in ran.err
    assert len(given[0][0].measured) == 20
    assert type(given[0][1]).__name__ == "LlamaForCausalLM"
