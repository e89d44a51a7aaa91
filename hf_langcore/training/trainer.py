"""CoreRegionSFTTrainer: TRL's SFTTrainer that leaves the core alone and mixes general data in."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase, ProcessorMixin, TrainerCallback, TrainingArguments
from trl import SFTConfig

from hf_langcore.binding import bind
from hf_langcore.data.rows import Rows
from hf_langcore.errors import ConfigurationError, UnsupportedModelError
from hf_langcore.masks import CoreMask
from hf_langcore.training.config import CoreRegionSFTConfig
from hf_langcore.training.freeze import CoreFreezeCallback, require_plain_training
from hf_langcore.training.mixing import MixingSFTTrainer, general_rows, task_rows

logger = logging.getLogger(__name__)


class CoreRegionSFTTrainer(MixingSFTTrainer):
    """Supervised fine-tuning that protects what a model knew before.

    All arguments of SFTTrainer mean what they mean there. Task and general rows are prepared by SFTTrainer, each
    in its own form, so that mixing does not change how a row is trained: of a prompt and completion only the
    completion, text in full, conversations through the chat template.

    In memory every epoch has all task rows and another sample of general rows. With `packing=True` one sample is
    drawn before rows are packed, and all epochs share it. Where `train_dataset` or `general_dataset` streams, the
    mixture streams, and `max_steps` has to be set.

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
        core_mask: A core mask, or the folder of one: everything else is fine-tuned in place, and these weights
            stay what they are, bit for bit. Overrides `args.core_mask`.
        general_dataset: Rows to mix in, in any of the forms that SFTTrainer knows; a data set, a file, a folder
            of `save_to_disk`, or "repo:config:split". Overrides `args.general_dataset`.

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
        general_dataset: Rows | str | Path | None = None,
    ) -> None:
        args = args if args is not None else CoreRegionSFTConfig(f"{_short_name(model)}-SFT")
        core_mask = core_mask if core_mask is not None else getattr(args, "core_mask", None)
        _require_one_protection(model, core_mask, peft_config, quantization_config)
        freeze = _freeze(core_mask, model, args)
        self._general = general_rows(general_dataset, args)
        super().__init__(
            model=model,
            args=args,
            data_collator=data_collator,
            train_dataset=task_rows(train_dataset, self._general),
            eval_dataset=eval_dataset,
            processing_class=processing_class,
            compute_loss_func=compute_loss_func,
            compute_metrics=compute_metrics,
            callbacks=[*(callbacks or []), *freeze],
            optimizers=optimizers,
            optimizer_cls_and_kwargs=optimizer_cls_and_kwargs,
            preprocess_logits_for_metrics=preprocess_logits_for_metrics,
            quantization_config=quantization_config,
            peft_config=peft_config,
            formatting_func=formatting_func,
        )
        self.require_mixed()
        for callback in freeze:
            require_plain_training(self.model, self.args)
            # Of a model that was named: names and shapes; its weights are compared when training begins.
            bind(self.model, callback.core_mask, base_check="off")


def _short_name(model: str | PreTrainedModel) -> str:
    name = model if isinstance(model, str) else getattr(model.config, "_name_or_path", "")
    return Path(name).name or "model"


def _freeze(core_mask: CoreMask | str | Path | None, model: Any, args: Any) -> list[CoreFreezeCallback]:
    """The callback; a model that is there already is checked now, before all rows are tokenised."""
    if core_mask is None:
        return []
    base_check = getattr(args, "base_check", "error")
    callback = CoreFreezeCallback(core_mask, base_check=base_check)
    if isinstance(model, nn.Module):
        require_plain_training(model, args)
        bind(model, callback.core_mask, base_check=base_check)
    return [callback]


def _require_one_protection(model: Any, core_mask: object, peft_config: object, quantization_config: object) -> None:
    has_adapter = peft_config is not None or getattr(model, "peft_config", None) is not None
    if core_mask is not None and has_adapter:
        raise ConfigurationError(
            "core_mask freezes the core in full fine-tuning, and an adapter (peft_config) trains no base weight at "
            "all: give one of them. CoreRegionConfig(core_mask=...) is the adapter that keeps out of the core."
        )
    if core_mask is not None and quantization_config is not None:
        raise UnsupportedModelError(
            "core_mask needs full-precision weights, and quantization_config quantises them. Leave one out, or use "
            "an adapter (peft_config=CoreRegionConfig(...))."
        )
    if core_mask is None and not has_adapter:
        logger.warning("Neither core_mask nor peft_config is given: nothing protects the core in this run.")
