"""What protects a run, chosen from arguments and configuration: frozen core, anchor, and the damage to recover from."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from torch import nn
from transformers import TrainerCallback

from hf_langcore.binding import bind
from hf_langcore.editing import perturb
from hf_langcore.errors import ConfigurationError, InputError, UnsupportedModelError
from hf_langcore.masks import CoreMask, ImportanceScores
from hf_langcore.training.anchor import AnchorCallback, check_strength
from hf_langcore.training.freeze import CoreFreezeCallback
from hf_langcore.training.support import require_trainable

Protect = Literal["freeze", "anchor", "none"]
Damage = Literal["zero", "noise", "shuffle", "mean", "reinit"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Protection:
    """The callbacks of a run, and what is done to its core beforehand.

    Attributes:
        core_mask: The core; None where none was given.
        freeze: Keeps the core; None where it is free.
        anchor: Pulls towards the base; None where nothing does.
        damage: How the core is damaged before training; None where it is not.
        base_check: What to do when the mask was found on other weights.
        seed: Of the damage.
    """

    core_mask: CoreMask | None
    freeze: CoreFreezeCallback | None
    anchor: AnchorCallback | None
    damage: str | None
    base_check: str
    seed: int

    @property
    def callbacks(self) -> list[TrainerCallback]:
        """The anchor first, so that the freeze has the last word."""
        return [callback for callback in (self.anchor, self.freeze) if callback is not None]

    def check(self, model: nn.Module, args: Any, *, base_check: str) -> None:
        """Compare model and mask, before rows are tokenised or after the Trainer has loaded the model.

        Args:
            model: The model.
            args: TrainingArguments.
            base_check: How strictly weights are compared; names and shapes always are.

        Raises:
            CoreMaskMismatchError: The mask does not fit.
            UnsupportedModelError: The model cannot be trained in place.
        """
        if self.callbacks:
            require_trainable(model, args)
        if self.core_mask is not None:
            bind(model, self.core_mask, base_check=base_check if _has_values(model) else "off")

    def apply_damage(self, model: nn.Module) -> None:
        """Damage the core for good: the starting point of the recovery experiment.

        Raises:
            UnsupportedModelError: The parameters are partitioned already.
        """
        if self.damage is None or self.core_mask is None:
            return
        if any(hasattr(parameter, "ds_id") for parameter in model.parameters()):
            raise UnsupportedModelError(
                "core_damage cannot edit weights that ZeRO-3 partitions while they are loaded. Damage the model beforehand "
                "(hf_langcore.perturb, save_pretrained) and train that folder with base_check='warn'."
            )
        base_check = self.base_check if _has_values(model) else "off"
        handle = perturb(model, self.core_mask, how=self.damage, seed=self.seed, base_check=base_check)  # type: ignore[arg-type]
        logger.warning("core_damage=%r: %d core weights were damaged before training.", self.damage, handle.num_edited)
        handle.keep()


def protection_of(
    args: Any,
    *,
    core_mask: CoreMask | str | Path | None,
    anchor_importance: ImportanceScores | str | Path | None,
    anchor_base: nn.Module | str | Path | None,
    has_adapter: bool,
    is_quantized: bool,
) -> Protection:
    """Read what protects a run.

    Args:
        args: A CoreRegionSFTConfig, or plainer arguments, which freeze.
        core_mask: The trainer's argument.
        anchor_importance: The trainer's argument.
        anchor_base: The trainer's argument.
        has_adapter: Whether adapters are trained instead of the weights.
        is_quantized: Whether the base weights will be quantised.

    Raises:
        ConfigurationError: Options contradict each other.
        UnsupportedModelError: Weights that are frozen or anchored would be quantised.
    """
    protection = getattr(args, "protection", "freeze")
    damage = getattr(args, "core_damage", None)
    check_protection(protection=protection, damage=damage)
    core_mask = core_mask if core_mask is not None else getattr(args, "core_mask", None)
    revision = getattr(args, "core_mask_revision", None)
    if revision is not None and not isinstance(core_mask, str):
        raise ConfigurationError("core_mask_revision needs core_mask to be the Hub id that the revision is of.")
    anchored = protection == "anchor"
    _require_one_protection(core_mask, anchored=anchored, has_adapter=has_adapter, is_quantized=is_quantized)
    if damage is not None and core_mask is None:
        raise ConfigurationError("core_damage needs a core_mask, which says what is damaged before training.")
    if damage is not None and anchored:
        raise ConfigurationError(
            'core_damage and protection="anchor" exclude each other: an anchor would pull towards the damage. Use "freeze" or '
            '"none", or damage a copy beforehand and name it as the model.'
        )
    region: CoreMask | None = core_mask if isinstance(core_mask, CoreMask) else None
    if core_mask is not None and not isinstance(core_mask, CoreMask):
        region = CoreMask.from_pretrained(core_mask, revision=revision)
    base_check = getattr(args, "base_check", "error")
    importance = anchor_importance if anchor_importance is not None else getattr(args, "anchor_importance", None)
    base = anchor_base if anchor_base is not None else getattr(args, "anchor_base", None)
    if not anchored and (importance is not None or base is not None):
        raise ConfigurationError('anchor_importance and anchor_base belong to protection="anchor"; set that too.')
    freeze = None
    if region is not None and protection != "none":
        freeze = CoreFreezeCallback(
            region,
            base_check="off" if damage is not None else base_check,  # damaged weights are compared before that
            mask_gradients=getattr(args, "mask_gradients", False),
        )
    anchor = None
    if anchored:
        anchor = AnchorCallback(args.anchor_strength, importance=importance, base_values=base)
    if freeze is None and anchor is None and not has_adapter:
        logger.warning(
            "Neither a core_mask that is frozen, nor an anchor, nor an adapter is given: nothing protects the core in this run."
        )
    return Protection(region, freeze, anchor, damage, base_check, getattr(args, "seed", 0))


def _has_values(model: nn.Module) -> bool:
    """Whether the weights were loaded in this process: with FSDP's memory-saving loading only the first one has them."""
    if any(parameter.is_meta or hasattr(parameter, "ds_id") for parameter in model.parameters()):
        return False
    saves_memory = all(
        os.environ.get(name, "false").lower() in {"true", "1"}
        for name in ("ACCELERATE_USE_FSDP", "FSDP_CPU_RAM_EFFICIENT_LOADING")
    )
    return not saves_memory or int(os.environ.get("LOCAL_RANK", "0")) == 0


def check_protection(*, protection: str, damage: str | None = None, anchor_strength: float = 0.01) -> None:
    """Refuse words and numbers that mean nothing.

    Raises:
        InputError: One is out of range; the message says which.
    """
    if protection not in get_args(Protect):
        raise InputError(
            f"protection must be one of {list(get_args(Protect))}, got {protection!r}. A core_mask is frozen with the first "
            "two; anchors are added by the second."
        )
    if damage is not None and damage not in get_args(Damage):
        raise InputError(f"core_damage must be one of {list(get_args(Damage))} or None, got {damage!r}.")
    check_strength(anchor_strength)


def _require_one_protection(core_mask: object, *, anchored: bool, has_adapter: bool, is_quantized: bool) -> None:
    if core_mask is not None and has_adapter:
        raise ConfigurationError(
            "core_mask freezes the core in full fine-tuning, and an adapter (peft_config) trains no base weight at "
            "all: give one of them. CoreRegionConfig(core_mask=...) is the adapter that keeps out of the core."
        )
    if anchored and has_adapter:
        raise ConfigurationError(
            'protection="anchor" pulls base weights back, and an adapter (peft_config) trains none: give one of them.'
        )
    if is_quantized and (core_mask is not None or anchored):
        raise UnsupportedModelError(
            "core_mask and anchors need full-precision weights, and quantization_config quantises them. Leave one out, or "
            "use an adapter (peft_config=CoreRegionConfig(...))."
        )
