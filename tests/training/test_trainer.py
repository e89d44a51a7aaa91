"""CoreRegionSFTTrainer: the frozen core, adapters, and general data that every epoch draws anew."""

from __future__ import annotations

import functools
import inspect
import logging
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from datasets import Dataset, load_from_disk
from transformers import AutoModelForCausalLM, BitsAndBytesConfig, PreTrainedTokenizerFast, TrainingArguments
from trl import SFTConfig, SFTTrainer

from hf_langcore.binding import bind
from hf_langcore.errors import ConfigurationError, CoreMaskMismatchError, CorpusError, UnsupportedModelError
from hf_langcore.training import CoreFreezeCallback, CoreRegionSFTConfig, CoreRegionSFTTrainer

# TRL and PEFT still use the old name.
pytestmark = pytest.mark.filterwarnings("ignore:.*gradient_checkpointing. is deprecated:FutureWarning")


@pytest.fixture
def sft(
    sft_args: Callable[..., Any], tokenizer: PreTrainedTokenizerFast, task: Dataset, tiny: SimpleNamespace
) -> Callable[..., CoreRegionSFTTrainer]:
    """A trainer with a tiny model; `options` are trainer arguments, `args` go into the configuration."""

    def make(*, args: dict[str, Any] | None = None, **options: Any) -> CoreRegionSFTTrainer:
        options = {"model": tiny.llama(), "train_dataset": task, "processing_class": tokenizer, **options}
        return CoreRegionSFTTrainer(args=sft_args(**(args or {})), **options)

    return make


def recorded(trainer: CoreRegionSFTTrainer) -> list[list[str]]:
    """Train, and return the texts of the rows of every batch that reached the model."""
    batches: list[list[str]] = []
    step = trainer.training_step

    def record(model: Any, inputs: dict[str, torch.Tensor], *rest: Any, **more: Any) -> Any:
        batches.append(trainer.processing_class.batch_decode(inputs["input_ids"], skip_special_tokens=True))
        return step(model, inputs, *rest, **more)

    trainer.training_step = record
    trainer.train()
    return batches


def epochs_of(batches: list[list[str]], rows: int) -> list[list[str]]:
    flat = [text for batch in batches for text in batch]
    assert len(flat) % rows == 0
    return [flat[start : start + rows] for start in range(0, len(flat), rows)]


@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_core_stays_and_the_complement_learns(
    sft: Callable[..., CoreRegionSFTTrainer],
    tiny: SimpleNamespace,
    general: Dataset,
    dtype: torch.dtype,
    architecture: str,
) -> None:
    """Frozen-core fine-tuning with general data and weight decay changes 0 bits of the core."""
    model = getattr(tiny, architecture)(dtype)
    core_mask, before = tiny.core_of(model), tiny.bits_of(model)
    sft(model=model, core_mask=core_mask, general_dataset=general).train()
    core, complement = tiny.changed_bits(before, model, core_mask)
    assert core == 0
    assert complement > 0.5 * (core_mask.numel() - core_mask.count())


def test_the_defaults_of_trl_work_on_a_cpu(
    sft: Callable[..., CoreRegionSFTTrainer], tiny: SimpleNamespace, general: Dataset
) -> None:
    """bf16 autocast and gradient checkpointing are on unless they are switched off; the core stays all the same."""
    model = tiny.llama()
    core_mask, before = tiny.core_of(model), tiny.bits_of(model)
    trainer = sft(
        model=model,
        args={"bf16": None, "gradient_checkpointing": True},
        core_mask=core_mask,
        general_dataset=general,
    )
    assert trainer.args.bf16
    trainer.train()
    core, complement = tiny.changed_bits(before, model, core_mask)
    assert core == 0
    assert complement > 0


@pytest.mark.parametrize("more", [{}, {"gradient_accumulation_steps": 2}, {"dataloader_num_workers": 1}], ids=str)
def test_every_epoch_has_all_task_rows_and_another_general_sample(
    sft: Callable[..., CoreRegionSFTTrainer], general: Dataset, more: dict[str, int]
) -> None:
    """Two epochs share the task rows and differ in the general rows, none of which repeats within an epoch."""
    args = {"max_steps": -1, "num_train_epochs": 2, "general_data_ratio": 2.0}
    trainer = sft(args=args | more, general_dataset=general)
    epochs = epochs_of(recorded(trainer), 24)
    assert len(epochs) == 2
    tasks = [sorted(text for text in epoch if text.startswith("question")) for epoch in epochs]
    generals = [{text for text in epoch if text.startswith("the cat")} for epoch in epochs]
    assert tasks[0] == tasks[1] == [f"question {i} answer {i}" for i in range(8)]
    assert [len(sample) for sample in generals] == [16, 16]
    assert generals[0] != generals[1]
    assert epochs[0][:12] != epochs[1][:12]


def test_the_same_seed_gives_the_same_rows(sft: Callable[..., CoreRegionSFTTrainer], general: Dataset) -> None:
    """Order and samples depend on the seed alone; data_seed overrides it."""
    args = {"max_steps": -1, "num_train_epochs": 2, "general_data_ratio": 1.0}
    first = recorded(sft(args=args, general_dataset=general))
    assert recorded(sft(args=args, general_dataset=general)) == first
    assert recorded(sft(args={**args, "data_seed": 5}, general_dataset=general)) != first


def test_resuming_within_an_epoch_goes_on_with_its_rows(
    sft: Callable[..., CoreRegionSFTTrainer], general: Dataset, tmp_path: Path
) -> None:
    """A run that was cut in its second epoch sees the rows that it would have seen."""
    args = {
        "max_steps": -1,
        "num_train_epochs": 2,
        "general_data_ratio": 1.0,
        "save_strategy": "steps",
        "save_steps": 5,
    }
    whole = recorded(sft(args=args, general_dataset=general))
    trainer = sft(args=args, general_dataset=general)
    train = trainer.train
    trainer.train = lambda: train(resume_from_checkpoint=str(tmp_path / "out/checkpoint-5"))
    assert recorded(trainer) == whole[5:]


def test_the_report_counts_rows_and_tokens(
    sft: Callable[..., CoreRegionSFTTrainer], general: Dataset, tokenizer: PreTrainedTokenizerFast
) -> None:
    """What the report says of an epoch is what the epoch consisted of."""
    args = {"max_steps": -1, "num_train_epochs": 2, "general_data_ratio": 1.5}
    trainer = sft(args=args, general_dataset=general)
    epochs = epochs_of(recorded(trainer), 20)
    report = trainer.mixture_report()
    assert (report.epoch, report.task_rows, report.general_rows) == (1, 8, 12)
    tokens = sum(len(tokenizer(text)["input_ids"]) + 1 for text in epochs[1] if text.startswith("the cat"))
    assert report.general_tokens == tokens
    assert trainer.mixture_report(0).epoch == 0
    assert trainer.num_examples(trainer.get_train_dataloader()) == 20


def test_counted_by_tokens_the_first_epoch_reaches_the_ratio(
    sft: Callable[..., CoreRegionSFTTrainer], general: Dataset
) -> None:
    """General rows come until their tokens reach the ratio, and not one row longer; all epochs are as long."""
    trainer = sft(args={"general_data_ratio": 3.0, "general_data_by": "tokens"}, general_dataset=general)
    report = trainer.mixture_report()
    longest = max(len(row) for row in trainer.train_dataset["input_ids"])
    assert 0 <= report.general_tokens - 3 * report.task_tokens < longest
    assert trainer.mixture_report(1).general_rows == report.general_rows


def test_each_form_keeps_its_own_loss(
    sft: Callable[..., CoreRegionSFTTrainer], tokenizer: PreTrainedTokenizerFast, general: Dataset
) -> None:
    """Of task prompts nothing is trained, of general text everything, whichever form comes first."""
    rows = sft(general_dataset=general).train_dataset
    assert rows[0]["labels"].count(-100) > 0
    assert all(row["labels"] == row["input_ids"] for row in rows.select(range(8, 108)))
    prompts = Dataset.from_list([{"prompt": "who are you ", "completion": "a dog"}])
    rows = sft(train_dataset=general, general_dataset=prompts).train_dataset
    assert rows[len(general)]["labels"].count(-100) > 0
    assert rows[0]["labels"] == rows[0]["input_ids"]


def test_task_rows_are_prepared_as_without_mixing(
    sft: Callable[..., CoreRegionSFTTrainer], tiny: SimpleNamespace, task: Dataset, general: Dataset
) -> None:
    """Mixing does not change a single token or label of the task."""
    plain = sft().train_dataset.select_columns(["input_ids", "labels"]).to_list()
    mixed = sft(general_dataset=general).train_dataset.select(range(8))
    assert mixed.select_columns(["input_ids", "labels"]).to_list() == plain


def test_chat_and_text_mix(sft: Callable[..., CoreRegionSFTTrainer], general: Dataset) -> None:
    """A conversational task and plain text become one set of tokens without empty columns."""
    chat = Dataset.from_list(
        [
            {"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": f"yes {i}"}]}
            for i in range(4)
        ]
    )
    trainer = sft(train_dataset=chat, general_dataset=general, args={"general_data_ratio": 2.0})
    assert set(trainer.train_dataset.column_names) == {"input_ids", "labels", "source"}
    trainer.train()
    assert trainer.mixture_report().general_rows == 8


def test_the_text_column_may_have_another_name(sft: Callable[..., CoreRegionSFTTrainer], general: Dataset) -> None:
    """dataset_text_field names the task's column; general text may be called text all the same."""
    task = Dataset.from_list([{"content": f"a dog {i}"} for i in range(4)])
    trainer = sft(train_dataset=task, general_dataset=general, args={"dataset_text_field": "content"})
    assert len(trainer.train_dataset) == 104


@pytest.mark.parametrize("streaming", ["task", "general", "both"])
def test_streams_mix_by_the_ratio(
    sft: Callable[..., CoreRegionSFTTrainer], task: Dataset, general: Dataset, streaming: str
) -> None:
    """Where one side streams the mixture does, with the ratio kept in every stretch."""
    if streaming != "general":
        task = task.to_iterable_dataset()
    if streaming != "task":
        general = general.to_iterable_dataset()
    trainer = sft(train_dataset=task, general_dataset=general, args={"general_data_ratio": 3.0, "max_steps": 4})
    texts = [text for batch in recorded(trainer) for text in batch]
    assert len(texts) == 16
    assert [text.startswith("question") for text in texts] == [True, False, False, False] * 4


def test_streams_draw_again_in_the_next_epoch(
    sft: Callable[..., CoreRegionSFTTrainer], task: Dataset, general: Dataset
) -> None:
    """When the task rows end, the next pass over them has other general rows."""
    args = {"general_data_ratio": 1.0, "max_steps": 8}
    trainer = sft(train_dataset=task.to_iterable_dataset(), general_dataset=general.to_iterable_dataset(), args=args)
    first, second = epochs_of(recorded(trainer), 16)
    samples = [{text for text in epoch if text.startswith("the cat")} for epoch in (first, second)]
    assert samples[0] != samples[1]
    assert sorted(t for t in first if t[0] == "q") == sorted(t for t in second if t[0] == "q")


def test_resuming_takes_the_core_from_the_first_run(
    sft: Callable[..., CoreRegionSFTTrainer], tiny: SimpleNamespace, general: Dataset, tmp_path: Path
) -> None:
    """Resuming through the trainer keeps the core too."""
    model = tiny.llama()
    core_mask, before = tiny.core_of(model), tiny.bits_of(model)
    args = {"save_strategy": "steps", "save_steps": 2}
    sft(model=model, args=args, core_mask=core_mask, general_dataset=general).train()
    resumed = tiny.llama()
    trainer = sft(model=resumed, args={**args, "max_steps": 5}, core_mask=core_mask, general_dataset=general)
    trainer.train(resume_from_checkpoint=str(tmp_path / "out/checkpoint-2"))
    assert tiny.changed_bits(before, resumed, core_mask)[0] == 0


def test_everything_may_be_named_by_strings(
    sft: Callable[..., CoreRegionSFTTrainer],
    tiny: SimpleNamespace,
    general: Dataset,
    tokenizer: PreTrainedTokenizerFast,
    tmp_path: Path,
) -> None:
    """Model, mask and general data come from folders and files, as a YAML file would name them."""
    base = tiny.llama()
    core_mask, before = tiny.core_of(base), tiny.bits_of(base)
    base.save_pretrained(tmp_path / "base")
    tokenizer.save_pretrained(tmp_path / "base")
    core_mask.save_pretrained(tmp_path / "core")
    general.save_to_disk(tmp_path / "general")
    args = {"core_mask": str(tmp_path / "core"), "general_dataset": str(tmp_path / "general")}
    trainer = sft(model=str(tmp_path / "base"), args=args, processing_class=None)
    trainer.train()
    assert tiny.changed_bits(before, trainer.model, core_mask)[0] == 0
    assert trainer.mixture_report().general_rows == 40
    trainer.save_model(str(tmp_path / "saved"))
    assert set(bind(AutoModelForCausalLM.from_pretrained(tmp_path / "saved"), core_mask)) == set(core_mask)


@pytest.mark.parametrize("problem", ["weights", "shapes"])
def test_a_model_object_is_compared_before_anything_is_tokenised(
    sft: Callable[..., CoreRegionSFTTrainer],
    tiny: SimpleNamespace,
    monkeypatch: pytest.MonkeyPatch,
    problem: str,
) -> None:
    """Weights, names and shapes of a model that is there already are known from the start; base_check decides."""
    core_mask = tiny.core_of(tiny.llama())
    other = tiny.llama() if problem == "weights" else tiny.gpt2()
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.add_(1)
    prepared: list[str] = []
    prepare = SFTTrainer._prepare_dataset
    monkeypatch.setattr(
        SFTTrainer,
        "_prepare_dataset",
        lambda self, *args, **more: prepared.append("rows") or prepare(self, *args, **more),
    )
    with pytest.raises(
        CoreMaskMismatchError, match="other weights" if problem == "weights" else "another architecture"
    ):
        sft(model=other, core_mask=core_mask)
    assert prepared == []
    if problem == "weights":
        with pytest.warns(UserWarning, match="other weights"):
            sft(model=other, core_mask=core_mask, args={"base_check": "warn"})
        sft(model=other, core_mask=core_mask, args={"base_check": "off"})
        assert prepared


def test_a_model_that_is_named_is_compared_when_training_begins(
    sft: Callable[..., CoreRegionSFTTrainer], tiny: SimpleNamespace, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    """A name is loaded by SFTTrainer; training on other weights than the mask's is refused all the same."""
    core_mask, other = tiny.core_of(tiny.llama()), tiny.llama()
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.add_(1)
    other.save_pretrained(tmp_path / "other")
    trainer = sft(model=str(tmp_path / "other"), core_mask=core_mask)
    with pytest.raises(CoreMaskMismatchError, match="other weights"):
        trainer.train()


def test_resuming_with_the_checkpoint_as_the_model(
    sft: Callable[..., CoreRegionSFTTrainer], tiny: SimpleNamespace, tmp_path: Path
) -> None:
    """The weights of a checkpoint have been trained, but its config says from what; that is no mismatch."""
    model = tiny.llama()
    core_mask, before = tiny.core_of(model), tiny.bits_of(model)
    args = {"save_strategy": "steps", "save_steps": 2}
    sft(model=model, args=args, core_mask=core_mask).train()
    checkpoint = tmp_path / "out/checkpoint-2"
    resumed = AutoModelForCausalLM.from_pretrained(checkpoint, dtype="auto")
    trainer = sft(model=resumed, args={**args, "max_steps": 4}, core_mask=core_mask)
    trainer.train(resume_from_checkpoint=str(checkpoint))
    assert tiny.changed_bits(before, resumed, core_mask)[0] == 0


def test_arguments_override_the_configuration(
    sft: Callable[..., CoreRegionSFTTrainer], tiny: SimpleNamespace, general: Dataset, tmp_path: Path
) -> None:
    """What is passed to the trainer wins over what the configuration names."""
    other = tiny.core_of(tiny.llama(), seed=3)
    args = {"core_mask": str(tmp_path / "missing"), "general_dataset": str(tmp_path / "missing.jsonl")}
    trainer = sft(args=args, core_mask=other, general_dataset=general)
    (freeze,) = [c for c in trainer.callback_handler.callbacks if isinstance(c, CoreFreezeCallback)]
    assert freeze.core_mask == other


def test_plain_configurations_work(
    tiny: SimpleNamespace,
    task: Dataset,
    general: Dataset,
    tokenizer: PreTrainedTokenizerFast,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """SFTConfig and TrainingArguments have no fields of ours; the defaults hold. Without any, ours are made."""
    options = {"train_dataset": task, "general_dataset": general, "processing_class": tokenizer}
    for kind in (SFTConfig, TrainingArguments):
        args = kind(str(tmp_path / "out"), use_cpu=True, bf16=False, max_steps=1)
        trainer = CoreRegionSFTTrainer(tiny.llama(), args, **options)
        assert trainer.mixture_report().general_rows == 40
    on_cpu = functools.partial(CoreRegionSFTConfig, use_cpu=True, bf16=False)
    monkeypatch.setattr("hf_langcore.training.trainer.CoreRegionSFTConfig", on_cpu)
    trainer = CoreRegionSFTTrainer(tiny.llama(), **options)
    assert isinstance(trainer.args, CoreRegionSFTConfig)
    assert trainer.args.output_dir == "model-SFT"
    assert trainer.args.report_to == []


def test_an_adapter_trains_with_general_data(
    sft: Callable[..., CoreRegionSFTTrainer], tiny: SimpleNamespace, general: Dataset
) -> None:
    """peft_config goes to SFTTrainer: base weights stay, adapter weights move."""
    peft = pytest.importorskip("peft")
    model = tiny.llama()
    before = tiny.bits_of(model)
    config = peft.LoraConfig(task_type="CAUSAL_LM", r=2, target_modules=["q_proj"])
    trainer = sft(model=model, peft_config=config, general_dataset=general)
    trainer.train()
    assert all(torch.equal(before[name], bits) for name, bits in tiny.bits_of(trainer.model).items())
    assert any(value.abs().sum() > 0 for name, value in trainer.model.named_parameters() if "lora_B" in name)


def test_the_core_region_adapter_trains(
    sft: Callable[..., CoreRegionSFTTrainer], tiny: SimpleNamespace, general: Dataset
) -> None:
    """The adapter of this package goes the same way, and merging it leaves the core as it was."""
    tuner = pytest.importorskip("hf_langcore.tuner", exc_type=ImportError)
    model = tiny.llama()
    core_mask, before = tiny.core_of(model), tiny.bits_of(model)
    config = tuner.CoreRegionConfig(core_mask=core_mask, r=2, task_type="CAUSAL_LM")
    trainer = sft(model=model, peft_config=config, general_dataset=general)
    trainer.train()
    merged = trainer.model.merge_and_unload()
    core, complement = tiny.changed_bits(before, merged, core_mask)
    assert core == 0
    assert complement > 0


def test_a_mask_and_an_adapter_contradict_each_other(
    sft: Callable[..., CoreRegionSFTTrainer], tiny: SimpleNamespace
) -> None:
    """Given as arguments, in the configuration, or with a model that is wrapped already."""
    peft = pytest.importorskip("peft")
    core_mask = tiny.core_of(tiny.llama())
    config = peft.LoraConfig(task_type="CAUSAL_LM", target_modules=["q_proj"])
    with pytest.raises(ConfigurationError, match="give one of them"):
        sft(core_mask=core_mask, peft_config=config)
    with pytest.raises(ConfigurationError, match="give one of them"):
        sft(args={"core_mask": "somewhere"}, peft_config=config)
    with pytest.raises(ConfigurationError, match="give one of them"):
        sft(model=peft.get_peft_model(tiny.llama(), config), core_mask=core_mask)


def test_without_any_protection_a_warning_says_so(
    sft: Callable[..., CoreRegionSFTTrainer], general: Dataset, caplog: pytest.LogCaptureFixture
) -> None:
    """Plain fine-tuning with mixing is allowed, but not silently."""
    with caplog.at_level(logging.WARNING):
        sft(general_dataset=general).train()
    assert "nothing protects the core" in caplog.text


def test_no_general_data_means_none(sft: Callable[..., CoreRegionSFTTrainer], general: Dataset) -> None:
    """Ratio 0 or no data set: the task alone, in TRL's own order."""
    assert len(sft().train_dataset) == 8
    trainer = sft(general_dataset=general, args={"general_data_ratio": 0.0})
    assert len(trainer.train_dataset) == 8
    assert trainer.mixture_report() is None
    assert trainer.num_examples(trainer.get_train_dataloader()) == 8


def test_wrong_combinations_are_named(
    sft: Callable[..., CoreRegionSFTTrainer], tiny: SimpleNamespace, general: Dataset, task: Dataset
) -> None:
    """Each error says what to do instead."""
    with pytest.raises(UnsupportedModelError, match="quantises"):
        sft(core_mask=tiny.core_of(tiny.llama()), quantization_config=BitsAndBytesConfig(load_in_8bit=True))
    with pytest.raises(CoreMaskMismatchError, match="another architecture"):
        sft(core_mask=tiny.core_of(tiny.gpt2()))
    with pytest.raises(ConfigurationError, match="train_sampling_strategy"):
        sft(general_dataset=general, args={"train_sampling_strategy": "sequential"})
    with pytest.raises(CorpusError, match="no known form"):
        sft(general_dataset=Dataset.from_list([{"body": "x"}]))
    tokens = Dataset.from_list([{"input_ids": [1, 2], "labels": [1, 2]}])
    with pytest.raises(ConfigurationError, match="mix_general_data"):
        sft(train_dataset=tokens, general_dataset=tokens, args={"dataset_kwargs": {"skip_prepare_dataset": True}})
    for rows in (general, general.to_iterable_dataset()):
        with pytest.raises(CorpusError, match="train_dataset has no rows"):
            sft(train_dataset=task.select([]), general_dataset=rows)
    long = Dataset.from_list([{"prompt": "the cat " * 100, "completion": "x"}])
    with pytest.raises(CorpusError, match="No row of general_dataset \\(general\\) is left"):
        sft(general_dataset=long)


def test_conversations_need_a_chat_template(
    sft: Callable[..., CoreRegionSFTTrainer], tokenizer: PreTrainedTokenizerFast
) -> None:
    """A base model's tokenizer cannot write a conversation down; the message says what can be done."""
    tokenizer.chat_template = None
    chat = Dataset.from_list([{"messages": [{"role": "assistant", "content": "yes"}]}])
    with pytest.raises(ConfigurationError, match="chat template"):
        sft(general_dataset=chat)


def test_the_signature_is_that_of_sft_trainer() -> None:
    """Same names in the same places, and more by keyword."""
    mine = inspect.signature(CoreRegionSFTTrainer).parameters
    theirs = inspect.signature(SFTTrainer).parameters
    assert list(mine)[: len(theirs)] == list(theirs)
    assert all(mine[name].default == theirs[name].default for name in theirs)
    assert set(mine) - set(theirs) == {"core_mask", "anchor_importance", "anchor_base", "general_dataset", "sentinel"}


def test_evaluation_sets_are_left_alone(
    sft: Callable[..., CoreRegionSFTTrainer], general: Dataset, task: Dataset
) -> None:
    """Nothing is mixed into evaluation data, not even into one that is called train."""
    trainer = sft(general_dataset=general, eval_dataset={"train": task, "de": general})
    assert {name: len(rows) for name, rows in trainer.eval_dataset.items()} == {"train": 8, "de": 100}
    assert "eval_de_loss" in trainer.evaluate()


def test_saved_data_sets_round_trip(general: Dataset, tmp_path: Path) -> None:
    """The folder form that the configuration names is that of datasets itself."""
    general.save_to_disk(tmp_path / "general")
    assert load_from_disk(str(tmp_path / "general")).to_list() == general.to_list()
