"""A cache of keys and values that is written into one place, instead of being copied as a whole at every token."""

from __future__ import annotations

from typing import Any

import torch
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer


class _RoomyLayer(DynamicLayer):  # type: ignore[misc]
    """transformers' growing layer, with room for a whole context from the first token on."""

    def __init__(self, room: int) -> None:
        super().__init__()
        self._room, self._used = room, 0

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *_args: Any, **_options: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Write new keys and values behind those that are there; returns all, as views."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
            self._all = [_with_room(states, self._room) for states in (key_states, value_states)]
        end = self._used + key_states.shape[-2]
        for kept, states in zip(self._all, (key_states, value_states), strict=True):
            kept[:, :, self._used : end] = states
        self._used = end
        self.keys, self.values = (kept[:, :, :end] for kept in self._all)
        return self.keys, self.values


def roomy_cache(model: Any, room: int) -> Any:
    """An empty cache for `room` tokens; None, with which a model makes its own, where its layers are of another kind.

    Args:
        model: A bare model of transformers.
        room: Most tokens that it will hold.
    """
    config = getattr(model, "config", None)
    if config is None:
        return None
    cache = DynamicCache(config=config)
    if not cache.layers or any(type(layer) is not DynamicLayer for layer in cache.layers):
        return None
    cache.layers = [_RoomyLayer(room) for _ in cache.layers]
    return cache


def _with_room(states: torch.Tensor, room: int) -> torch.Tensor:
    rows, heads, _, width = states.shape
    return states.new_empty((rows, heads, room, width))
