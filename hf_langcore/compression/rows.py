"""The model's next-token probabilities, for many rows of tokens side by side, computed in one and the same way by both sides.

An arithmetic decoder needs the very probabilities that the encoder had, to the last bit. A forward pass over a whole text
gives other last bits than passes token by token, and so do other batch sizes. So both sides run this one loop: the same
rows, the same shapes, one token of each row per pass, and the symbol that comes out of each step is the only thing that
differs in how it is found.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from hf_langcore.architecture import unwrap
from hf_langcore.compression.cache import roomy_cache
from hf_langcore.errors import NonFiniteError, UnsupportedModelError
from hf_langcore.modes import eval_mode

Code = Callable[[NDArray[np.float32]], NDArray[np.int32]]
"""Takes probabilities, (rows, vocabulary), and gives the token that comes next in each row."""


def plan_batches(tokens: int, *, chunk: int, streams: int) -> list[list[int]]:
    """How a run of tokens is cut into rows, and rows into batches: numbers of tokens, evenly, the longer rows first.

    Args:
        tokens: Length of the run.
        chunk: Most tokens of a row.
        streams: Most rows side by side.
    """
    if not tokens:
        return []
    lengths = _evenly(tokens, -(-tokens // chunk))
    sizes = _evenly(len(lengths), -(-len(lengths) // streams))
    ends = np.cumsum(sizes).tolist()
    return [lengths[end - size : end] for end, size in zip(ends, sizes, strict=True)]


def run_rows(
    model: nn.Module,
    lengths: Sequence[int],
    code: Code,
    *,
    start_id: int,
    context: int,
    advance: Callable[[int], object] = int,
) -> list[list[int]]:
    """Let `code` say token after token of several rows, each given what the model expects there.

    Each row begins with the start token alone. When a row fills the context, all begin again with the start token and the
    last half of the context as what went before.

    Args:
        model: A causal LM, bare or wrapped.
        lengths: Tokens of each row, descending.
        code: What codes or decodes; it gets the rows that are not finished.
        start_id: The start token.
        context: Positions that the model looks at, the start token included.
        advance: Called with the number of tokens coded in a step.

    Returns:
        The tokens of each row.

    Raises:
        NonFiniteError: The model gives NaN or infinite logits.
        UnsupportedModelError: The model keeps no cache of what it has read.
    """
    history = torch.full((len(lengths), max(lengths) + 1), start_id, dtype=torch.int64)
    reader = _Reader(model, start_id, context)
    with eval_mode(model), torch.inference_mode():
        for step in range(max(lengths)):
            active = sum(length > step for length in lengths)
            symbols = code(reader.read(history[:, : step + 1])[:active])
            history[:active, step + 1] = torch.from_numpy(symbols.astype(np.int64))
            advance(active)
    return [row[1 : length + 1].tolist() for row, length in zip(history, lengths, strict=True)]


class _Reader:
    """Reads rows that grow by one token at a time."""

    def __init__(self, model: nn.Module, start_id: int, context: int) -> None:
        bare = unwrap(model)
        if getattr(getattr(bare, "config", None), "is_encoder_decoder", False):
            raise UnsupportedModelError(
                f"{type(bare).__name__} has an encoder, and texts are coded by the next-token probabilities of a causal model. "
                "Load one with AutoModelForCausalLM."
            )
        self._model, self._start, self._context = model, start_id, context
        self._device = next(model.parameters()).device
        self._keeps = "logits_to_keep" in inspect.signature(bare.forward).parameters
        self._cache: Any = None
        self._length = 0

    def read(self, history: torch.Tensor) -> NDArray[np.float32]:
        """Probabilities of the next token of each row: float32, (rows, vocabulary)."""
        if not self._length or self._length >= self._context:
            ids = self._opening(history)
            self._cache, self._length = roomy_cache(unwrap(self._model), self._context), 0
        else:
            ids = history[:, -1:]
        options: dict[str, Any] = {"logits_to_keep": 1} if self._keeps else {}
        output = self._model(
            input_ids=ids.contiguous().to(self._device), past_key_values=self._cache, use_cache=True, **options
        )
        self._cache = getattr(output, "past_key_values", None)
        if self._cache is None:
            raise UnsupportedModelError(
                f"{type(unwrap(self._model)).__name__} keeps no cache (past_key_values), so that each token would cost a pass "
                "over all before it. Use a causal model of transformers that has one."
            )
        self._length += ids.shape[1]
        return _probabilities(output.logits[:, -1])

    def _opening(self, history: torch.Tensor) -> torch.Tensor:
        """What a fresh cache begins with: the start token, and half a context of what went before."""
        kept = history[:, 1:][:, -(self._context // 2) :]
        return torch.cat([torch.full((len(history), 1), self._start), kept], dim=1)


def _probabilities(logits: torch.Tensor) -> NDArray[np.float32]:
    logits = logits.float()
    if not bool(torch.isfinite(logits).all()):
        raise NonFiniteError(
            "The model gives NaN or infinite logits, which no text can be coded with: load it in float32 or bfloat16 instead of "
            "float16, and check that it was not broken."
        )
    found: NDArray[np.float32] = torch.softmax(logits, dim=-1).cpu().numpy()
    return found


def _evenly(total: int, parts: int) -> list[int]:
    size, rest = divmod(total, parts)
    return [size + (number < rest) for number in range(parts)]
