"""Which modules an adapter changes, and whether its core mask allows that. Everything is checked before any change."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils.error import NoMatchingPeftModuleError
from torch import nn
from transformers.pytorch_utils import Conv1D

from hf_langcore.architecture import aliases, bare_weights
from hf_langcore.binding import bind
from hf_langcore.errors import ConfigurationError, CoreMaskMismatchError, InputError, UnsupportedModelError
from hf_langcore.masks import CoreMask, PackedBits
from hf_langcore.tuner.config import CoreRegionConfig

Matches = Callable[[CoreRegionConfig, str], Any]
"""PEFT's rule: does this config target the module of this name?"""


class NoTargetError(InputError, NoMatchingPeftModuleError):  # type: ignore[misc]  # PEFT ships no types
    """The targets match no module; also the error that PEFT raises then."""


@dataclass(frozen=True)
class Targets:
    """A model's weights and the core mask that an adapter has to respect.

    Attributes:
        core_mask: The mask, or None where its bits come with the adapter's weights.
        names: id of a parameter -> its name in the bare model.
        tied: Names of parameters that are used in two places.
    """

    core_mask: CoreMask | None
    names: Mapping[int, str]
    tied: frozenset[str]

    @classmethod
    def of(cls, model: nn.Module, core_mask: CoreMask | None, *, base_check: str) -> Targets:
        """Look the model's weights up, after checking that the mask was found on them.

        Raises:
            CoreMaskMismatchError: Names, shapes or weights do not fit.
            ConfigurationError: An adapter is merged, so that the base weights are not there.
        """
        weights = bare_weights(model)
        if any(isinstance(module, BaseTunerLayer) and module.merged for module in model.modules()):
            raise ConfigurationError(
                "Another adapter is merged into the weights, so they are not those of the base model. Call "
                "unmerge_adapter() before adding an adapter."
            )
        if core_mask is not None:
            has_values = all(weight.parameter.device.type != "meta" for weight in weights.values())
            bind(model, core_mask, base_check=base_check if has_values else "off")
        return cls(
            core_mask,
            {id(weight.parameter): name for name, weight in weights.items()},
            frozenset(aliases(model).values()),
        )

    def name_of(self, key: str, module: nn.Module) -> str:
        """Name of the weight of a targeted module.

        Args:
            key: The module's name, for messages.
            module: The module, bare or with adapters of this method.

        Raises:
            UnsupportedModelError: It is no linear layer with ordinary weights of its own.
            CoreMaskMismatchError: The mask does not cover it.
        """
        weight = _linear_weight(key, module)
        name = self.names.get(id(weight), f"{key}.weight")
        if name in self.tied:
            raise UnsupportedModelError(
                f"Module {key!r} cannot be adapted: its weight {name!r} is used in two places, so a change for one would "
                "change the other. Leave it out of target_modules, or load the model with tie_word_embeddings=False."
            )
        if self.core_mask is not None and name not in self.core_mask:
            raise CoreMaskMismatchError(
                f"Module {key!r} is targeted, but the mask does not cover its weight {name!r}, so nobody knows what is "
                f"core there. It covers {len(self.core_mask)} tensors, such as {next(iter(self.core_mask))!r}. Leave "
                "target_modules out to adapt all linear layers that the mask covers, or exclude the module with "
                "exclude_modules."
            )
        return name

    def core(self, name: str) -> PackedBits | None:
        """The core of one weight; None where the mask's bits are not known yet."""
        return None if self.core_mask is None else self.core_mask.packed(name)

    def all_covered(self, model: nn.Module, config: CoreRegionConfig, matches: Matches) -> set[str]:
        """What `target_modules=None` means: the linear layers that the mask covers, except the LM head.

        `exclude_modules`, `layers_to_transform` and `modules_to_save` apply as they do to named targets.

        Raises:
            ConfigurationError: The mask is not known.
            NoTargetError: None is left.
        """
        if self.core_mask is None:
            raise ConfigurationError(
                "target_modules is needed where only the description of a mask is known. Name the modules, or load "
                "the config with CoreRegionConfig.from_pretrained, which brings the mask."
            )
        head = getattr(model, "get_output_embeddings", lambda: None)()
        covered = [
            key
            for key, module in _adaptable_modules(model)
            if module is not head and self.names.get(id(_base_layer(module).weight), "") in self.core_mask
        ]
        by_ending = copy.copy(config)
        by_ending.target_modules = {key.rpartition(".")[2] for key in covered}  # type: ignore[assignment]
        targets = {key for key in covered if matches(by_ending, key)}
        if not targets:
            raise NoTargetError(
                f"The mask covers no linear layer that could be adapted: of its {len(self.core_mask)} tensors, "
                f"{len(covered)} are weights of linear layers, and exclude_modules={config.exclude_modules}, "
                f"layers_to_transform={config.layers_to_transform} and modules_to_save={config.modules_to_save} leave "
                "none of them."
            )
        return targets

    def check_targets(self, model: nn.Module, config: CoreRegionConfig, matches: Matches) -> None:
        """Refuse targets that cannot be adapted.

        Raises:
            NoTargetError: Nothing is targeted.
            UnsupportedModelError: A target is no linear layer.
            CoreMaskMismatchError: A target is not covered.
        """
        targeted = [(key, module) for key, module in _outside_tuner_layers(model) if matches(config, key)]
        for key, module in targeted:
            self.name_of(key, module)
        if not targeted:
            raise NoTargetError(
                f"Target modules {config.target_modules} not found in the base model. Please check the target modules "
                f"and try again. exclude_modules={config.exclude_modules}, layers_to_transform="
                f"{config.layers_to_transform} and layers_pattern={config.layers_pattern} were taken into account; "
                "target_modules=None adapts all linear layers that the mask covers."
            )

    def check_full_training(self, model: nn.Module, config: CoreRegionConfig) -> None:
        """Refuse `modules_to_save` and trainable tokens that contain core weights.

        Raises:
            ConfigurationError: They do.
        """
        if self.core_mask is None:
            return  # was checked when the adapter was made
        endings = tuple(config.modules_to_save or ())
        for key, module in _ending_with(model, endings):
            for parameter in module.parameters():
                self._require_no_core(f"modules_to_save trains {key!r}", parameter, rows=None)
        for key, module, rows in _trained_tokens(model, config):
            self._require_no_core(f"trainable_token_indices trains rows of {key!r}", _base_layer(module).weight, rows)

    def _require_no_core(self, what: str, parameter: object, rows: list[int] | None) -> None:
        name = self.names.get(id(parameter), "")
        if self.core_mask is None or name not in self.core_mask:
            return
        core = self.core_mask[name]
        count = int((core if rows is None else core[rows]).sum())
        if count:
            raise ConfigurationError(
                f"{what} in full, but {count:,} of the weights in {name!r} are core and would change. Leave it out, or "
                "use a mask that does not cover this tensor."
            )


def _linear_weight(key: str, module: nn.Module) -> torch.Tensor:
    base = _base_layer(module)
    if isinstance(module, BaseTunerLayer) and isinstance(base, BaseTunerLayer):
        raise UnsupportedModelError(
            f"Module {key!r} carries adapters of two PEFT methods. Unload the other adapters before adding this one."
        )
    if not isinstance(base, (nn.Linear, Conv1D)):
        raise UnsupportedModelError(
            f"Target module {key!r} is a {type(base).__name__}, which is not supported: CORE_REGION adapts nn.Linear "
            "and transformers' Conv1D. Leave it out of target_modules, or name the linear layers in it."
        )
    weight: torch.Tensor = base.weight
    if not weight.dtype.is_floating_point:
        raise UnsupportedModelError(
            f"Target module {key!r} has quantised weights ({weight.dtype}): a merge could not keep the core exact. Load "
            "the model in bfloat16 or float32."
        )
    return weight


def _base_layer(module: nn.Module) -> Any:
    """The module inside a layer with adapters of this method; other methods' layers are not looked into."""
    return module.base_layer if _is_ours(module) else module


def _is_ours(module: nn.Module) -> bool:
    return isinstance(module, BaseTunerLayer) and hasattr(module, "core_region_mask")


def _outside_tuner_layers(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """All modules but those inside adapter layers; the layers themselves are there."""
    layer = ""
    for key, module in model.named_modules():
        if key and not (layer and key.startswith(f"{layer}.")):
            yield key, module
            layer = key if isinstance(module, BaseTunerLayer) else ""


def _adaptable_modules(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    for key, module in _outside_tuner_layers(model):
        if isinstance(_base_layer(module), (nn.Linear, Conv1D)):
            yield key, module


def _ending_with(model: nn.Module, endings: Iterable[str]) -> Iterator[tuple[str, nn.Module]]:
    """Modules whose name has one of these endings, which is PEFT's rule for modules that are trained in full."""
    endings = tuple(endings)
    for key, module in model.named_modules(remove_duplicate=False):
        if endings and key.endswith(endings):
            yield key, module


def _trained_tokens(model: nn.Module, config: CoreRegionConfig) -> Iterator[tuple[str, nn.Module, list[int]]]:
    """Modules of which `trainable_token_indices` trains rows, and the rows."""
    tokens = config.trainable_token_indices
    if isinstance(tokens, dict):
        for ending, rows in tokens.items():
            yield from ((key, module, list(rows)) for key, module in _ending_with(model, [ending]))
    elif tokens:
        embeddings = getattr(model, "get_input_embeddings", lambda: None)()
        if embeddings is not None:
            yield "the input embeddings", embeddings, list(tokens)
