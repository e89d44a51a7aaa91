"""The sentinel as an argument and as fields of the configuration of CoreRegionSFTTrainer."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from datasets import Dataset
from transformers import PreTrainedTokenizerFast

from hf_langcore.errors import CorpusError, InputError
from hf_langcore.training import CoreFreezeCallback, CoreRegionSFTTrainer, LanguageSentinel

pytestmark = pytest.mark.filterwarnings("ignore:.*gradient_checkpointing. is deprecated:FutureWarning")

TEXTS = {"en": ["the cat sat on the mat and the dog sat on the cat"], "xx": ["how are you today how are you"]}


@pytest.fixture
def sft(
    sft_args: Callable[..., Any], tokenizer: PreTrainedTokenizerFast, task: Dataset, tiny: SimpleNamespace
) -> Callable[..., CoreRegionSFTTrainer]:
    def make(*, args: dict[str, Any] | None = None, **options: Any) -> CoreRegionSFTTrainer:
        options = {"model": tiny.llama(), "train_dataset": task, "processing_class": tokenizer, **options}
        return CoreRegionSFTTrainer(args=sft_args(**(args or {})), **options)

    return make


@pytest.fixture
def folder(tmp_path: Path) -> str:
    place = tmp_path / "held-out"
    place.mkdir()
    for language, texts in TEXTS.items():
        (place / f"{language}.txt").write_text("\n".join(texts), encoding="utf-8")
    return str(place)


def test_a_mapping_and_a_folder_in_the_configuration_watch_alike(
    sft: Callable[..., CoreRegionSFTTrainer], folder: str, tmp_path: Path
) -> None:
    seen = []
    for number, (options, named) in enumerate([({"sentinel": TEXTS}, {}), ({}, {"sentinel": folder})]):
        args = {**named, "sentinel_every": 1.0, "output_dir": str(tmp_path / str(number))}
        trainer = sft(args=args, **options)
        trainer.train()
        names = ("sentinel/ppl_en", "sentinel/ppl_xx", "sentinel/worst_ratio")
        seen.append([[one[name] for name in names] for one in trainer.state.log_history if names[0] in one])
        written = json.loads((tmp_path / str(number) / "sentinel.json").read_text(encoding="utf-8"))
        assert [one["step"] for one in written["measurements"]] == [0, 1, 2, 3]
    assert seen[0] == seen[1]
    assert len(seen[0]) == 4


def test_the_sentinel_comes_after_the_freeze_and_measures_its_core(
    sft: Callable[..., CoreRegionSFTTrainer], tiny: SimpleNamespace
) -> None:
    model = tiny.llama()
    trainer = sft(model=model, core_mask=tiny.core_of(model), sentinel=TEXTS)
    kinds = [type(one) for one in trainer.callback_handler.callbacks]
    assert kinds.index(LanguageSentinel) > kinds.index(CoreFreezeCallback)
    trainer.train()
    last = [one for one in trainer.state.log_history if "sentinel/core_moved" in one][-1]
    assert last["sentinel/core_moved"] == 0
    assert last["sentinel/ppl_en"] != trainer.state.log_history[0]["sentinel/ppl_en"]


def test_watching_changes_no_bit(sft: Callable[..., CoreRegionSFTTrainer], tiny: SimpleNamespace) -> None:
    alone, watched = tiny.llama(), tiny.llama()
    sft(model=alone).train()
    sft(model=watched, sentinel=TEXTS, args={"sentinel_every": 1}).train()
    assert all(torch.equal(p, q) for p, q in zip(alone.parameters(), watched.parameters(), strict=True))


def test_a_breach_acts_as_the_configuration_says(sft: Callable[..., CoreRegionSFTTrainer]) -> None:
    args = {"sentinel_every": 1, "sentinel_limit": 1.0001, "sentinel_on_breach": "stop", "learning_rate": 1.0}
    trainer = sft(sentinel=TEXTS, args={**args, "max_steps": 6})
    trainer.train()
    assert 1 <= trainer.state.global_step < 6


def test_general_data_counts_as_protection_of_a_small_set(
    sft: Callable[..., CoreRegionSFTTrainer], general: Dataset, caplog: pytest.LogCaptureFixture
) -> None:
    args = {"max_steps": -1, "num_train_epochs": 2}
    with caplog.at_level(logging.WARNING, logger="hf_langcore"):
        sft(sentinel=TEXTS, args=args, general_dataset=general).train()
        assert "nothing protects the core: in such runs" not in caplog.text
        sft(sentinel=TEXTS, args=args).train()
    assert "nothing protects the core: in such runs" in caplog.text


def test_wrong_sentinels_are_refused_before_training(sft: Callable[..., CoreRegionSFTTrainer], tmp_path: Path) -> None:
    with pytest.raises(InputError, match="sentinel must be"):
        sft(sentinel=3)
    with pytest.raises(CorpusError, match="no folder"):
        sft(args={"sentinel": str(tmp_path / "nowhere")})
    with pytest.raises(CorpusError, match="'xx'"):
        sft(sentinel={"en": TEXTS["en"], "xx": [""]})
    with pytest.raises(InputError, match="on_breach"):
        sft(sentinel=TEXTS, args={"sentinel_on_breach": "shout"})
    assert not (tmp_path / "out" / "sentinel.json").exists()
