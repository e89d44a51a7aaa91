"""Scores of finished languages on disk."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from hf_langcore.importance import progress_store
from hf_langcore.importance.progress_store import ProgressStore
from hf_langcore.masks import Provenance

BLOCKS = torch.arange(12).view(3, 4)
SCORES = {"a": torch.tensor([1.0, -0.0, float("inf")]), "b": torch.rand(2, 2)}


def store(folder: Path, **changes: Any) -> ProgressStore:
    digest = changes.pop("model_digest", "d")
    source = Provenance(**{"method": "taylor", "block_size": 4, "batch_size": 2, **changes})
    return ProgressStore(folder, source, model_digest=digest)


def test_round_trip_is_exact(tmp_path: Path) -> None:
    """What was saved comes back bit for bit."""
    store(tmp_path).save("en", BLOCKS, SCORES)
    loaded = store(tmp_path).load("en", BLOCKS)
    assert loaded is not None
    assert all(torch.equal(loaded[name].view(torch.int32), SCORES[name].view(torch.int32)) for name in SCORES)


def test_nothing_else_is_found(tmp_path: Path) -> None:
    """Another language, other tokens or other settings are unfinished."""
    store(tmp_path).save("en", BLOCKS, SCORES)
    assert store(tmp_path).load("de", BLOCKS) is None
    assert store(tmp_path).load("en", BLOCKS + 1) is None
    assert store(tmp_path, batch_size=3).load("en", BLOCKS) is None
    assert store(tmp_path, method="other").load("en", BLOCKS) is None
    assert store(tmp_path, model_digest="e").load("en", BLOCKS) is None


def test_damaged_file_counts_as_unfinished(tmp_path: Path) -> None:
    """A file that cannot be read is computed again, not trusted."""
    store(tmp_path).save("en", BLOCKS, SCORES)
    (path,) = tmp_path.iterdir()
    path.write_bytes(path.read_bytes()[:20])
    assert store(tmp_path).load("en", BLOCKS) is None


def test_killed_save_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A save that dies half-way leaves no file that could be mistaken for a finished language."""

    def dies(_scores: Any, path: Path) -> None:
        path.write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(progress_store, "save_file", dies)
    with pytest.raises(KeyboardInterrupt):
        store(tmp_path).save("en", BLOCKS, SCORES)
    assert list(tmp_path.iterdir()) == []
