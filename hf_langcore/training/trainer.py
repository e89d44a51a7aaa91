"""CoreRegionSFTTrainer: TRL's SFTTrainer that leaves the core alone and mixes general data in."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase, ProcessorMixin, TrainerCallback, TrainingArguments
from trl import SFTConfig

from hf_langcore.data.rows import Rows
from hf_langcore.masks import CoreMask, ImportanceScores
from hf_langcore.modes import note_training
from hf_langcore.training.config import CoreRegionSFTConfig
from hf_langcore.training.general import Sources
from hf_langcore.training.memory import MemorySavingMixin
from hf_langcore.training.mixing import MixingSFTTrainer, general_rows, task_rows
from hf_langcore.training.protection import protection_of
from hf_langcore.training.replaying import replayed_rows
from hf_langcore.training.sentinel import LanguageSentinel, sentinel_of


class _TrainingNote(TrainerCallback):  # type: ignore[misc]
    """Notes that a model is trained in place, so that figures measured on it are not taken for those of its base."""

    def on_train_begin(self, args: Any, state: Any, control: Any, *, model: nn.Module, **_: Any) -> None:  # noqa: ARG002
        if not hasattr(model, "peft_config"):
            note_training(model)


class CoreRegionSFTTrainer(MemorySavingMixin, MixingSFTTrainer):
    """Supervised fine-tuning that protects what a model knew before.

    All arguments of SFTTrainer mean what they mean there. A `core_mask` is frozen; `args.protection` adds an anchor
    to the base or leaves the core free, `args.core_damage` damages the core first, to watch it recover. A sentinel
    watches the languages meanwhile.

    Task and general rows are prepared by SFTTrainer, each in its own form, so that mixing does not change how a row is trained: of a prompt and completion only the
    completion, text in full, conversations through the chat template.

    In memory every epoch has all task rows and another sample of general rows; with `packing=True` every epoch is packed for
    itself. Where `train_dataset` or `general_dataset` streams, the mixture streams, and `max_steps` has to be set. What was
    consumed of each source is counted in the training loop: `consumed_mixture()`, and `mixture.json` in the output folder.

    Args:
        model: A model, or the name of one.
        args: A CoreRegionSFTConfig, or what SFTTrainer takes.
        data_collator: As in SFTTrainer.
        train_dataset: The task rows.
        eval_dataset: As in SFTTrainer; nothing is mixed into it.
        processing_class: The tokenizer; loaded with the model where it is missing.
        compute_loss_func: As in SFTTrainer.
        compute_metrics: As in SFTTrainer.
        callbacks: More callbacks. The freeze comes after them.
        optimizers: As in SFTTrainer.
        optimizer_cls_and_kwargs: As in SFTTrainer.
        preprocess_logits_for_metrics: As in SFTTrainer.
        quantization_config: As in SFTTrainer; only with an adapter.
        peft_config: An adapter, such as CoreRegionConfig, which never touches the core. Not with `core_mask`.
        formatting_func: Makes text of task rows; general rows are left as they are.
        core_mask: A core mask, or the folder or Hub repository of one: everything else is fine-tuned in place, and these weights
            stay what they are, bit for bit. Overrides `args.core_mask`.
        anchor_importance: With `args.protection="anchor"`: scores, or the folder of saved ones, that say how strongly each
            weight is pulled to the base. Overrides `args.anchor_importance`.
        anchor_base: With `args.protection="anchor"`: the model that weights are pulled to, where it is not the one that
            training begins with; needed to resume where the base cannot be loaded by its name. Overrides `args.anchor_base`.
        general_dataset: Rows to mix in, in any of the forms that SFTTrainer knows; a data set, a file, a folder
            of `save_to_disk`, or "repo:config:split"; several of these as a list or as a mapping from name to source,
            each in its own form. Overrides `args.general_dataset`.
        sentinel: Held-out texts that are watched while training runs: a `LanguageSentinel`, a mapping from language to texts,
            or a folder with one text file per language. Overrides `args.sentinel`.

    Raises:
        ConfigurationError: `core_mask` with adapters, or mixing with options that do not allow it.
        CorpusError: The general data is missing, empty or of no known form.
        CoreMaskMismatchError: The mask does not fit the model: names, shapes or, of a model that is given as an
            object, weights. Those of a model that is given by name are compared when training begins.
        UnsupportedModelError: `core_mask` with quantised or sharded weights.
    """

    def __init__(  # noqa: PLR0917 the order is SFTTrainer's
        self,
        model: str | PreTrainedModel,
        args: SFTConfig | TrainingArguments | None = None,
        data_collator: Callable[[list[Any]], dict[str, Any]] | None = None,
        train_dataset: Rows | None = None,
        eval_dataset: Rows | dict[str, Rows] | None = None,
        processing_class: PreTrainedTokenizerBase | ProcessorMixin | None = None,
        compute_loss_func: Callable[..., torch.Tensor] | None = None,
        compute_metrics: Callable[[Any], dict[str, float]] | None = None,
        callbacks: Sequence[TrainerCallback] | None = None,
        optimizers: tuple[torch.optim.Optimizer | None, Any] = (None, None),
        optimizer_cls_and_kwargs: tuple[type[torch.optim.Optimizer], dict[str, Any]] | None = None,
        preprocess_logits_for_metrics: Callable[[Any, Any], Any] | None = None,
        quantization_config: Any = None,
        peft_config: Any = None,
        formatting_func: Callable[[dict[str, Any]], str] | None = None,
        *,
        core_mask: CoreMask | str | Path | None = None,
        anchor_importance: ImportanceScores | str | Path | None = None,
        anchor_base: PreTrainedModel | str | Path | None = None,
        general_dataset: Sources | None = None,
        sentinel: LanguageSentinel | Mapping[str, Any] | str | Path | None = None,
    ) -> None:
        args = args if args is not None else CoreRegionSFTConfig(f"{_short_name(model)}-SFT")
        self.protection = protection_of(
            args,
            core_mask=core_mask,
            anchor_importance=anchor_importance,
            anchor_base=anchor_base,
            has_adapter=peft_config is not None or getattr(model, "peft_config", None) is not None,
            is_quantized=quantization_config is not None
            or "quantization_config" in (getattr(args, "model_init_kwargs", None) or {}),
        )
        if isinstance(model, nn.Module):  # before all rows are tokenised
            self.protection.check(model, args, base_check=self.protection.base_check)
        replayed = replayed_rows(model, processing_class, args)
        self._general = general_rows(general_dataset, args, replayed=replayed)
        mixes = self._general is not None
        watch = sentinel_of(sentinel, args, core_mask=self.protection.core_mask)
        super().__init__(
            model=model,
            args=args,
            data_collator=data_collator,
            train_dataset=task_rows(train_dataset, self._general),
            eval_dataset=eval_dataset,
            processing_class=processing_class,
            compute_loss_func=compute_loss_func,
            compute_metrics=compute_metrics,
            callbacks=[*(callbacks or []), _TrainingNote(), *self.protection.callbacks, *([watch] if watch else [])],
            optimizers=optimizers,
            optimizer_cls_and_kwargs=optimizer_cls_and_kwargs,
            preprocess_logits_for_metrics=preprocess_logits_for_metrics,
            quantization_config=quantization_config,
            peft_config=peft_config,
            formatting_func=formatting_func,
        )
        self.require_mixed()
        # Of a model that was named: names and shapes; its weights are compared when training begins, or damaged.
        self.protection.check(self.model, self.args, base_check="off")
        self.protection.apply_damage(self.model)
        self.sentinel = watch
        if watch is not None:  # texts that the tokenizer cannot read are refused now
            watch.attach(self, is_protected=mixes)


def _short_name(model: str | PreTrainedModel) -> str:
    name = model if isinstance(model, str) else getattr(model.config, "_name_or_path", "")
    return Path(name).name or "model"
