"""The demo, on a very small scale."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from hf_langcore.errors import ArtifactExistsError
from hf_langcore.masks import CoreMask
from hf_langcore.recipes import demo as demo_module
from hf_langcore.recipes.demo import DemoSize, run_demo
from hf_langcore.recipes.pretraining import TinyModel

SMALL = DemoSize(
    model=TinyModel(vocab_size=600, hidden_size=32, intermediate_size=64, layers=2, heads=2, steps=6, batch_size=4),
    train_sentences=120,
    tokens=64,
    importance_tokens=128,
    candidates=3,
    task_rows=32,
    epochs=1,
)

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning", "ignore::DeprecationWarning")


def test_the_whole_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Model cached, mask and results written, the frozen core unchanged, the model restored for each run."""
    monkeypatch.setenv("HF_LANGCORE_CACHE", str(tmp_path / "cache"))
    told: list[Any] = []
    out = tmp_path / "out"
    result = run_demo(out, size=SMALL, tell=told.append, progress=False)

    assert CoreMask.from_pretrained(out / "core-mask") == result.core_mask
    values = json.loads((out / "results.json").read_text(encoding="utf-8"))
    assert set(values["regions"]["conditions"]) == {"base", "top 3 %", "bottom 3 %", "random 3 %"}
    assert "# After fine-tuning" in (out / "tables.md").read_text(encoding="utf-8")
    free, frozen, mixed = result.runs
    assert free.core_changed > 0.9 * free.core_size
    assert (frozen.core_changed, mixed.core_changed) == (0, 0)
    assert frozen.complement_changed > 0
    assert result.retention["base"].nll == result.regions["base"].nll
    assert len(told) > 5

    monkeypatch.setattr(demo_module, "pretrain", lambda *_args, **_options: pytest.fail("the cached model is taken"))
    with pytest.raises(ArtifactExistsError, match="not empty"):
        run_demo(out, size=SMALL, tell=told.append, progress=False)
    again = run_demo(out, size=SMALL, overwrite=True, tell=told.append, progress=False)
    assert again.regions.conditions == result.regions.conditions
