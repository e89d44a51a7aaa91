"""`langcore compress`, `decompress` and `compression`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning", "ignore::DeprecationWarning")


def test_a_file_comes_back(langcore: Any, model_folder: str, tmp_path: Path) -> None:
    """And nothing is overwritten unasked."""
    data = "The teacher saw two cats. \u732b\n".encode() + b"\xff\x00"
    (tmp_path / "in").write_bytes(data)
    outcome = langcore("compress", model_folder, "in", "-o", "packed", "--json", "-q")
    assert outcome.code == 0, outcome.err
    assert json.loads(outcome.out) == {
        "output": "packed",
        "original": len(data),
        "compressed": (tmp_path / "packed").stat().st_size,
    }
    outcome = langcore("decompress", model_folder, "packed", "-o", "out", "-q")
    assert outcome.code == 0, outcome.err
    assert (tmp_path / "out").read_bytes() == data
    outcome = langcore("decompress", model_folder, "packed", "-o", "in", "-q")
    assert outcome.code == 1
    assert "--overwrite" in outcome.err
    outcome = langcore("decompress", model_folder, "in", "-o", "new", "-q")
    assert outcome.code == 1
    assert "was not compressed by hf_langcore" in outcome.err
    assert not (tmp_path / "new").exists()


def test_bits_per_byte_are_printed(langcore: Any, model_folder: str) -> None:
    outcome = langcore(
        "compression", model_folder, "--languages", "en,zh", "--max-bytes", 80, "-q", "--json", "-o", "a.md"
    )
    assert outcome.code == 0, outcome.err
    scores = json.loads(outcome.out)["conditions"]["model"]
    assert set(scores) == {"en", "zh"}
    assert scores["en"]["ratio"] == pytest.approx(8 / scores["en"]["bits_per_byte"])
    assert "bits per byte" in Path("a.md").read_text(encoding="utf-8")
