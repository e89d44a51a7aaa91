"""What the trainer mixes, and that it reports exactly what its loop consumed."""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from datasets import Dataset
from transformers import PreTrainedTokenizerFast

from hf_langcore.errors import ConfigurationError, CorpusError, InputError
from hf_langcore.training import CoreRegionSFTTrainer
from hf_langcore.training.consumption import MixtureReport

# TRL and PEFT still use the old name; packing implies padding-free batches, which a CPU can train all the same.
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*gradient_checkpointing. is deprecated:FutureWarning"),
    pytest.mark.filterwarnings("ignore:.*[Pp]adding-free.*"),
]

SPEAKERS = {"question": "task", "the": "wiki", "user": "chat"}
EPOCHS = {"max_steps": -1, "num_train_epochs": 3}


@pytest.fixture
def chat() -> Dataset:
    """Conversations; each says which row it is."""
    return Dataset.from_list(
        [
            {
                "messages": [
                    {"role": "user", "content": f"hi {i}"},
                    {"role": "assistant", "content": "you " * (i % 4 + 1)},
                ]
            }
            for i in range(40)
        ]
    )


@pytest.fixture
def sft(
    sft_args: Callable[..., Any],
    tokenizer: PreTrainedTokenizerFast,
    task: Dataset,
    general: Dataset,
    chat: Dataset,
    tiny: SimpleNamespace,
) -> Callable[..., CoreRegionSFTTrainer]:
    """A trainer with two sources of general data, three to one; `args` go into the configuration."""

    def make(*, args: dict[str, Any] | None = None, **options: Any) -> CoreRegionSFTTrainer:
        values = {"general_data_ratio": 2.0, "general_data_weights": [3, 1], **(args or {})}
        given = {
            "model": tiny.llama(),
            "train_dataset": task,
            "general_dataset": {"wiki": general, "chat": chat},
            "processing_class": tokenizer,
            **options,
        }
        return CoreRegionSFTTrainer(args=sft_args(**values), **given)

    return make


class Witness:
    """Sees every batch as the model gets it, and counts rows, tokens and trained tokens for itself.

    Rows are told apart by their first word, also within packed blocks: every row ends with EOS.
    """

    def __init__(self, trainer: CoreRegionSFTTrainer) -> None:
        self.counts: dict[str, Counter[str]] = {name: Counter() for name in SPEAKERS.values()}
        self.total: Counter[str] = Counter()
        self._trainer = trainer
        self._cut = trainer.args.packing_strategy == "wrapped"  # rows are cut anywhere and cannot be told apart
        step = trainer.compute_loss

        def watch(model: Any, inputs: dict[str, torch.Tensor], *rest: Any, **more: Any) -> Any:
            if model.training:
                self._see(inputs)
            return step(model, inputs, *rest, **more)

        trainer.compute_loss = watch

    def _see(self, inputs: dict[str, torch.Tensor]) -> None:
        present = inputs.get("attention_mask", torch.ones_like(inputs["input_ids"]))
        for ids, labels, here in zip(inputs["input_ids"], inputs["labels"], present, strict=True):
            trained = torch.cat([torch.zeros(1, dtype=torch.bool), labels[1:] != -100])
            self.total += Counter(tokens=int(here.sum()), trained_tokens=int(trained.sum()))
            for row, kept in [] if self._cut else self._rows(ids[here == 1].tolist(), trained[here == 1].tolist()):
                words = self._trainer.processing_class.decode(row, skip_special_tokens=True).split()
                source = SPEAKERS[words[0].rstrip(":")]
                self.counts[source] += Counter(rows=1, tokens=len(row), trained_tokens=sum(kept))

    def _rows(self, ids: list[int], trained: list[bool]) -> Iterator[tuple[list[int], list[bool]]]:
        """The rows of a block: each begins with BOS, except conversations, which begin with their user."""
        user = self._trainer.processing_class("user:")["input_ids"][1:]
        starts = [place for place, token in enumerate(ids) if token == 0 or ids[place : place + len(user)] == user]
        for start, end in zip(starts, [*starts[1:], len(ids)], strict=True):
            yield ids[start:end], trained[start:end]


def summed(reports: tuple[MixtureReport, ...]) -> dict[str, Counter[str]]:
    """Reports in the witness's form."""
    counts: dict[str, Counter[str]] = {name: Counter() for name in SPEAKERS.values()}
    for report in reports:
        for name, count in report.sources.items():
            counts[name] += Counter(rows=count.rows, tokens=count.tokens, trained_tokens=count.trained_tokens)
    return counts


STREAM = {"max_steps": 9}
RUNS = {
    "in memory": EPOCHS,
    "accumulated": {**EPOCHS, "gradient_accumulation_steps": 2},
    "workers": {**EPOCHS, "num_train_epochs": 1, "dataloader_num_workers": 1},
    "cut short": {"max_steps": 7},
    "bfd": {**EPOCHS, "packing": True},
    "bfd, cut short": {"max_steps": 5, "packing": True, "per_device_train_batch_size": 2},
    "wrapped": {**EPOCHS, "packing": True, "packing_strategy": "wrapped", "per_device_train_batch_size": 1},
    "stream": STREAM,
    "packed stream": {**STREAM, "packing": True, "per_device_train_batch_size": 1},
}


@pytest.mark.parametrize("run", RUNS)
def test_what_is_reported_is_what_the_loop_consumed(
    sft: Callable[..., CoreRegionSFTTrainer], task: Dataset, tmp_path: Path, run: str
) -> None:
    """Rows, tokens and trained tokens of each source, as a witness at the model's door counts them."""
    rows = task.to_iterable_dataset() if "stream" in run else task
    trainer = sft(args={"max_length": 48, **RUNS[run]}, train_dataset=rows)
    witness = Witness(trainer)
    metrics = trainer.train().metrics
    reported = summed(trainer.consumed_mixture())
    total = sum(reported.values(), Counter())
    assert {key: total[key] for key in witness.total} == dict(witness.total)
    if run != "wrapped":
        assert reported == witness.counts
    assert reported["task"]["rows"] > 0
    record = json.loads((tmp_path / "out/mixture.json").read_text())
    assert record["total"] == {name: dict(count) for name, count in reported.items()}
    assert metrics["mixture/chat/rows"] == reported["chat"]["rows"]
    assert trainer.state.log_history[-1]["mixture/wiki/trained_tokens"] == reported["wiki"]["trained_tokens"]


@pytest.mark.parametrize("packing", [None, "bfd", "bfd_split", "wrapped"])
def test_every_epoch_has_the_exact_shares_and_another_sample(
    sft: Callable[..., CoreRegionSFTTrainer], packing: str | None
) -> None:
    """Twice eight general rows, three to one: twelve and four, in every epoch, packed or not."""
    more = {} if packing is None else {"packing": True, "packing_strategy": packing, "max_length": 40}
    trainer = sft(args=EPOCHS | more)
    planned = [trainer.mixture_report(epoch) for epoch in range(3)]
    shares = [{name: count.rows for name, count in report.sources.items()} for report in planned]
    assert shares == [{"task": 8, "wiki": 12, "chat": 4}] * 3
    trainer.train()
    assert list(trainer.consumed_mixture()) == planned
    texts = [epoch_text(trainer, epoch) for epoch in range(3)]
    numbers = [frozenset(word for word in text.split() if word.isdecimal()) for text in texts]
    assert len(set(numbers)) == 3
    if packing != "wrapped":  # which cuts words too
        assert all(text.count("question") == 8 for text in texts)


def epoch_text(trainer: CoreRegionSFTTrainer, epoch: int) -> str:
    mixture = trainer._mixture
    ids = mixture.rows.select(mixture.order(epoch))["input_ids"]
    return " ".join(trainer.processing_class.batch_decode(list(ids), skip_special_tokens=True))


def test_packed_epochs_have_as_many_blocks_and_no_token_is_lost(sft: Callable[..., CoreRegionSFTTrainer]) -> None:
    """Blocks of shorter epochs are divided, never dropped."""
    trainer = sft(args={**EPOCHS, "num_train_epochs": 6, "packing": True, "max_length": 40})
    mixture = trainer._mixture
    assert {len(mixture.order(epoch)) for epoch in range(6)} == {len(mixture.rows) // 6}
    for epoch in range(6):
        plain = mixture._mixture.report(epoch)
        assert {name: (count.rows, count.tokens) for name, count in mixture.report(epoch).sources.items()} == {
            name: (count.rows, count.tokens) for name, count in plain.sources.items()
        }


def test_each_source_keeps_its_loss(sft: Callable[..., CoreRegionSFTTrainer]) -> None:
    """Of task prompts nothing is trained, of text and conversations everything, side by side in one mixture."""
    rows = sft().train_dataset
    for row in rows:
        whole = row["labels"] == row["input_ids"]
        assert whole == (row["source"] != "task")
    assert Counter(rows["source"]) == {"task": 8, "wiki": 100, "chat": 40}


def test_counted_by_tokens_each_source_reaches_its_share(sft: Callable[..., CoreRegionSFTTrainer]) -> None:
    """Rows of a source come until its tokens reach its part of the ratio, and not one row longer."""
    trainer = sft(args={"general_data_by": "tokens", "general_data_ratio": 4.0})
    report = trainer.mixture_report(0)
    longest = max(len(ids) for ids in trainer.train_dataset["input_ids"])
    for name, part in (("wiki", 0.75), ("chat", 0.25)):
        assert 0 <= report.sources[name].tokens - part * 4 * report.task_tokens < longest


def test_resuming_goes_on_with_the_counts_of_the_checkpoint(
    sft: Callable[..., CoreRegionSFTTrainer], tmp_path: Path
) -> None:
    """A run that was cut in its second epoch reports the same as one that was not."""
    args = {"max_steps": -1, "num_train_epochs": 2, "save_strategy": "steps", "save_steps": 4}
    whole = sft(args=args)
    whole.train()
    resumed = sft(args=args)
    witness = Witness(resumed)
    resumed.train(resume_from_checkpoint=str(tmp_path / "out/checkpoint-8"))
    assert resumed.consumed_mixture() == whole.consumed_mixture()
    assert sum(count["rows"] for count in witness.counts.values()) == 48 - 8 * 4


def test_a_checkpoint_without_a_record_is_no_obstacle(
    sft: Callable[..., CoreRegionSFTTrainer], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The counts begin there, and a warning says so."""
    args = {"max_steps": 4, "save_strategy": "steps", "save_steps": 2}
    sft(args=args).train()
    (tmp_path / "out/checkpoint-2/mixture.json").write_text("{")
    trainer = sft(args=args)
    with caplog.at_level(logging.WARNING):
        trainer.train(resume_from_checkpoint=str(tmp_path / "out/checkpoint-2"))
    assert "not in the report" in caplog.text
    assert sum(count.rows for count in trainer.consumed_mixture()[0].sources.values()) == 8


def test_streams_of_two_sources_keep_the_shares(
    sft: Callable[..., CoreRegionSFTTrainer], task: Dataset, general: Dataset, chat: Dataset
) -> None:
    """Also where only one source streams, and packed."""
    trainer = sft(
        args={"max_steps": 6},
        general_dataset={"wiki": general.to_iterable_dataset(), "chat": chat},
        train_dataset=task,
    )
    assert trainer.mixture_report() is None
    trainer.train()
    report = trainer.mixture_report(0)
    assert {name: count.rows for name, count in report.sources.items()} == {"task": 8, "wiki": 12, "chat": 4}


def test_without_general_data_nothing_is_counted_or_written(
    sft: Callable[..., CoreRegionSFTTrainer], tmp_path: Path
) -> None:
    """The trainer is TRL's then."""
    trainer = sft(args={"general_data_weights": None}, general_dataset=None)
    trainer.train()
    assert trainer.consumed_mixture() == ()
    assert not (tmp_path / "out/mixture.json").exists()


@pytest.mark.parametrize(
    ("args", "options", "error", "message"),
    [
        ({"general_data_weights": [1.0]}, {}, ConfigurationError, "1 weights for 2 sources"),
        ({"general_data_weights": [1.0, -1.0]}, {}, InputError, "weight of the general source 'chat'"),
        ({"packing": True, "max_length": None}, {}, ConfigurationError, "needs max_length"),
        (
            {"general_data_weights": None},
            {"general_dataset": {"empty": Dataset.from_list([])}},
            CorpusError,
            r"general_dataset \(empty\) has no rows",
        ),
    ],
    ids=["fewer weights", "negative weight", "no block size", "empty source"],
)
def test_what_cannot_be_mixed_is_named(
    sft: Callable[..., CoreRegionSFTTrainer],
    args: dict[str, Any],
    options: dict[str, Any],
    error: type[Exception],
    message: str,
) -> None:
    """Before training starts."""
    with pytest.raises(error, match=message):
        sft(args=args, **options)
