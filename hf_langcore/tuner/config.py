"""CoreRegionConfig: what a CORE_REGION adapter is made of, and how that is written into adapter_config.json."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from peft import PeftConfig
from peft.utils.peft_types import PeftType

from hf_langcore.binding import BaseCheck
from hf_langcore.errors import ConfigurationError, InputError
from hf_langcore.hub.references import write_reference
from hf_langcore.masks import CoreMask
from hf_langcore.masks.selection import check_fraction
from hf_langcore.tuner import sources

CombinationType = Literal[
    "svd",
    "linear",
    "cat",
    "ties",
    "ties_svd",
    "dare_linear",
    "dare_linear_svd",
    "dare_ties",
    "dare_ties_svd",
    "magnitude_prune",
    "magnitude_prune_svd",
]
MajoritySign = Literal["total", "frequency"]

METHOD = "CORE_REGION"
"""Name and value of the method in PEFT's enumeration, and `peft_type` in adapter_config.json."""


class TargetParametersError(InputError, TypeError):
    """`target_parameters` is no list; also the error that PEFT raises then."""


@dataclass
class CoreRegionConfig(PeftConfig):  # type: ignore[misc]  # PEFT ships no types
    """Configuration of an adapter that changes a model everywhere but in its core.

    With a core mask M the effective weight is `where(M, W, W + scaling * B @ A)`. The core is either given as
    `core_mask`, or computed from the weights when the model is wrapped, as `method` says; wrapping replaces either
    by the CoreMask itself. Saving writes the mask beside the config, so that an adapter folder needs no other file.

    Attributes:
        core_mask: The core: a CoreMask, or the folder or Hub repository of one. A dict is the description that
            adapter_config.json holds of a mask whose bits come with the adapter's weights.
        core_mask_revision: Revision of the repository.
        method: "magnitude" (the largest weights of every tensor are core) or "random" (the control), instead of
            `core_mask`. On a transformers model the mask covers the decoder layers and the targets, on any other
            module the targets; modules that `modules_to_save` trains in full are left out, with a warning. The config
            then has the mask, too; wrapping another model with the same config computes that one's.
        fraction: Share of every tensor that `method` takes for core, strictly between 0 and 1.
        mask_seed: Seed of method "random".
        r: Rank of the change. 0 makes it dense: one trainable number for every weight.
        lora_alpha: The change is scaled by lora_alpha / r, a dense one by 1.
        lora_dropout: Dropout on the adapter's input, in [0, 1).
        target_modules: Names (endings) of modules, a regular expression, or "all-linear". None takes all linear
            layers that the mask covers.
        target_parameters: Names (endings) of single parameters, such as "experts.gate_up_proj": matrices, or stacks of
            matrices with the experts first, that are no linear layer's weight. Given alone, no modules are targeted.
        exclude_modules: Names or a regular expression of modules that are left alone.
        layers_to_transform: Index or indices of the layers to adapt.
        layers_pattern: Name of the list of layers, for models whose modules have several numbers in their names.
        modules_to_save: Modules to train in full. Refused where they contain core weights.
        trainable_token_indices: Rows of the embeddings to train. Refused where they contain core weights.
        allow_core_changes: Let `modules_to_save` and `trainable_token_indices` change core weights, with a warning.
        rank_pattern: Names (endings or regular expressions) of modules -> another rank than `r`.
        alpha_pattern: The same for `lora_alpha`.
        use_rslora: Scale by lora_alpha / sqrt(r).
        init_weights: Start without any change; False starts from random numbers, for tests.
        fan_in_fan_out: As in LoRA; recognised by itself.
        base_check: "error", "warn" or "off": what to do where the mask was found on other weights. A mask that was
            computed by `method` never gets more than a warning.

    Raises:
        ConfigurationError: Options contradict each other.
        InputError: A value is outside its range.
    """

    core_mask: CoreMask | str | dict[str, Any] | None = None
    core_mask_revision: str | None = None
    method: str | None = None
    fraction: float = 0.03
    mask_seed: int = 0
    r: int = 8
    lora_alpha: float = 8
    lora_dropout: float = 0.0
    target_modules: list[str] | str | None = None
    target_parameters: list[str] | None = None
    exclude_modules: list[str] | str | None = None
    layers_to_transform: list[int] | int | None = None
    layers_pattern: list[str] | str | None = None
    modules_to_save: list[str] | None = None
    trainable_token_indices: list[int] | dict[str, list[int]] | None = None
    allow_core_changes: bool = False
    rank_pattern: dict[str, int] = field(default_factory=dict)
    alpha_pattern: dict[str, float] = field(default_factory=dict)
    use_rslora: bool = False
    init_weights: bool = True
    fan_in_fan_out: bool = False
    base_check: str = "error"

    def __post_init__(self) -> None:
        super().__post_init__()
        self.peft_type = PeftType(METHOD)
        self.target_modules = _as_set(self.target_modules)
        self.exclude_modules = _as_set(self.exclude_modules)
        self._check_source()
        self._check_values()
        self._check_layers()

    was_computed = False  # no field: by wrapping a model, so that wrapping another one computes anew

    @property
    def is_to_be_computed(self) -> bool:
        """Whether wrapping a model has to compute the mask from its weights."""
        return self.method is not None and (self.core_mask is None or self.was_computed)

    def to_dict(self) -> dict[str, Any]:
        """All fields as plain JSON values; a CoreMask as its description, without its bits."""
        values: dict[str, Any] = super().to_dict()
        values["peft_type"] = METHOD
        if isinstance(self.core_mask, CoreMask):
            values["core_mask"] = sources.describe(self.core_mask)
        return {name: sorted(value) if isinstance(value, set) else value for name, value in values.items()}

    def save_pretrained(self, save_directory: str, **kwargs: Any) -> None:
        """Write adapter_config.json and, beside it, the core mask.

        Args:
            save_directory: Folder; made if it is missing. A mask that is there already is replaced.
            **kwargs: What PEFT passes: `auto_mapping_dict`.
        """
        if isinstance(self.core_mask, str):
            self.core_mask = sources.load_core_mask(self.core_mask, self.core_mask_revision)
        super().save_pretrained(save_directory, **kwargs)
        if isinstance(self.core_mask, CoreMask):
            sources.without_paths(self.core_mask).save_pretrained(save_directory, overwrite=True)
            write_reference(save_directory, self.core_mask)

    @classmethod
    def from_pretrained(
        cls, pretrained_model_name_or_path: str, subfolder: str | None = None, **kwargs: Any
    ) -> CoreRegionConfig:
        """Load a config and the core mask that lies beside it.

        Args:
            pretrained_model_name_or_path: Folder or Hub repository of the adapter.
            subfolder: Folder in it.
            **kwargs: What PEFT passes: `revision`, `token`, `cache_dir` and other options of the download.

        Raises:
            CoreMaskFormatError: The mask is damaged or is not the one that the config names.
        """
        location = str(pretrained_model_name_or_path)
        config: CoreRegionConfig = super().from_pretrained(location, subfolder=subfolder, **kwargs)
        if isinstance(config, cls) and isinstance(config.core_mask, dict):
            download, _, _ = cls._split_kwargs(kwargs)
            config.core_mask = sources.saved_core_mask(location, subfolder, config.core_mask, download)
        return config

    def _check_source(self) -> None:
        given: Any = self.core_mask
        if isinstance(given, os.PathLike):
            given = self.core_mask = os.fspath(given)
        fits = given is None or isinstance(given, (CoreMask, str)) or (isinstance(given, dict) and "digest" in given)
        if not fits:
            raise InputError(
                f"core_mask takes a CoreMask or the folder or repository of one, got {type(given).__name__}. Boolean "
                "tensors by name make a mask with CoreMask({name: tensor})."
            )
        computed = isinstance(given, CoreMask) and given.provenance.method == self.method
        if given is not None and self.method is not None and not computed and not isinstance(given, dict):
            raise ConfigurationError(
                f"core_mask and method={self.method!r} both say what the core is. Give one of them: core_mask for a "
                "core that was found before, method to compute it from the weights."
            )
        if self.core_mask_revision is not None and given is None:
            raise ConfigurationError("core_mask_revision needs a core_mask: the repository that the revision is of.")

    def _check_values(self) -> None:
        check_fraction(self.fraction)
        if self.method is not None and self.method not in sources.METHODS:
            raise InputError(
                f"method must be one of {list(sources.METHODS)}, got {self.method!r}. Cores that need text are found "
                "with compute_core_mask and given as core_mask."
            )
        for rank in (self.r, *self.rank_pattern.values()):
            if isinstance(rank, bool) or not isinstance(rank, int) or rank < 0:
                raise InputError(f"r must be a whole number, 0 (dense) or larger, got {rank!r}.")
        if not 0 <= self.lora_dropout < 1:
            raise InputError(f"lora_dropout must be at least 0 and below 1, got {self.lora_dropout!r}.")
        if self.base_check not in get_args(BaseCheck):
            raise InputError(f"base_check must be one of {list(get_args(BaseCheck))}, got {self.base_check!r}.")

    def _check_layers(self) -> None:
        if isinstance(self.target_parameters, str):
            raise TargetParametersError(
                f"`target_parameters` must be a list of strings or None, got {self.target_parameters!r}. Put it in a list."
            )
        for name in ("layers_to_transform", "layers_pattern"):
            if isinstance(self.target_modules, str) and getattr(self, name) is not None:
                raise ConfigurationError(
                    f"`{name}` cannot be used when `target_modules` is a str. {self.target_modules!r} already says which "
                    "layers. Give a list of names, or None for all."
                )
        if self.layers_pattern and self.layers_to_transform is None:
            raise ConfigurationError(
                "When `layers_pattern` is specified, `layers_to_transform` must also be specified: the indices of the layers."
            )


def _as_set(names: Any) -> Any:
    """Lists of names as sets, as PEFT expects them."""
    return set(names) if isinstance(names, (list, tuple)) else names
