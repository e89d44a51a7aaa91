"""Which dimensions the Space offers by name: of a scan, of the registry, and those full of core weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from explorer import DimensionEdit, Explorer
from suggestions import LIMIT, Suggestion, suggested

from hf_langcore import registry
from hf_langcore.errors import InputError
from hf_langcore.scanning.result import CriticalDimension, CriticalScan

NORM = "model.layers.0.input_layernorm.weight"
MATRIX = "model.layers.1.mlp.down_proj.weight"


@pytest.fixture(autouse=True)
def own_registry(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HF_LANGCORE_CACHE", str(tmp_path / "cache"))


def scan_of(tmp_path: Path, *critical: dict[str, Any]) -> str:
    path = tmp_path / "scan.json"
    path.write_text(json.dumps({"critical": critical}), encoding="utf-8")
    return str(path)


def found(kind: str, axis: int | None, index: Any, **other: Any) -> dict[str, Any]:
    name = NORM if kind == "norm" else MATRIX
    values = {"parameter": name, "axis": axis, "index": index, "kind": kind, "factor": 4.0, "perplexity_ratio": 12.5}
    return {**values, **other}


def test_without_a_scan_the_strongest_slices_of_the_core_are_offered(explorer: Explorer) -> None:
    offered = suggested("nobody/knows-this", explorer, None)
    strongest = explorer.core_mask.dimensions(limit=LIMIT)
    assert [(one.parameter, one.index) for one in offered] == [(one.parameter, one.index) for one in strongest]
    for one, dimension in zip(offered, strongest, strict=True):
        with DimensionEdit(one.parameter, one.index, one.axis, one.factor).open(
            explorer._model, explorer.core_mask
        ) as edit:
            assert edit.num_edited == dimension.size
    assert len({one.label for one in offered}) == len(offered)


def test_a_scan_comes_first(explorer: Explorer, tmp_path: Path) -> None:
    scan = scan_of(
        tmp_path,
        found("norm", 0, 3, perplexity_ratio="inf"),
        found("column", 1, 7),
        found("weight", None, [2, 40], factor=100.0),
        found("weight", None, [0, 2, 40]),
    )
    offered = suggested("nobody/knows-this", explorer, scan)
    assert offered[:3] == (
        Suggestion(f"{NORM} 3: perplexity x inf at factor 4", NORM, 3, None, 4.0),
        Suggestion(f"{MATRIX} 7: perplexity x 12.5 at factor 4", MATRIX, 7, 1, 4.0),
        Suggestion(f"{MATRIX} (2, 40): perplexity x 12.5 at factor 100", MATRIX, (2, 40), None, 10.0),
    )
    assert "core" in offered[3].label, "the weight of an expert has no place on the page"


def test_what_a_real_scan_writes_is_read(explorer: Explorer, tmp_path: Path) -> None:
    one = CriticalDimension(NORM, 0, 3, 10.0, 90.0, 9.0)
    scan = CriticalScan((one,), (one,), (), None, 9.0)
    scan.to_json(tmp_path / "scan.json")
    offered = suggested("nobody/knows-this", explorer, str(tmp_path / "scan.json"))
    assert offered[0] == Suggestion(f"{NORM} 3: perplexity x 10 at factor 10", NORM, 3, None, 10.0)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"critical": [{}]}', '{"critical": [3]}', '{"critical": 3}'])
def test_other_files_are_refused(explorer: Explorer, tmp_path: Path, text: str) -> None:
    (tmp_path / "scan.json").write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match="is no result of a scan"):
        suggested("nobody/knows-this", explorer, str(tmp_path / "scan.json"))
    with pytest.raises(InputError, match=r"missing\.json"):
        suggested("nobody/knows-this", explorer, str(tmp_path / "missing.json"))


def test_a_scan_of_another_model_is_refused(explorer: Explorer, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"'model\.layers\.77\.norm', which this model has not"):
        suggested(
            "nobody/knows-this", explorer, scan_of(tmp_path, found("norm", 0, 3, parameter="model.layers.77.norm"))
        )


def test_what_the_registry_knows_is_offered_with_its_judgement(
    explorer: Explorer, monkeypatch: pytest.MonkeyPatch
) -> None:
    judged = {"expected": "explodes", "source": "A paper", "source_kind": "paper", "status_reason": "-"}
    entries = [
        registry.Entry(id=str(number), model_id="a/b", status="not_reproduced", layer=1, **judged, **values)
        for number, values in enumerate(
            [
                {
                    "kind": "super_weight",
                    "tensor": "model.layers.{layer}.mlp.down_proj.weight",
                    "index": (2, 40),
                    "operation": "zero",
                },
                {"kind": "norm_weight", "tensor": NORM, "axis": 0, "index": 3, "operation": "scale", "value": 50.0},
                {"kind": "norm_weight", "tensor": NORM, "axis": 0, "index": 4, "operation": "set", "value": 1.0},
                {"kind": "dimension", "tensor": "absent", "axis": 0, "index": 4, "operation": "zero"},
                {"kind": "massive_activation", "tensor": NORM, "index": 4, "operation": "zero"},
            ]
        )
    ]
    monkeypatch.setattr(registry, "lookup", lambda name: entries if name == "a/b" else [])
    offered = [one for one in suggested("a/b", explorer, None) if "A paper" in one.label]
    assert offered == [
        Suggestion(f"{MATRIX}[2, 40], not reproduced (A paper)", MATRIX, (2, 40), None, 0.0),
        Suggestion(f"{NORM}[3], not reproduced (A paper)", NORM, 3, None, 10.0),
    ]
    assert offered[0].written_index == "2, 40"
    assert offered[1].written_index == "3"
