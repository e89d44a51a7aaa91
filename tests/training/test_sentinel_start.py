"""Where a watched run begins; that resuming takes it up again is shown with the Trainer in `test_sentinel.py`."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from hf_langcore.errors import ConfigurationError
from hf_langcore.training.sentinel_start import START_FILE, read_start, write_start


def test_the_start_is_read_back_in_its_dtypes(tmp_path: Path) -> None:
    """Also where nothing is watched."""
    values = {"core|a": torch.tensor([1.5, -0.0], dtype=torch.bfloat16), "floor|b|0|1": torch.tensor(0.1)}
    write_start(tmp_path, values)
    found = read_start(tmp_path)
    assert {name: value.dtype for name, value in found.items()} == {
        name: value.dtype for name, value in values.items()
    }
    assert all(torch.equal(found[name], values[name]) for name in values)
    write_start(tmp_path, {})
    assert read_start(tmp_path) == {}


@pytest.mark.parametrize("content", [None, b"nothing"])
def test_a_missing_or_damaged_start_is_refused(tmp_path: Path, content: bytes | None) -> None:
    """With its name and what to do."""
    if content is not None:
        (tmp_path / START_FILE).write_bytes(content)
    with pytest.raises(ConfigurationError, match=rf"{START_FILE} is missing or damaged.*Copy the sentinel's files"):
        read_start(tmp_path)
