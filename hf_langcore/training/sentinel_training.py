"""What a callback has to find out about the training that it is part of."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Iterable
from itertools import islice
from typing import Any

from torch import nn
from transformers.trainer_callback import CallbackHandler

from hf_langcore.errors import ConfigurationError, UnsupportedModelError
from hf_langcore.training.anchor import AnchorCallback
from hf_langcore.training.freeze import CoreFreezeCallback
from hf_langcore.training.support import require_fsdp2

SMALL_TOKENS_PER_PARAMETER = 0.1
"""A training set with fewer tokens for each trained parameter is small."""
SMALL_ROWS = 10_000
"""Where tokens cannot be counted, a training set with fewer rows is small."""

_SAMPLED_ROWS = 200

logger = logging.getLogger(__name__)


def calling_handler() -> CallbackHandler | None:
    """The handler that is calling this callback, which also knows the trackers.

    The Trainer passes callbacks neither itself nor the others, and its trackers are callbacks too. So that every Trainer
    works without being asked, the handler is looked for among the callers.
    """
    frame = inspect.currentframe()
    while frame is not None:
        owner = frame.f_locals.get("self")
        if isinstance(owner, CallbackHandler):
            return owner
        frame = frame.f_back
    return None


def log(handler: CallbackHandler | None, args: Any, state: Any, control: Any, figures: dict[str, float]) -> None:
    """Log as `Trainer.log` does: into the state's history and through all callbacks, which trackers are.

    `Trainer.log` itself is not called, because TRL's trainers empty their running means in it.

    Args:
        handler: The Trainer's callbacks; without one only the history gets the figures.
        args: The training arguments.
        state: The Trainer's state.
        control: The Trainer's control; whether it logs next stays as it was.
        figures: What is logged.
    """
    logs = figures if state.epoch is None else {**figures, "epoch": state.epoch}
    state.log_history.append({**logs, "step": state.global_step})
    if handler is not None:
        should_log = control.should_log
        handler.on_log(args, state, control, dict(logs))
        control.should_log = should_log


def require_supported(model: nn.Module, args: Any, *, reverts: bool) -> None:
    """Refuse strategies that the sentinel cannot serve.

    Raises:
        UnsupportedModelError: FSDP version 1; or DeepSpeed, where the sentinel is to go back to earlier weights.
    """
    require_fsdp2(model, args)
    is_deepspeed = getattr(args, "deepspeed", None) or any(hasattr(p, "ds_id") for p in model.parameters())
    if reverts and is_deepspeed:
        raise UnsupportedModelError(
            "on_breach='revert' does not work with DeepSpeed, which keeps float32 copies of the weights that the sentinel "
            "does not reach. Use on_breach='stop' or 'warn', or train with DDP or FSDP version 2."
        )


def tokenizer_of(processing_class: Any) -> Any:
    """The tokenizer of a Trainer's processing class.

    Raises:
        ConfigurationError: The Trainer has none.
    """
    if processing_class is None:
        raise ConfigurationError(
            "The Trainer has no tokenizer, and the sentinel needs one to read its texts. Pass "
            "LanguageSentinel(..., tokenizer=tokenizer) or Trainer(processing_class=tokenizer)."
        )
    return getattr(processing_class, "tokenizer", processing_class)


def warn_of_repeated_small_set(
    model: nn.Module, args: Any, state: Any, dataloader: Any, callbacks: Iterable[Any], *, is_protected: bool
) -> None:
    """Warn when a small set is trained for more than one epoch and nothing protects the core.

    Small is fewer than `SMALL_TOKENS_PER_PARAMETER` tokens for each trained parameter, or, where rows are not tokenised,
    fewer than `SMALL_ROWS` rows. A frozen or anchored core, an adapter that keeps off the core and general data protect.

    Args:
        model: The model.
        args: The training arguments.
        state: The Trainer's state.
        dataloader: The Trainer's training data.
        callbacks: The Trainer's callbacks.
        is_protected: Whether the trainer says that it protects the core.
    """
    if is_protected or _has_core_adapter(model) or any(map(_protects, callbacks)):
        return
    rows = getattr(dataloader, "dataset", None)
    try:
        count, epochs = len(rows), _epochs(args, state, dataloader)  # type: ignore[arg-type]
    except TypeError:  # a stream, whose rows do not repeat unasked
        return
    size = _size(rows, count, model)
    if epochs > 1 and size is not None and state.is_world_process_zero:
        logger.warning(
            "The training set is small (%s) and is read %.1f times, and nothing protects the core: in such runs models "
            "lose other languages. Train one epoch, mix general data in (general_dataset=), or freeze or anchor the core "
            "(core_mask=, protection=); the sentinel shows what happens.",
            size,
            epochs,
        )


def _size(rows: Any, count: int, model: nn.Module) -> str | None:
    """How small the set is, in words; None if it is not."""
    trained = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    lengths = [
        _length(rows[index]) for index in islice(range(0, count, max(1, count // _SAMPLED_ROWS)), _SAMPLED_ROWS)
    ]
    if not lengths or any(length is None for length in lengths):
        return f"{count:,} rows" if count < SMALL_ROWS else None
    tokens = int(sum(length or 0 for length in lengths) / len(lengths) * count)
    is_small = tokens < SMALL_TOKENS_PER_PARAMETER * trained
    return f"about {tokens:,} tokens for {trained:,} trained parameters" if is_small else None


def _length(row: Any) -> int | None:
    ids = row.get("input_ids") if hasattr(row, "get") else None
    return None if ids is None else len(ids)


def _epochs(args: Any, state: Any, dataloader: Any) -> float:
    """How often the set is read; the state's own number of epochs is rounded up, also for a few steps of one."""
    steps = -(-len(dataloader) // args.gradient_accumulation_steps)
    return float(min(state.num_train_epochs, state.max_steps / max(1, steps)))


def _has_core_adapter(model: nn.Module) -> bool:
    configs = getattr(model, "peft_config", None) or {}
    return any(str(getattr(one.peft_type, "value", one.peft_type)) == "CORE_REGION" for one in configs.values())


def _protects(callback: Any) -> bool:
    return isinstance(callback, (CoreFreezeCallback, AnchorCallback))
