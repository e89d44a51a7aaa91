"""The trainer's model writes general data before it is trained."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from datasets import Dataset
from transformers import PreTrainedTokenizerFast

from hf_langcore.errors import CorpusError
from hf_langcore.training.general import general_rows
from hf_langcore.training.mixing import MixingSFTTrainer
from hf_langcore.training.replaying import replayed_rows

# TRL and PEFT still use the old name.
pytestmark = pytest.mark.filterwarnings("ignore:.*gradient_checkpointing. is deprecated:FutureWarning")


@pytest.fixture
def asked(sft_args: Callable[..., Any], tmp_path: Path) -> Callable[..., Any]:
    """A configuration that asks for self-replay."""
    (tmp_path / "texts").mkdir()
    for language in ("en", "de"):
        (tmp_path / f"texts/{language}.txt").write_text("the cat sat on the mat\na dog\n")
    texts = str(tmp_path / "texts")

    def make(**changes: Any) -> Any:
        return sft_args(**{"self_replay_rows": 6, "self_replay_texts": texts, "self_replay_tokens": 8, **changes})

    return make


def test_the_model_writes_once(
    asked: Callable[..., Any], tiny: SimpleNamespace, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    """A second run, of a model that is named, reads what the first has kept."""
    first = replayed_rows(tiny.llama(), tokenizer, asked())["self-replay"]
    assert first.column_names == ["text"]
    assert len(first) == 6
    model = tiny.llama()
    model.save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    kept = sorted((tmp_path / "out/self_replay").rglob("*.json"))
    before = [path.stat().st_mtime_ns for path in kept]
    again = replayed_rows(str(tmp_path / "model"), None, asked())["self-replay"]
    assert again.to_list() == first.to_list()
    assert kept
    assert [path.stat().st_mtime_ns for path in kept] == before
    assert sorted((tmp_path / "out/self_replay").rglob("*.json")) == kept


def test_nothing_is_written_unless_it_is_asked_for(
    asked: Callable[..., Any], tiny: SimpleNamespace, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    """Nor where no general data is mixed in."""
    assert replayed_rows(tiny.llama(), tokenizer, asked(self_replay_rows=0)) == {}
    assert replayed_rows(tiny.llama(), tokenizer, asked(general_data_ratio=0.0)) == {}
    assert not (tmp_path / "out/self_replay").exists()
    with pytest.raises(CorpusError):
        replayed_rows(tiny.llama(), tokenizer, asked(self_replay_texts=str(tmp_path / "missing")))


def test_replayed_rows_are_mixed_in_as_a_source(
    asked: Callable[..., Any],
    tiny: SimpleNamespace,
    tokenizer: PreTrainedTokenizerFast,
    task: Dataset,
    general: Dataset,
) -> None:
    """Beside given data, with a weight of its own; two runs take the same rows."""
    model, args = tiny.llama(), asked(general_data_ratio=1.0, general_data_weights=[1.0, 3.0])

    class Trainer(MixingSFTTrainer):
        _general = None

    orders = []
    for _ in range(2):
        Trainer._general = general_rows({"wiki": general}, args, replayed=replayed_rows(model, tokenizer, args))
        trainer = Trainer(tiny.llama(), args, train_dataset=task, processing_class=tokenizer)
        report = trainer.mixture_report(0)
        assert {name: count.rows for name, count in report.sources.items()} == {"task": 8, "wiki": 2, "self-replay": 6}
        orders.append(trainer.train_dataset.select(trainer._mixture.order(0))["input_ids"][:])
    assert orders[0] == orders[1]
