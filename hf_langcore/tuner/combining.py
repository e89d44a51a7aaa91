"""A new adapter as a weighted combination of others, with LoRA's names and ways, around the union of their cores."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from typing import Any, get_args

import torch
from peft.utils import ModulesToSaveWrapper
from peft.utils.merge_utils import dare_linear, dare_ties, magnitude_prune, task_arithmetic, ties
from peft.utils.other import _freeze_adapter
from torch import nn

from hf_langcore.errors import ConfigurationError, InputError
from hf_langcore.masks import CoreMask
from hf_langcore.tuner.config import CombinationType, CoreRegionConfig, MajoritySign
from hf_langcore.tuner.layer import CoreRegionLayer, tuner_layers
from hf_langcore.tuner.sources import united

_SAME_RANK = ("linear", "ties", "dare_linear", "dare_ties", "magnitude_prune")


@dataclass(frozen=True, slots=True)
class _Recipe:
    """How to combine: the options of `add_weighted_adapter`."""

    adapters: Sequence[str]
    weights: Sequence[float]
    kind: str
    rank: int
    clamp: float | None
    full_matrices: bool
    driver: str | None
    density: float | None
    majority_sign_method: MajoritySign

    def combined(self, tensors: list[torch.Tensor], weights: list[float]) -> torch.Tensor:
        """PEFT's own arithmetic for these tensors."""
        factors = torch.tensor(weights, device=tensors[0].device)
        kind = self.kind.removesuffix("_svd")
        if kind in {"svd", "linear", "cat"}:
            total: torch.Tensor = task_arithmetic(tensors, factors).to(tensors[0].dtype)
            return total
        extra = (self.majority_sign_method,) if kind.endswith("ties") else ()
        arithmetic: dict[str, Callable[..., torch.Tensor]] = {
            "ties": ties,
            "dare_linear": dare_linear,
            "dare_ties": dare_ties,
            "magnitude_prune": magnitude_prune,
        }
        return arithmetic[kind](tensors, factors, self.density, *extra).to(tensors[0].dtype)


class WeightedAdapters:
    """`add_weighted_adapter` for the tuner."""

    peft_config: dict[str, CoreRegionConfig]
    model: nn.Module
    inject_adapter: Callable[..., None]
    _mask_of: Callable[[str], CoreMask]

    def add_weighted_adapter(
        self,
        adapters: list[str],
        weights: list[float],
        adapter_name: str,
        combination_type: CombinationType = "svd",
        *,
        svd_rank: int | None = None,
        svd_clamp: float | None = None,
        svd_full_matrices: bool = True,
        svd_driver: str | None = None,
        density: float | None = None,
        majority_sign_method: MajoritySign = "total",
    ) -> None:
        """Add a frozen, inactive adapter that is a weighted combination of others, as LoRA's method of this name.

        The new adapter keeps off the union of their cores. "cat" and "svd" (of a rank that is large enough) give the
        weighted sum of the changes outside that union; the others are LoRA's approximations. Dense adapters (r=0) are
        combined number by number.

        Args:
            adapters: Their names.
            weights: One for each; may be negative.
            adapter_name: Name of the new adapter; nothing happens where it exists already.
            combination_type: "svd", "linear", "cat", "ties", "dare_linear", "dare_ties", "magnitude_prune" or, except
                for the first three, one of these followed by "_svd".
            svd_rank: Rank of the new adapter for the "svd" types; None for the largest of the given ones.
            svd_clamp: Quantile at which the factors of an "svd" type are clamped.
            svd_full_matrices: See `torch.linalg.svd`.
            svd_driver: See `torch.linalg.svd`.
            density: Share of the values that is kept, for the types that prune.
            majority_sign_method: "total" or "frequency", for the "ties" types.

        Raises:
            InputError: An adapter does not exist, or a weight or density is missing.
            ConfigurationError: The adapters cannot be combined in this way.
        """
        if adapter_name in self.peft_config:
            return
        self._check_combination(adapters, weights, combination_type, density)
        kind = "linear" if len(adapters) == 1 else combination_type
        rank = self._combined_rank(adapters, kind, svd_rank)
        recipe = _Recipe(
            adapters, weights, kind, rank, svd_clamp, svd_full_matrices, svd_driver, density, majority_sign_method
        )
        self.peft_config[adapter_name] = self._combined_config(adapters, rank)
        try:
            self.inject_adapter(self.model, adapter_name)
        except BaseException:
            del self.peft_config[adapter_name]
            raise
        _freeze_adapter(self.model, adapter_name)
        with torch.no_grad():
            for layer in tuner_layers(self.model):
                if adapter_name in layer.core_region_mask:
                    _fill(layer, adapter_name, recipe)
            self._take_modules_to_save_over(adapters, adapter_name)

    def _combined_config(self, adapters: list[str], rank: int) -> CoreRegionConfig:
        configs = [self.peft_config[name] for name in adapters]
        saved = {module for config in configs for module in config.modules_to_save or ()}
        by_layer = any(config.layers_to_transform is not None or config.exclude_modules for config in configs)
        return replace(
            configs[0],
            r=rank,
            lora_alpha=rank or 1,
            use_rslora=False,
            core_mask=reduce(united, [self._mask_of(name) for name in adapters]),
            method=None,
            # The new adapter lives in every layer in which one of its parts does.
            target_modules=self._adapted_names(adapters) if by_layer else _all_targets(configs),
            layers_to_transform=None,
            layers_pattern=None,
            exclude_modules=None,
            modules_to_save=sorted(saved) or None,
            rank_pattern={},
            alpha_pattern={},
        )

    def _adapted_names(self, adapters: list[str]) -> Any:
        return {
            key
            for key, module in self.model.named_modules()
            if isinstance(module, CoreRegionLayer) and any(name in module.core_region_mask for name in adapters)
        }

    def _take_modules_to_save_over(self, adapters: list[str], adapter_name: str) -> None:
        """Modules that one of the adapters trained in full go on in the new one as they are."""
        for module in self.model.modules():
            if isinstance(module, ModulesToSaveWrapper) and adapter_name in module.modules_to_save:
                owner = next(name for name in adapters if name in module.modules_to_save)
                module.modules_to_save[adapter_name].load_state_dict(module.modules_to_save[owner].state_dict())

    def _check_combination(self, adapters: list[str], weights: list[float], kind: str, density: float | None) -> None:
        if not adapters or len(adapters) != len(weights):
            raise InputError(
                f"add_weighted_adapter needs one weight for each adapter, got {len(adapters)} adapters and "
                f"{len(weights)} weights."
            )
        if kind not in get_args(CombinationType):
            raise InputError(f"Invalid combination_type: {kind!r}. Expected one of {list(get_args(CombinationType))}.")
        if kind.removesuffix("_svd") in {"ties", "dare_linear", "dare_ties", "magnitude_prune"} and density is None:
            raise InputError(f"combination_type={kind!r} needs density: the share of the values to keep.")
        for name in adapters:
            if name not in self.peft_config:
                raise InputError(f"Adapter {name} does not exist; there are {sorted(self.peft_config)}.")
            if self.peft_config[name].target_parameters:
                raise ConfigurationError(
                    f"add_weighted_adapter does not support targeting nn.Parameter (problematic adapter '{name}')"
                )
        shared = [
            module
            for module in self.model.modules()
            if isinstance(module, ModulesToSaveWrapper)
            and sum(name in module.modules_to_save for name in adapters) > 1
        ]
        if shared:
            raise ConfigurationError(
                "Cannot add weighted adapters if they target the same module with modules_to_save, but found "
                f"{len(shared)} such instance(s)."
            )

    def _check_single_layers(self, adapters: list[str], kind: str) -> None:
        """Ranks may differ from layer to layer (`rank_pattern`); what cannot be joined there is refused beforehand."""
        for layer in tuner_layers(self.model):
            ranks = [layer.r[name] for name in adapters if name in layer.core_region_mask]
            if kind in _SAME_RANK and len(set(ranks)) > 1:
                raise ConfigurationError(
                    "All adapters must have the same r value when using combination_type linear, ties, dare_ties or "
                    f"dare_linear, got {ranks} in one layer. Use combination_type 'svd' or, where no r is 0, 'cat'."
                )
            if 0 in ranks and not kind.endswith("svd"):
                raise ConfigurationError(
                    f"combination_type {kind!r} cannot join dense adapters (r=0) with others, got r={ranks} in one layer. "
                    "Use 'svd'."
                )

    def _combined_rank(self, adapters: list[str], kind: str, svd_rank: int | None) -> int:
        ranks = [max(config.r, *config.rank_pattern.values(), 0) for config in map(self.peft_config.get, adapters)]  # type: ignore[union-attr]
        if not any(ranks):
            return 0
        self._check_single_layers(adapters, kind)
        if kind in _SAME_RANK and len(set(ranks)) != 1:
            raise ConfigurationError(
                "All adapters must have the same r value when using combination_type linear, ties, dare_ties or "
                f"dare_linear, got {ranks}. Use combination_type 'svd' or 'cat'."
            )
        return sum(ranks) if kind == "cat" else (svd_rank or max(ranks)) if kind.endswith("svd") else ranks[0]


def _all_targets(configs: list[CoreRegionConfig]) -> Any:
    targets: list[Any] = [config.target_modules for config in configs]
    if len({type(target) for target in targets}) > 1:
        raise ConfigurationError(
            "all adapter configs should follow the same target modules type. Combining adapters with `target_modules` "
            "type being a mix of list/set and string is not supported."
        )
    return "|".join(f"({target})" for target in targets) if isinstance(targets[0], str) else set().union(*targets)


def _fill(layer: CoreRegionLayer, adapter_name: str, recipe: _Recipe) -> None:
    """Compute one layer of the new adapter. Its scaling is 1, so the others' scalings go into the numbers."""
    pairs = zip(recipe.adapters, recipe.weights, strict=True)
    present = [(name, weight * layer.scaling[name]) for name, weight in pairs if name in layer.core_region_mask]
    names, weights = [name for name, _ in present], [weight for _, weight in present]
    if recipe.rank == 0:
        deltas = [layer.core_region_delta[name].data for name in names]
        layer.core_region_delta[adapter_name].copy_(recipe.combined(deltas, weights))
        return
    a, b = layer.core_region_A[adapter_name], layer.core_region_B[adapter_name]
    a.zero_()
    b.zero_()
    if recipe.kind.endswith("svd"):
        left, right = _by_svd(layer, present, recipe)
    elif recipe.kind == "cat":
        left = torch.cat([layer.core_region_B[name].data for name in names], dim=1)
        right = torch.cat([layer.core_region_A[name].data * weight for name, weight in present], dim=0)
    else:
        # The weight goes in equal parts into both factors, its sign into one.
        roots = [math.sqrt(abs(weight)) for weight in weights]
        signed = [math.copysign(root, weight) for root, weight in zip(roots, weights, strict=True)]
        right = recipe.combined([layer.core_region_A[name].data for name in names], signed)
        left = recipe.combined([layer.core_region_B[name].data for name in names], roots)
    a[: right.shape[0]] = right
    b[:, : left.shape[1]] = left


def _by_svd(
    layer: CoreRegionLayer, present: list[tuple[str, float]], recipe: _Recipe
) -> tuple[torch.Tensor, torch.Tensor]:
    """The best approximation of the combined change, as (out, rank) and (rank, in)."""
    changes = [layer._change([name], torch.float32).on(None) for name, _ in present]  # noqa: SLF001 its own layer
    # The changes have their scaling in them already.
    total = recipe.combined(changes, [weight / (layer.scaling[name] or 1) for name, weight in present])
    total = total.t() if layer.fan_in_fan_out else total
    u, s, vh = torch.linalg.svd(total, full_matrices=recipe.full_matrices, driver=recipe.driver)
    rank = min(recipe.rank, len(s))  # the full matrices go on where there are no singular values any more
    left, right = u[:, :rank] * s[:rank], vh[:rank]
    if recipe.clamp is not None:
        limit = torch.quantile(torch.cat([left.flatten(), right.flatten()]), recipe.clamp)
        left, right = left.clamp(-limit, limit), right.clamp(-limit, limit)
    return left, right
