"""nn.Embedding with CORE_REGION adapters."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812 the name that everybody uses

from hf_langcore.masks import PackedBits
from hf_langcore.tuner.config import CoreRegionConfig
from hf_langcore.tuner.cores import Elsewhere, LayerCore
from hf_langcore.tuner.layer import CoreRegionLayer


class CoreRegionEmbedding(nn.Module, CoreRegionLayer):
    """An embedding whose rows change everywhere but in the core.

    The weight is (num_embeddings, embedding_dim), so with A (r, num_embeddings) and B (embedding_dim, r) the change
    is the transpose of a linear layer's. `lora_dropout` does not act on tokens, as in LoRA.
    """

    fan_in_fan_out = True

    def __init__(
        self,
        base_layer: nn.Module,
        adapter_name: str,
        core: PackedBits | None,
        *,
        config: CoreRegionConfig,
        key: str = "",
        is_tied: bool = False,
        elsewhere: Elsewhere | None = None,
    ) -> None:
        super().__init__()
        CoreRegionLayer.__init__(self, base_layer, is_tied=is_tied, elsewhere=elsewhere)
        self._active_adapter = adapter_name
        self.update_layer(adapter_name, core, config=config, key=key)

    forward = CoreRegionLayer.forward
    extra_repr = CoreRegionLayer.extra_repr

    def reset_parameters(self, adapter_name: str, *, init_weights: bool = True) -> None:
        """Start values as LoRA's for embeddings: A 0 and B normal, so that nothing changes; else all random."""
        for parameters in (self.core_region_A, self.core_region_B, self.core_region_delta):
            if adapter_name in parameters:
                if parameters is self.core_region_B or not init_weights:
                    nn.init.normal_(parameters[adapter_name])
                else:
                    nn.init.zeros_(parameters[adapter_name])

    def _drawn(self, *shape: int) -> torch.Tensor:
        return torch.randn(shape)

    def _features(self) -> tuple[int, int]:
        base: Any = self.get_base_layer()
        return int(base.num_embeddings), int(base.embedding_dim)

    def _added(self, x: torch.Tensor, names: list[str], core: LayerCore) -> torch.Tensor:
        """Rows of the change for the tokens in `x`, without the core entries in these rows."""
        rows = []
        for name in names:
            if name in self.core_region_delta:
                rows.append(self._rows(x, self.core_region_delta[name]))
            else:
                rows.append(
                    self._rows(x, self.core_region_A[name].t()) @ (self.scaling[name] * self.core_region_B[name].t())
                )
        added = sum(rows[1:], start=rows[0]).masked_fill(core.rows(x), 0)
        scale = self._get_embed_scale()
        return added if scale is None else added * scale.to(added.dtype)

    def _rows(self, tokens: torch.Tensor, table: torch.Tensor) -> torch.Tensor:
        base: Any = self.get_base_layer()
        return F.embedding(tokens, table, padding_idx=base.padding_idx)

    def __repr__(self) -> str:
        return "core_region." + super().__repr__()
