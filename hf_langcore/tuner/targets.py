"""Which modules an adapter changes, and whether its core mask allows that. Everything is checked before any change."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils.error import NoMatchingPeftModuleError
from torch import nn
from torch.nn.utils import parametrize
from transformers.pytorch_utils import Conv1D

from hf_langcore.architecture import Weight, aliases, bare_weights, decoder_weights
from hf_langcore.binding import bind
from hf_langcore.errors import ConfigurationError, CoreMaskMismatchError, InputError, UnsupportedModelError
from hf_langcore.masks import CoreMask, PackedBits
from hf_langcore.tuner.config import CoreRegionConfig
from hf_langcore.tuner.dequantizing import is_quantized_linear
from hf_langcore.tuner.embedding import CoreRegionEmbedding

Matches = Callable[[CoreRegionConfig, str], Any]
"""PEFT's rule: does this config target the module of this name?"""


class NoTargetError(InputError, NoMatchingPeftModuleError):  # type: ignore[misc]  # PEFT ships no types
    """The targets match no module; also the error that PEFT raises then."""


class TokensAndTargetError(ConfigurationError, TypeError):
    """Rows of a targeted embedding are to be trained in full; also the error that PEFT raises then."""


@dataclass(frozen=True)
class Targets:
    """A model's weights and the core mask that an adapter has to respect.

    Attributes:
        core_mask: The mask, or None where it is not known: its bits come with the adapter's weights, or it is computed
            from the weights of the targets.
        weights: The model's weights by name.
        names: id of a parameter -> its name in the bare model.
        tied: Names of parameters that are used in two places.
    """

    core_mask: CoreMask | None
    weights: Mapping[str, Weight]
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
            weights,
            {id(weight.parameter): name for name, weight in weights.items()},
            frozenset(aliases(model).values()),
        )

    def name_of(self, key: str, module: nn.Module, parameter_name: str | None = None) -> str:
        """Name of the weight of a target.

        Args:
            key: The target's name, for messages.
            module: The module, bare or with adapters of this method.
            parameter_name: Of the module's parameter, where one is targeted by itself.

        Raises:
            UnsupportedModelError: It is nothing that can be adapted.
            CoreMaskMismatchError: The mask does not cover it.
        """
        if parameter_name is None:
            weight, default = _weight_of(key, module), f"{key}.weight"
        else:
            weight, default = _stored(_innermost(module), parameter_name), key
            _require_plain(key, _innermost(module))
        name = self.names.get(id(weight), default)
        if self.core_mask is not None and name not in self.core_mask:
            raise CoreMaskMismatchError(
                f"{key!r} is targeted, but the mask does not cover its weight {name!r}, so nobody knows what is "
                f"core there. It covers {len(self.core_mask)} tensors, such as {next(iter(self.core_mask))!r}. Leave "
                "target_modules out to adapt all linear layers that the mask covers, or exclude the module with "
                "exclude_modules."
            )
        return name

    def computed_over(self, model: nn.Module, config: CoreRegionConfig, matches: Matches) -> dict[str, Weight]:
        """The weights over which a mask is computed: all targets and, in a transformers model, the decoder layers.

        Other modules may have lists of layers, too, but nobody says what these are.

        Raises:
            UnsupportedModelError: A target cannot be adapted, or the model has neither decoder layers nor targets.
        """
        targets = [self.name_of(key, module) for key, module in _targeted(model, config, matches)]
        targets += [self.name_of(key, module, name) for key, module, name in _targeted_parameters(model, config)]
        is_transformer = hasattr(getattr(model, "config", None), "model_type")
        chosen = decoder_weights(model, quantized=True) if is_transformer else {}
        in_full = {self.names.get(id(parameter)) for parameter in _fully_trained(model, config)} & chosen.keys()
        if in_full and not config.allow_core_changes:
            warnings.warn(
                f"The computed mask leaves out what modules_to_save trains in full: {len(in_full)} tensors, such as "
                f"{min(map(str, in_full))!r}. Nothing protects them.",
                stacklevel=2,
            )
        chosen = {name: weight for name, weight in chosen.items() if name not in in_full}
        return chosen | {name: self.weights[name] for name in targets if name in self.weights}

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
                "target_modules is needed where no mask says which layers it covers: on a model that is not from "
                "transformers, or with the description of a mask only (load that config with "
                "CoreRegionConfig.from_pretrained, which brings the mask). Name the modules."
            )
        head = getattr(model, "get_output_embeddings", lambda: None)()
        covered = [
            key
            for key, module in _linear_modules(model)
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
            UnsupportedModelError: A target cannot be adapted.
            ConfigurationError: A target is named twice, in two ways.
            CoreMaskMismatchError: A target is not covered.
        """
        modules = _targeted(model, config, matches)
        for key, module in modules:
            self.name_of(key, module)
        parameters = _targeted_parameters(model, config)
        as_modules = {id(_innermost(module)) for _, module in modules}
        for key, module, name in parameters:
            self.name_of(key, module, name)
            if id(_innermost(module)) in as_modules:
                raise ConfigurationError(
                    f"Trying to wrap an `nn.Parameter` of layer {key.rpartition('.')[0]!r} of type "
                    f"{type(_innermost(module)).__name__}, which is not a valid target. Make sure that this layer is not "
                    "also targeted with `target_modules`."
                )
        for key, module, _ in _trained_tokens(model, config):
            if id(_innermost(module)) in as_modules:
                raise TokensAndTargetError(
                    f"trainable_token_indices cannot be applied to modules of type {CoreRegionEmbedding}: {key!r} is also "
                    "named by target_modules. Name it in one of the two."
                )

    def check_full_training(self, model: nn.Module, config: CoreRegionConfig) -> None:
        """Refuse `modules_to_save` and trainable tokens that contain core weights, or warn where the config allows it.

        Raises:
            ConfigurationError: They do, and the config does not allow it.
            UnsupportedModelError: They are quantised.
        """
        _require_trainable(model, config)
        found = list(self._core_trained_in_full(model, config))
        if found and config.allow_core_changes:
            warnings.warn(
                f"Core weights will change, as allow_core_changes=True says: {'; '.join(found)}.", stacklevel=2
            )
        elif found:
            raise ConfigurationError(
                f"Core weights would change: {'; '.join(found)}. Leave these out, use a mask that does not cover the "
                "tensors, or accept the change with allow_core_changes=True."
            )

    def _core_trained_in_full(self, model: nn.Module, config: CoreRegionConfig) -> Iterator[str]:
        for key, module in _ending_with(model, config.modules_to_save or ()):
            for parameter in module.parameters():
                yield from self._core_in(f"modules_to_save trains {key!r} in full", parameter, rows=None)
        for key, module, rows in _trained_tokens(model, config):
            weight = _base_layer(module).weight
            yield from self._core_in(f"trainable_token_indices trains rows of {key!r} in full", weight, rows)

    def _core_in(self, what: str, parameter: object, rows: list[int] | None) -> Iterator[str]:
        name = self.names.get(id(parameter), "")
        if self.core_mask is not None and name in self.core_mask:
            core = self.core_mask[name]
            count = int((core if rows is None else core[rows]).sum())
            if count:
                yield f"{what}, but {count:,} of the weights in {name!r} are core"


def _weight_of(key: str, module: nn.Module) -> torch.Tensor:
    base = _base_layer(module)
    if isinstance(base, BaseTunerLayer):
        raise UnsupportedModelError(
            f"Module {key!r} carries adapters of two PEFT methods. Unload the other adapters before adding this one."
        )
    if not isinstance(base, (nn.Linear, Conv1D, nn.Embedding)) and not is_quantized_linear(base):
        raise UnsupportedModelError(
            f"Target module {key!r} is a {type(base).__name__}, which is not supported: CORE_REGION adapts nn.Linear, "
            "transformers' Conv1D, nn.Embedding and quantised linear layers, and single matrices by target_parameters. "
            "Leave it out of target_modules, or name the linear layers in it."
        )
    if (
        isinstance(base, nn.Embedding)
        and type(base).forward is not nn.Embedding.forward
        and not hasattr(base, "embed_scale")
    ):
        raise UnsupportedModelError(
            f"Target module {key!r} is a {type(base).__name__}, which looks its rows up in its own way. Name its weight in "
            f"target_parameters instead: [{key + '.weight'!r}]."
        )
    weight: torch.Tensor = base.weight
    if not weight.dtype.is_floating_point and not is_quantized_linear(base):
        raise UnsupportedModelError(
            f"Target module {key!r} has weights of dtype {weight.dtype}, and no quantisation library that PEFT knows has "
            "made them. Load the model in bfloat16 or float32."
        )
    return weight


def _require_plain(key: str, module: nn.Module) -> None:
    if is_quantized_linear(module):
        raise UnsupportedModelError(
            f"target_parameters names {key!r}, which is quantised: nothing but its layer knows how to compute with it. Name "
            "the layer in target_modules."
        )


def _require_trainable(model: nn.Module, config: CoreRegionConfig) -> None:
    for key, module in _ending_with(model, config.modules_to_save or ()):
        if any(is_quantized_linear(inner) for inner in module.modules()):
            raise UnsupportedModelError(
                f"modules_to_save trains {key!r} in full, but its weights are quantised and take no gradients. Name it in "
                "target_modules (r=0 makes the change dense), or keep it out of quantisation (llm_int8_skip_modules)."
            )


def _targeted(model: nn.Module, config: CoreRegionConfig, matches: Matches) -> list[tuple[str, nn.Module]]:
    """Modules that `target_modules` names; with `target_parameters` alone there are none."""
    if config.target_modules is None and not config.target_parameters:
        return []
    return [(key, module) for key, module in _outside_tuner_layers(model) if matches(config, key)]


def _targeted_parameters(model: nn.Module, config: CoreRegionConfig) -> list[tuple[str, nn.Module, str]]:
    """What `target_parameters` names, by PEFT's rule: (full name, module, name in the module)."""
    wanted = config.target_parameters or ()
    for name, _ in model.named_parameters(recurse=False):
        if name in wanted:
            raise UnsupportedModelError(
                f"Targeting an nn.Parameter on the top-level module is not supported (parameter '{name}')."
            )
    return [
        (f"{key}.{name}", module, name)
        for key, module in _outside_tuner_layers(model)
        for name in _own_parameters(_innermost(module))
        if any(f"{key}.{name}".endswith(f".{ending}") or f"{key}.{name}" == ending for ending in wanted)
    ]


def _own_parameters(module: nn.Module) -> list[str]:
    """Names of a module's own parameters, parametrised ones included."""
    names = [name for name, _ in module.named_parameters(recurse=False)]
    return [*names, *module.parametrizations] if parametrize.is_parametrized(module) else names  # type: ignore[misc]


def _stored(module: nn.Module, name: str) -> Any:
    """The parameter itself, where a parametrisation computes from it what its name reads as."""
    if parametrize.is_parametrized(module, name):
        return module.parametrizations[name].original  # type: ignore[index,union-attr]
    return getattr(module, name)


def _innermost(module: nn.Module) -> nn.Module:
    """The module inside all wrappers of this method."""
    while _is_ours(module):
        module = module.base_layer  # type: ignore[assignment]
    return module


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


def _linear_modules(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    for key, module in _outside_tuner_layers(model):
        base = _base_layer(module)
        if isinstance(base, (nn.Linear, Conv1D)) or is_quantized_linear(base):
            yield key, module


def _ending_with(model: nn.Module, endings: Iterable[str]) -> Iterator[tuple[str, nn.Module]]:
    """Modules whose name has one of these endings, which is PEFT's rule for modules that are trained in full."""
    endings = tuple(endings)
    for key, module in model.named_modules(remove_duplicate=False):
        if endings and key.endswith(endings):
            yield key, module


def _fully_trained(model: nn.Module, config: CoreRegionConfig) -> Iterator[nn.Parameter]:
    for _, module in _ending_with(model, config.modules_to_save or ()):
        yield from module.parameters()


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
