from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from hf_langcore.errors import ArtifactExistsError, ConfigurationError, CoreMaskMismatchError, InputError
from hf_langcore.exchange import export_core_mask, exporting, import_core_mask
from hf_langcore.masks import CoreMask

MASK = CoreMask({"a.weight": torch.eye(2) > 0, "b.weight": torch.zeros(2, 2) > 0})
OPTIONS: dict[str, dict[str, Any]] = {
    "tensors": {},
    "quantizer": {"threshold": 0.4},
    "mergekit": {"core_from": "base", "complement_from": "tuned"},
}


def test_boolean_tensors_come_back(model: Any, make_mask: Any, tmp_path: Path) -> None:
    mask = make_mask(model)
    export_core_mask(mask, tmp_path / "core.safetensors", format="tensors")
    assert import_core_mask(tmp_path / "core.safetensors", model).digest() == mask.digest()


@pytest.mark.parametrize("format_", OPTIONS)
def test_nothing_is_overwritten(format_: str, tmp_path: Path) -> None:
    path = tmp_path / "new" / "file"
    export_core_mask(MASK, path, format=format_, **OPTIONS[format_])
    first = path.read_bytes()
    path.write_text("precious")
    with pytest.raises(ArtifactExistsError, match="overwrite=True"):
        export_core_mask(MASK, path, format=format_, **OPTIONS[format_])
    assert path.read_text() == "precious"
    export_core_mask(MASK, path, format=format_, overwrite=True, **OPTIONS[format_])
    assert path.read_bytes() == first
    with pytest.raises(ArtifactExistsError, match="it is a folder"):
        export_core_mask(MASK, tmp_path, format=format_, overwrite=True, **OPTIONS[format_])
    assert [one.name for one in path.parent.iterdir()] == ["file"]


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: CoreMask, path: Path) -> None:
        path.write_text("half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(exporting, "write_boolean_file", fail)
    (tmp_path / "f").write_text("old")
    with pytest.raises(OSError, match="the disk is full"):
        export_core_mask(MASK, tmp_path / "f", format="tensors", overwrite=True)
    assert [(one.name, one.read_text()) for one in tmp_path.iterdir()] == [("f", "old")]


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "real").write_text("old")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    export_core_mask(MASK, tmp_path / "link", format="tensors", overwrite=True)
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").read_bytes() != b"old"


@pytest.mark.parametrize(
    ("options", "error", "reason"),
    [
        ({"format": "gguf"}, InputError, "format must be one of"),
        ({"format": "tensors", "threshold": 0.5}, ConfigurationError, "takes no options, got threshold"),
        ({"format": "quantizer", "core_from": "x"}, ConfigurationError, "takes model, threshold, got core_from"),
        ({"format": "mergekit", "model": torch.nn.Linear(1, 1)}, ConfigurationError, "got model"),
        ({"format": "mergekit", "core_from": "x"}, ConfigurationError, "complement_from is None"),
        ({"format": "mergekit", "complement_from": "x"}, ConfigurationError, "core_from is None"),
        ({"format": "quantizer", "threshold": 0}, InputError, "larger than 0"),
        ({"format": "mergekit", "core_from": "x", "complement_from": "y", "threshold": 2}, InputError, "at most 1"),
        ({"format": "quantizer", "model": torch.nn.Linear(1, 1)}, CoreMaskMismatchError, "another architecture"),
    ],
)
def test_wrong_arguments(options: dict[str, Any], error: type[Exception], reason: str, tmp_path: Path) -> None:
    with pytest.raises(error, match=reason):
        export_core_mask(MASK, tmp_path / "f", **options)
    assert not list(tmp_path.iterdir())
