"""Edits as methods of a wrapped model, with words for the regions that its own core mask gives."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

from torch import nn

from hf_langcore.errors import InputError
from hf_langcore.masks import CoreMask


class EditMethods:
    """`perturb`, `scale_dimension` and `set_dimension` for a tuner: `hf_langcore.editing` with the model filled in.

    Names are parameter names of the bare model. Edits act on the effective weights: active adapters are merged
    while an edit is open.
    """

    peft_config: dict[str, Any]
    active_adapters: list[str]

    @property
    def core_mask(self) -> CoreMask:
        """The mask that the words for regions refer to."""
        raise NotImplementedError

    def perturb(
        self,
        region: CoreMask | str,
        *,
        how: str = "zero",
        factor: float | None = None,
        std: float = 1.0,
        seed: int = 0,
    ) -> AbstractContextManager[Any]:
        """Perturb a region of the effective weights; see `hf_langcore.editing.perturb`.

        Args:
            region: "core", "complement", "random" (as many random weights as the core has) or a CoreMask.
            how: "zero", "noise", "shuffle", "mean", "reinit" or "scale".
            factor: For "scale".
            std: For "noise".
            seed: For everything random.

        Returns:
            A handle: leave it as a context, or call its `restore()`, to get every bit back.

        Raises:
            InputError: `region` is none of these.
        """
        from hf_langcore import editing

        chosen = self._region(region, seed)
        configs = [self.peft_config[name] for name in self.active_adapters]
        return editing.perturb(
            self._edited(),
            chosen,
            how=how,  # type: ignore[arg-type]  # checked there, with a better message
            factor=factor,
            std=std,
            seed=seed,
            base_check=configs[0].base_check if configs else "error",
        )

    def scale_dimension(
        self, name: str, index: int, *, factor: float, axis: int | None = None
    ) -> AbstractContextManager[Any]:
        """Multiply one dimension of the effective weights; see `hf_langcore.editing.scale_dimension`."""
        from hf_langcore import editing

        return editing.scale_dimension(self._edited(), name, index, factor=factor, axis=axis)

    def set_dimension(
        self, name: str, index: int, *, value: float, axis: int | None = None
    ) -> AbstractContextManager[Any]:
        """Set one dimension of the effective weights; see `hf_langcore.editing.set_dimension`."""
        from hf_langcore import editing

        return editing.set_dimension(self._edited(), name, index, value=value, axis=axis)

    def _region(self, region: CoreMask | str, seed: int) -> CoreMask:
        if isinstance(region, CoreMask):
            return region
        if region == "core":
            return self.core_mask
        if region == "complement":
            return self.core_mask.complement()
        if region == "random":
            return self.core_mask.random_like(seed=seed)
        raise InputError(f'region must be "core", "complement", "random" or a CoreMask, got {region!r}.')

    def _edited(self) -> nn.Module:
        assert isinstance(self, nn.Module)  # noqa: S101 a fact about every tuner, for the type checker
        return self
