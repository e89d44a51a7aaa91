"""The options of a coding, checked: those that a caller gives, and those that compressed data claims."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from hf_langcore.architecture import unwrap
from hf_langcore.compression.arithmetic import Way
from hf_langcore.compression.container import LARGEST_BLOCK, damaged
from hf_langcore.compression.identity import machine_facts, model_digest, tokenizer_digest, usable_vocabulary
from hf_langcore.data import start_token, usable_block_size
from hf_langcore.errors import InputError

BYTES, TEXT = "bytes", "text"
"""What was compressed, and comes back."""

_MOST_STREAMS = 256
_MOST_TOKENS = 2 * LARGEST_BLOCK
_FEWEST_POSITIONS = 3


def way_for(model: nn.Module, tokenizer: Any, context: int, chunk: int | None, streams: int, bos: int | None) -> Way:
    """How a caller wants tokens to be coded.

    Raises:
        InputError: An option is out of range.
        UnsupportedModelError: The tokenizer has no start token and none is given.
    """
    context = usable_block_size(unwrap(model), context)
    chunk = context - 1 if chunk is None else chunk
    require_whole("chunk", chunk, 1, _MOST_TOKENS)
    require_whole("streams", streams, 1, _MOST_STREAMS)
    return Way(start_token(tokenizer, bos).id, context, chunk, streams)


def require_whole(name: str, value: object, low: int, high: int) -> None:
    """Check a number.

    Raises:
        InputError: It is no whole number, or out of range.
    """
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise InputError(f"{name} must be a whole number from {low:,} to {high:,}, got {value!r}.")


def checked_way(header: dict[str, Any], model: nn.Module, tokenizer: Any) -> Way:
    """How the data was coded, after checking that this model can decode it.

    Raises:
        InputError: The header is damaged, or of another model or tokenizer.
    """
    if header.get("model") != model_digest(model):
        raise InputError(
            "The data was compressed with another model: its weights have another digest. Load the very model that compressed it, in the "
            f"same dtype, with the same adapters and edits. It was made with {_words(header.get('facts'))}."
        )
    if header.get("tokenizer") != tokenizer_digest(tokenizer):
        raise InputError("The data was compressed with another tokenizer. Load the one that it was compressed with.")
    try:
        way = Way(**{name: _number(value) for name, value in header["way"].items()})
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise damaged(f"its header does not say how it was coded ({error!r})") from error
    if header.get("kind") not in (BYTES, TEXT) or not isinstance(header.get("facts"), dict):
        raise damaged("its header is not complete")
    _require_possible(way, model)
    _warn_of_differences(header["facts"], machine_facts(model))
    return way


def _number(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(f"{value!r:.80} is no whole number")  # noqa: TRY004 one kind of error
    return value


def _require_possible(way: Way, model: nn.Module) -> None:
    if way.context < _FEWEST_POSITIONS or way.context != usable_block_size(unwrap(model), way.context):
        raise damaged(f"it claims a context of {way.context:,} tokens, which the model does not have")
    is_possible = 1 <= way.streams <= _MOST_STREAMS and 1 <= way.chunk <= _MOST_TOKENS
    if not is_possible or not 0 <= way.start_id < usable_vocabulary(model):
        raise damaged("its header claims impossible options")


def _warn_of_differences(then: dict[str, Any], now: dict[str, Any]) -> None:
    wanted = ("torch", "transformers", "constriction", "device", "dtype", "attention")
    differing = [f"{name} {then.get(name)!s:.80} (here {now[name]})" for name in wanted if then.get(name) != now[name]]
    if differing:
        warnings.warn(
            f"The data was compressed with {', '.join(differing)}. Probabilities may differ in their last bits; if they do, it is "
            "refused.",
            stacklevel=6,
        )


def _words(facts: object) -> str:
    if not isinstance(facts, dict):
        return "unknown versions"
    return ", ".join(f"{name!s:.40} {value!s:.80}" for name, value in list(facts.items())[:12])


@contextmanager
def same_threads(facts: dict[str, Any]) -> Iterator[None]:
    """As many threads as when it was compressed: sums are split between them."""
    before, wanted = torch.get_num_threads(), facts.get("threads")
    if wanted == before or isinstance(wanted, bool) or not isinstance(wanted, int):
        yield
        return
    torch.set_num_threads(max(1, min(wanted, 4 * (os.cpu_count() or 1))))
    try:
        yield
    finally:
        torch.set_num_threads(before)
