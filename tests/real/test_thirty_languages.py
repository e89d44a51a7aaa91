"""The published finding on a real model and real text: a smaller form of docs/results.md."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from hf_langcore import CoreMask, CoreRegionConfig, compute_core_mask
from hf_langcore.data import corpora_from_folder
from hf_langcore.recipes.language_table import PAPER_LANGUAGES, language_table

pytestmark = pytest.mark.real

BLOCK = 128


@pytest.fixture(scope="module")
def real(real_model_path: Path) -> Any:
    model = AutoModelForCausalLM.from_pretrained(real_model_path, dtype=torch.float32)
    return model, AutoTokenizer.from_pretrained(real_model_path)


def test_the_core_hurts_every_language(real: Any, real_data_path: Path) -> None:
    """Zeroing the top 3 % raises the loss more than five times as much as random weights, in every language."""
    model, tokenizer = real
    (table,) = language_table(
        model,
        tokenizer,
        corpora_from_folder(real_data_path / "train", PAPER_LANGUAGES),
        corpora_from_folder(real_data_path / "test"),
        fractions=(0.03,),
        random_seeds=1,
        block_size=BLOCK,
        core_tokens=32 * BLOCK,
        test_tokens=1024,
        progress=False,
    )
    assert len(table.harm) == 30
    assert all(ratio > 5 for ratio in table.harm.values()), table.harm
    deltas = table.report.deltas()
    for language in table.report.languages:
        assert deltas["top"][language] > 0.5, "perplexity grows by more than half in each language"
        assert deltas["bottom"][language] < deltas["top"][language] / 5


def test_python_command_line_and_peft_agree(
    real: Any, real_model_path: Path, real_data_path: Path, tmp_path: Path
) -> None:
    """The same job three ways gives the same mask bit for bit."""
    from peft import get_peft_model

    model = AutoModelForCausalLM.from_pretrained(real_model_path)
    options: dict[str, Any] = {"fraction": 0.03, "block_size": BLOCK, "max_tokens": 8 * BLOCK, "progress": False}
    corpora = corpora_from_folder(real_data_path / "train", ["ar", "zh"])
    # One thread here and there: sums of another order differ in the last bit.
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        mask = compute_core_mask(model, real[1], corpora, **options)
        wrapped = get_peft_model(model, CoreRegionConfig(core_mask=mask, r=4, task_type="CAUSAL_LM"))
        assert wrapped.core_mask == mask
        assert compute_core_mask(wrapped, real[1], corpora, **options) == mask
    finally:
        torch.set_num_threads(threads)

    command = [sys.executable, "-m", "hf_langcore", "find", str(real_model_path), "-o", str(tmp_path / "core"), "-q"]
    command += ["--data", str(real_data_path / "train"), "--languages", "ar,zh", "--fraction", "0.03"]
    command += ["--block-size", str(BLOCK), "--max-tokens", str(8 * BLOCK), "--device", "cpu"]
    subprocess.run(command, check=True, env={**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"})
    assert CoreMask.from_pretrained(tmp_path / "core") == mask
