"""Watching the residual stream: the output of every decoder layer, with the tokens that it belongs to."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, Literal

import torch
from torch import nn

from hf_langcore.architecture import decoder_weights, unwrap
from hf_langcore.data import Window
from hf_langcore.errors import InputError, UnsupportedModelError
from hf_langcore.evaluation import ScoringTask, window_losses
from hf_langcore.masks.groups import layer_of

Observer = Callable[[int, torch.Tensor, "Batch"], "torch.Tensor | None"]
"""Takes the index of a layer, hidden states (windows, tokens, width) and their tokens; gives other hidden states or None."""

_MATRIX = 2


class Batch:
    """Which tokens a forward pass sees."""

    def __init__(self, ids: torch.Tensor, present: torch.Tensor | None, *, continues: bool) -> None:
        self.ids = ids
        self.present = (
            torch.ones_like(ids, dtype=torch.bool) if present is None else present[:, -ids.shape[1] :].bool()
        )
        self.continues = continues
        self._prefixes: list[list[int]] | None = None

    @property
    def starts(self) -> torch.Tensor:
        """Boolean, (windows, tokens): the first token that is no padding; none where a cache holds it."""
        first = (self.present.cumsum(1) == 1) & self.present
        return torch.zeros_like(first) if self.continues else first

    def prefixes(self) -> list[list[int]]:
        """Of each token a hash of the text up to it."""
        if self._prefixes is None:
            rows = zip(self.ids.tolist(), self.present.tolist(), strict=True)
            self._prefixes = [_hashes(ids, present) for ids, present in rows]
        return self._prefixes


@contextmanager
def watching(model: nn.Module, see: Observer) -> Iterator[None]:
    """Let `see` look at, and change, the output of every decoder layer."""
    batches: list[Batch] = []

    def note_batch(_module: nn.Module, given: tuple[Any, ...], options: dict[str, Any]) -> None:
        batches[:] = [_batch_of(given, options)]

    def watcher(layer: int) -> Callable[[nn.Module, Any, Any], Any]:
        def watch(_module: nn.Module, _given: Any, output: Any) -> Any:
            whole = output[0] if isinstance(output, tuple) else output
            changed = see(layer, whole, batches[-1])
            if changed is None:
                return None
            return (changed, *output[1:]) if isinstance(output, tuple) else changed

        return watch

    with ExitStack() as stack:
        stack.callback(unwrap(model).register_forward_pre_hook(note_batch, with_kwargs=True).remove)
        for layer, module in enumerate(decoder_layers(model)):
            stack.callback(module.register_forward_hook(watcher(layer)).remove)
        yield


def observe(
    model: nn.Module,
    windows: Sequence[Window],
    see: Callable[[int, torch.Tensor, Batch], None],
    batch_size: int | Literal["auto"],
) -> None:
    """Show `see` the hidden states of all windows as float32, in one forward pass over them."""

    def look(layer: int, hidden: torch.Tensor, batch: Batch) -> None:
        see(layer, hidden.detach().float(), batch)

    with watching(model, look):
        window_losses(model, windows, pad_id=windows[0].ids[0], batch_size=batch_size)


def decoder_layers(model: nn.Module) -> list[nn.Module]:
    """The decoder layers, in order."""
    bare = unwrap(model)
    names = dict.fromkeys(layer_of(name) for name in decoder_weights(bare, quantized=True))
    return [bare.get_submodule(name) for name in names if name is not None]


def hidden_width(model: nn.Module, texts: ScoringTask | Sequence[Window]) -> int:
    """Size of the hidden states, seen on the shortest window."""
    widths: set[int] = set()

    def look(_layer: int, hidden: torch.Tensor, _batch: Batch) -> None:
        widths.add(hidden.shape[-1])

    observe(model, [min(windows_of(texts), key=lambda window: len(window.ids))], look, 1)
    return max(widths)


def windows_of(texts: ScoringTask | Sequence[Window]) -> list[Window]:
    """The windows of texts, all languages one after the other.

    Raises:
        InputError: There are none.
    """
    windows = (
        [one for each in texts.windows.values() for one in each] if isinstance(texts, ScoringTask) else list(texts)
    )
    if not windows:
        raise InputError(
            "There are no texts to look at: pass a ScoringTask of prepare_scoring, or at least one window."
        )
    return windows


def _hashes(ids: list[int], present: list[bool]) -> list[int]:
    found, last = [], 0
    for one, is_present in zip(ids, present, strict=True):
        last = hash((last, one)) if is_present else last
        found.append(last)
    return found


def _batch_of(given: tuple[Any, ...], options: Mapping[str, Any]) -> Batch:
    ids = given[0] if given else options.get("input_ids")
    if not isinstance(ids, torch.Tensor):
        raise UnsupportedModelError(
            "Activations are known by the tokens that they belong to, and the model was called without input_ids. Call it with "
            "tokens instead of embeddings."
        )
    cache = options.get("past_key_values")
    continues = cache is not None and int(cache.get_seq_length()) > 0
    present = options.get("attention_mask")
    is_plain = isinstance(present, torch.Tensor) and present.dim() == _MATRIX
    return Batch(
        ids.detach().cpu(), present.detach().cpu() if is_plain and present is not None else None, continues=continues
    )
