"""CoreRegionModel: the PEFT tuner."""

from __future__ import annotations

import warnings
from functools import reduce
from pathlib import Path
from typing import Any

from peft import PeftConfig, PeftModel, get_peft_model
from peft.tuners.tuners_utils import BaseTuner, _maybe_include_all_linear_layers
from peft.utils.error import NoMatchingPeftModuleError
from torch import nn

from hf_langcore.architecture import bare_weights
from hf_langcore.auto import auto_class_for
from hf_langcore.errors import ConfigurationError, InputError
from hf_langcore.masks import CoreMask, PackedBits, Provenance
from hf_langcore.tuner import sources
from hf_langcore.tuner.card import AdapterCard
from hf_langcore.tuner.combining import WeightedAdapters
from hf_langcore.tuner.config import CoreRegionConfig
from hf_langcore.tuner.cores import Elsewhere
from hf_langcore.tuner.dequantizing import keep_plain_layout
from hf_langcore.tuner.edits import EditMethods
from hf_langcore.tuner.embedding import CoreRegionEmbedding
from hf_langcore.tuner.export import AdapterExport
from hf_langcore.tuner.layer import CoreRegionLayer, tuner_layers
from hf_langcore.tuner.linear import CoreRegionLinear
from hf_langcore.tuner.mixing import MixedBatches
from hf_langcore.tuner.parameters import ParamWrapper
from hf_langcore.tuner.quantized import QuantizedBases
from hf_langcore.tuner.saving import AdapterSaving
from hf_langcore.tuner.states import AdapterStates
from hf_langcore.tuner.targets import NoTargetError, Targets


class CoreRegionModel(
    EditMethods,
    AdapterSaving,
    AdapterCard,
    AdapterStates,
    AdapterExport,
    WeightedAdapters,
    MixedBatches,
    QuantizedBases,
    BaseTuner,  # type: ignore[misc]  # PEFT ships no types
):
    """A model with adapters that never touch its core.

    Made by `get_peft_model(model, CoreRegionConfig(...))`, `PeftModel.from_pretrained` or `from_pretrained` here;
    all methods can be called on the PeftModel, too. Merging, disabling, switching and saving work as with other
    PEFT methods. Adapters with different masks can be loaded side by side: those that act together keep off the
    union of their cores.

    Example:
        >>> from hf_langcore.tuner import CoreRegionConfig  # doctest: +SKIP
        >>> model = get_peft_model(base, CoreRegionConfig(core_mask="my-core", r=16))  # doctest: +SKIP
        >>> model.get_nb_protected()  # doctest: +SKIP
        1048576
    """

    prefix = "core_region_"
    tuner_layer_cls = CoreRegionLayer
    target_module_mapping: dict[str, list[str]] = {}  # noqa: RUF012 PEFT declares it so; the mask says what to target

    _targets: Targets | None = None
    _masks: dict[str, Any] | None = None  # by adapter: a config that several models share holds the last one's

    @classmethod
    def from_pretrained(
        cls,
        model_id: str | Path,
        *,
        core_mask: CoreMask | str | Path | None = None,
        adapter: str | Path | None = None,
        adapter_name: str = "default",
        dtype: Any = None,
        revision: str | None = None,
        device_map: Any = None,
        trust_remote_code: bool = False,
        is_trainable: bool = False,
        base_check: str = "error",
    ) -> PeftModel:
        """Load a causal language model together with a core mask or a trained adapter.

        Args:
            model_id: Folder or Hub repository of the base model.
            core_mask: Mask, folder or repository: adds a fresh adapter (r=8) that changes nothing until trained.
            adapter: Folder or repository of a CORE_REGION adapter. Exactly one of the two must be given.
            adapter_name: What the adapter is to be called.
            dtype: torch dtype of the base model; None as transformers decides.
            revision: Revision of the base model.
            device_map: As in transformers.
            trust_remote_code: As in transformers.
            is_trainable: Load `adapter` for further training. A fresh adapter can always be trained.
            base_check: "error", "warn" or "off" where the mask was found on other weights.

        Returns:
            A PeftModel whose `.base_model` is the CoreRegionModel.

        Raises:
            ConfigurationError: Both or neither of `core_mask` and `adapter` were given.
            InputError: `adapter` is of another PEFT method.
            CoreMaskMismatchError: The mask does not belong to the model.
        """
        if (core_mask is None) == (adapter is None):
            given = "neither" if core_mask is None else "both"
            raise ConfigurationError(f"from_pretrained takes exactly one of core_mask= and adapter=, got {given}.")
        config = _fresh_config(core_mask, base_check) if adapter is None else _trained_config(adapter, base_check)
        options = {} if dtype is None else {"dtype": dtype}
        auto_class = auto_class_for(str(model_id), revision=revision, trust_remote_code=trust_remote_code)
        base = auto_class.from_pretrained(
            str(model_id), revision=revision, device_map=device_map, trust_remote_code=trust_remote_code, **options
        )
        if adapter is None:
            return get_peft_model(base, config, adapter_name=adapter_name)
        return PeftModel.from_pretrained(
            base, str(adapter), adapter_name=adapter_name, is_trainable=is_trainable, config=config
        )

    @property
    def core_mask(self) -> CoreMask:
        """The core mask of the active adapter; of several, the union, which is what they keep off together.

        It covers every tensor that one of the masks covers.

        Raises:
            InputError: No adapter is active.
        """
        if not self.active_adapters:
            raise InputError("No adapter is active, so there is no core mask. Choose one with set_adapter(name).")
        return reduce(sources.united, [self._mask_of(name) for name in self.active_adapters])

    def get_nb_protected(self) -> int:
        """Number of weights, in the layers that the active adapters change, that they keep as they are."""
        layers = [(layer, layer._here(self.active_adapters)) for layer in tuner_layers(self.model)]  # noqa: SLF001 its own
        return sum(layer._core(self.active_adapters).count() for layer, names in layers if names)  # noqa: SLF001

    def inject_adapter(
        self,
        model: nn.Module,
        adapter_name: str,
        autocast_adapter_dtype: bool = True,  # noqa: FBT001, FBT002 PEFT's signature
        low_cpu_mem_usage: bool = False,  # noqa: FBT001, FBT002
        state_dict: dict[str, Any] | None = None,
    ) -> None:
        """Add an adapter; called by PEFT. What was looked up about the model for that is forgotten afterwards.

        With a state dict and `low_cpu_mem_usage` nothing has values until that is loaded, the masks' bits neither.
        """
        if self._masks is None:
            # transformers makes a tuner for every adapter: all of a model share one dictionary.
            shared = (layer.masks_of_all for layer in tuner_layers(model))
            self._masks = next(shared, {})
        try:
            super().inject_adapter(
                model,
                adapter_name,
                autocast_adapter_dtype=autocast_adapter_dtype,
                low_cpu_mem_usage=low_cpu_mem_usage,
                state_dict=state_dict,
            )
        except NoMatchingPeftModuleError as error:
            raise NoTargetError(
                f"{error} CORE_REGION takes target_modules=None for all linear layers that the mask covers."
            ) from error
        finally:
            self._targets = None
        self._masks[adapter_name] = self.peft_config[adapter_name].core_mask
        if low_cpu_mem_usage and state_dict is not None:
            for layer in tuner_layers(model):
                layer.bits_to_meta(adapter_name)

    def _prepare_adapter_config(self, peft_config: CoreRegionConfig, model_config: Any) -> CoreRegionConfig:  # noqa: ARG002 PEFT's
        """Replace the name of a mask by the mask itself; called by PEFT."""
        if isinstance(peft_config.core_mask, str):
            peft_config.core_mask = sources.load_core_mask(peft_config.core_mask, peft_config.core_mask_revision)
        elif peft_config.core_mask is None and peft_config.method is None:
            raise ConfigurationError(
                "CoreRegionConfig does not say what the core is. Pass core_mask= (a CoreMask, or the folder or "
                'repository of one), or method="magnitude" to compute one from the weights.'
            )
        return peft_config

    def _prepare_model(self, peft_config: CoreRegionConfig, model: nn.Module) -> None:
        """Check everything that could go wrong, before PEFT changes the first module; called by PEFT."""
        keep_plain_layout(model)
        if isinstance(peft_config.core_mask, CoreMask):
            peft_config.core_mask = sources.in_todays_names(peft_config.core_mask, model)
        known = None if peft_config.is_to_be_computed else _known_mask(peft_config)
        targets = Targets.of(model, known, base_check=_base_check(peft_config))
        _maybe_include_all_linear_layers(peft_config, model)
        if peft_config.is_to_be_computed:
            targets = self._with_computed_mask(peft_config, model, targets)
        if peft_config.target_modules is None and not peft_config.target_parameters:
            matches = self._check_target_module_exists
            peft_config.target_modules = targets.all_covered(model, peft_config, matches)  # type: ignore[assignment]
        targets.check_targets(model, peft_config, self._check_target_module_exists)
        targets.check_full_training(model, peft_config)
        self._check_same_parameters(peft_config)
        self._targets = targets

    def _with_computed_mask(self, peft_config: CoreRegionConfig, model: nn.Module, targets: Targets) -> Targets:
        weights = targets.computed_over(model, peft_config, self._check_target_module_exists)
        if not weights:
            return targets  # nothing is targeted, which PEFT is about to say
        method: Any = peft_config.method
        peft_config.core_mask = sources.computed_core_mask(
            model, weights, method=method, fraction=peft_config.fraction, seed=peft_config.mask_seed
        )
        peft_config.was_computed = True
        return Targets.of(model, peft_config.core_mask, base_check="off")

    def _check_same_parameters(self, peft_config: CoreRegionConfig) -> None:
        """Wrappers of parameters nest in a fixed order, so that their names in files fit together."""
        wanted = set(peft_config.target_parameters or ())
        for name, other in self.peft_config.items():
            if (
                other is not peft_config
                and set(other.target_parameters or ()) != wanted
                and (wanted or other.target_parameters)
            ):
                raise ConfigurationError(
                    f"With target_parameters, all adapters must target the same set of parameters: {name!r} has "
                    f"{other.target_parameters}, the new one {peft_config.target_parameters}."
                )

    def _create_and_replace(  # noqa: PLR0917 PEFT's signature
        self,
        peft_config: CoreRegionConfig,
        adapter_name: str,
        target: nn.Module,
        target_name: str,
        parent: nn.Module,
        current_key: str,
        parameter_name: str | None = None,
    ) -> None:
        """Give one module the adapter; called by PEFT."""
        if self._targets is None:
            raise InputError("Adapters are added with get_peft_model, add_adapter or load_adapter.")
        name = self._targets.name_of(current_key, target, parameter_name)
        core = self._targets.core(name)
        if isinstance(target, CoreRegionLayer) and target.holds(parameter_name):
            target.update_layer(adapter_name, core, config=peft_config, key=current_key)
            return
        assert self._masks is not None  # noqa: S101 inject_adapter made it
        options: dict[str, Any] = {
            "config": peft_config,
            "key": current_key,
            "elsewhere": Elsewhere(self._masks, name),
        }
        layer: nn.Module
        if parameter_name is not None:
            layer = ParamWrapper(target, adapter_name, core, parameter_name=parameter_name, **options)
        else:
            kind = CoreRegionEmbedding if isinstance(target, nn.Embedding) else CoreRegionLinear
            layer = kind(target, adapter_name, core, is_tied=name in self._targets.tied, **options)
        if adapter_name not in self.active_adapters:
            layer.requires_grad_(False)
        self._replace_module(parent, target_name, layer, target)

    def _replace_module(self, parent: nn.Module, child_name: str, new_module: nn.Module, child: nn.Module) -> None:  # noqa: ARG002
        """Put a module in its place; called by PEFT. The layers have moved their adapters to the right device already."""
        setattr(parent, child_name, new_module)

    def _mask_of(self, adapter_name: str) -> CoreMask:
        """The mask of an adapter; where the config only describes it, rebuilt from the layers' bits."""
        given = (self._masks or {}).get(adapter_name, self.peft_config[adapter_name].core_mask)
        if isinstance(given, CoreMask):
            return given
        names = {id(weight.parameter): name for name, weight in bare_weights(self.model).items()}
        planes = {
            names[id(layer.adapted)]: PackedBits.from_bool(layer.core_mask(adapter_name))
            for layer in tuner_layers(self.model)
            if adapter_name in layer.core_region_mask
        }
        known = {key: value for key, value in given["provenance"].items() if key != "base_fingerprint"}
        return CoreMask(planes, provenance=Provenance.from_dict(known))


def _known_mask(config: CoreRegionConfig) -> CoreMask | None:
    if isinstance(config.core_mask, CoreMask):
        return config.core_mask
    if config.core_mask is not None and not config.inference_mode:
        warnings.warn(
            "The config only describes its core mask, so every weight stays protected until a state dict brings the "
            "bits. That is right while a saved adapter is being loaded. For a fresh adapter load the config with "
            "CoreRegionConfig.from_pretrained, which brings the mask.",
            stacklevel=2,
        )
    return None


def _base_check(config: CoreRegionConfig) -> str:
    """A computed mask is a control or a stand-in; on other weights it is worth a warning, no more."""
    return "warn" if config.method is not None and config.base_check == "error" else config.base_check


def _fresh_config(core_mask: CoreMask | str | Path | None, base_check: str) -> CoreRegionConfig:
    source = str(core_mask) if isinstance(core_mask, Path) else core_mask
    return CoreRegionConfig(core_mask=source, base_check=base_check, task_type="CAUSAL_LM")


def _trained_config(adapter: str | Path, base_check: str) -> CoreRegionConfig:
    config = PeftConfig.from_pretrained(str(adapter))
    if not isinstance(config, CoreRegionConfig):
        raise InputError(
            f"adapter={str(adapter)!r} is of PEFT method {config.peft_type}, not CORE_REGION. Load it with "
            "PeftModel.from_pretrained."
        )
    config = CoreRegionConfig.from_pretrained(str(adapter))
    config.base_check = base_check
    return config
