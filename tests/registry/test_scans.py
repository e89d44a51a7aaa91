"""A scan's findings as one's own coordinates."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from hf_langcore import registry
from hf_langcore.errors import InputError
from hf_langcore.scanning.result import CriticalDimension, CriticalScan
from hf_langcore.scanning.statistics import Interval

DIGEST = "ab" * 32
DOWN = "model.layers.1.mlp.down_proj.weight"


def found(name: str, axis: int | None, index: Any, kind: str, **changes: Any) -> CriticalDimension:
    usual: dict[str, Any] = {"factor": 0.0, "perplexity": 60.0, "base_perplexity": 6.0, "layer": 1}
    usual |= {"interval": Interval(8.0, 12.0, 0.95), "control_ratio": 1.1}
    return CriticalDimension(parameter=name, axis=axis, index=index, kind=kind, **{**usual, **changes})


def scan_of(*findings: CriticalDimension) -> CriticalScan:
    settings = {"text_sha256": DIGEST}
    return CriticalScan(
        critical=findings, measured=findings, controls=(), joint=None, base_perplexity=6.0, settings=settings
    )


def test_each_kind_becomes_an_entry(llama: Any) -> None:
    """With model, revision, digest of the text, interval and controls; layers become templates."""
    llama.config._name_or_path, llama.config._commit_hash = "me/tiny", "c" * 40
    scan = scan_of(
        found("model.layers.1.input_layernorm.weight", 0, 5, "norm", factor=10.0),
        found(DOWN, 0, 5, "row"),
        found(DOWN, 1, 7, "column"),
        found(DOWN, None, (5, 7), "weight", perplexity=math.inf, interval=Interval(math.inf, math.inf, 0.95)),
        found("model.norm.weight", 0, 9, "norm", layer=None),
    )
    written = registry.register_scan(scan, llama)
    assert written == registry.lookup("me/tiny")
    assert [(one.kind, one.axis, one.index, one.operation, one.value) for one in written] == [
        ("norm_weight", 0, 5, "scale", 10.0), ("dimension", 0, 5, "zero", None), ("dimension", 1, 7, "zero", None),
        ("super_weight", None, (5, 7), "zero", None), ("norm_weight", 0, 9, "zero", None),
    ]  # fmt: skip
    assert [one.tensor for one in written[3:]] == ["model.layers.{layer}.mlp.down_proj.weight", "model.norm.weight"]
    assert [one.layer for one in written] == [1, 1, 1, 1, None]
    assert {one.revision for one in written} == {"c" * 40}
    first, last = written[0], written[3]
    assert first.effect is not None
    assert (first.effect.base, first.effect.after, first.effect.ratio) == (6.0, 60.0, 10.0)
    assert first.provenance is not None
    assert first.provenance["text_sha256"] == DIGEST
    assert first.provenance["interval"] == [8.0, 12.0]
    assert first.provenance["control_ratio"] == 1.1
    assert last.effect is not None
    assert last.effect.after == math.inf


def test_weak_findings_are_left_out(llama: Any, own_file: Path) -> None:
    """The lower end of the interval counts; nothing found writes nothing."""
    weak = found(DOWN, 0, 5, "row", interval=Interval(1.5, 20.0, 0.95))
    bare = found(DOWN, 0, 6, "row", interval=None)
    assert registry.register_scan(scan_of(), llama, model_id="me/tiny") == []
    assert registry.register_scan(scan_of(weak), llama, model_id="me/tiny", minimum_ratio=2.0) == []
    assert not own_file.exists()
    (kept,) = registry.register_scan(scan_of(weak, bare), llama, model_id="me/tiny", minimum_ratio=2.0)
    assert kept.index == 6
    assert kept.provenance is not None
    assert "interval" not in kept.provenance or kept.provenance["interval"] is None


def test_models_of_a_folder_and_without_a_name(llama: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder is known by its whole path, so that another one of the same name is not meant."""
    finding = found(DOWN, 0, 5, "row")
    with pytest.raises(InputError, match="Pass model_id="):
        registry.register_scan(scan_of(finding), llama)
    (tmp_path / "gpt2").mkdir()
    monkeypatch.chdir(tmp_path)
    llama.config._name_or_path = "gpt2"
    (written,) = registry.register_scan(scan_of(finding), llama)
    assert written.model_id == str(tmp_path / "gpt2")
    assert written not in registry.lookup("gpt2")
    assert registry.lookup(str(tmp_path / "gpt2")) == [written]


def test_a_plain_list_will_do(llama: Any) -> None:
    """Anything with the fields of a finding; then no digest is known."""
    row = SimpleNamespace(
        parameter=DOWN, axis=0, index=5, kind="row", factor=0.0, perplexity=9.0, base_perplexity=3.0,
        perplexity_ratio=3.0, interval=None, control_ratio=None, layer=1,
    )  # fmt: skip
    (written,) = registry.register_scan([row], llama, model_id="me/tiny")
    assert written.effect is not None
    assert written.effect.data == "the text of the scan"
