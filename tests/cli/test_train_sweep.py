"""`langcore sft --sweep`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from hf_langcore import CoreMask

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning", "ignore::DeprecationWarning")


def test_table_figure_and_record(langcore: Any, model_folder: str, texts_folder: str, tmp_path: Path) -> None:
    """JSON alone on standard output; run again it trains nothing, and says so by giving the same."""
    langcore("find", model_folder, "-o", "core", "--method", "magnitude", "--fraction", 0.1, "-q")
    rows = [{"prompt": f"{i} + 1 =", "completion": f" {i + 1}"} for i in range(12)]
    (tmp_path / "task.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    texts = [{"text": f"The teacher saw {i} cats."} for i in range(30)]
    (tmp_path / "general.jsonl").write_text("\n".join(map(json.dumps, texts)), encoding="utf-8")
    options = ("--dataset", "task.jsonl", "--general", "general.jsonl", "--core-mask", "core", "--adapter-rank", 2)
    sweep = ("--sweep", "0,1", "--data", texts_folder, "--max-tokens", 60, "--max-steps", 1, "-o", "out", "-q")
    outcome = langcore("sft", model_folder, *options, *sweep, "--json")
    assert outcome.code == 0, outcome.err
    facts = json.loads(outcome.out)
    assert [point["ratio"] for point in facts["points"]] == [0.0, 1.0]
    assert set(facts["base"]["perplexity"]) == {"en", "es", "zh"}
    assert facts["base"]["task_loss"] != facts["points"][0]["task_loss"]
    assert (tmp_path / "out" / "sweep.png").is_file() == (facts["figure"] is not None)
    assert CoreMask.from_pretrained(tmp_path / "core").count() > 0
    again = langcore("sft", model_folder, *options, *sweep)
    assert again.code == 0, again.err
    assert "train_loss" not in again.out
    assert f"{facts['points'][1]['task_loss']:.3f}" in again.out
    other = langcore("sft", model_folder, *options, *sweep, "--learning-rate", 0.5)
    assert other.code == 1
    assert "learning_rate" in other.err
