"""From texts to token ids: fixed blocks to learn importance from, sliding windows to score.

Every block and every window starts with the begin-of-sequence token. Without it some models are far off: the
published perplexity of gemma-7b without BOS is 3e8.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from hf_langcore.data.extents import num_bytes
from hf_langcore.errors import CorpusError, InputError, UnsupportedModelError

DEFAULT_BLOCK_SIZE = 512

IGNORED = -100
"""The label of a token that is read but not trained."""

_FEWEST_TOKENS = 2
_COMMON_VOCABULARY = 1 << 15
_UNLIMITED_CONTEXT = 1 << 20  # configs and tokenizers write huge numbers for "no limit"


@dataclass(frozen=True, slots=True)
class StartToken:
    """The token that starts every block.

    Attributes:
        id: Its id.
        source: "bos", "eos" (tokenizers without a BOS, such as Qwen's) or "given".
    """

    id: int
    source: str


@dataclass(frozen=True, slots=True)
class Window:
    """A piece of a document to be scored.

    Attributes:
        ids: Token ids; the first is the start token.
        first_scored: Position of the first token that counts; those before it are context.
        source: What an encoder-decoder model reads; `ids` are the target then. None for causal models.
    """

    ids: tuple[int, ...]
    first_scored: int
    source: tuple[int, ...] | None = None

    @property
    def num_scored(self) -> int:
        """Number of tokens that count."""
        return len(self.ids) - self.first_scored


@dataclass(frozen=True, slots=True)
class CutText:
    """The texts of one language, ready to be scored.

    Attributes:
        windows: What is scored, in order.
        num_bytes: UTF-8 bytes of exactly the text that the scored tokens stand for; None where that is not known.
    """

    windows: list[Window]
    num_bytes: int | None


def start_token(tokenizer: Any, bos_token_id: int | Sequence[int] | None = None) -> StartToken:
    """The token that starts every block: the given one, else BOS, else EOS; the first where there are several.

    Raises:
        UnsupportedModelError: The tokenizer has neither and none was given.
    """
    if tokenizer is None or isinstance(tokenizer, (str, Mapping)):
        raise UnsupportedModelError(
            f"Expected a tokenizer, got {type(tokenizer).__name__}. The order is (model, tokenizer, corpora)."
        )
    candidates: dict[str, Any] = {
        "given": bos_token_id,
        "bos": getattr(tokenizer, "bos_token_id", None),
        "eos": getattr(tokenizer, "eos_token_id", None),
    }
    for source, found in candidates.items():
        first = next(iter(found), None) if isinstance(found, (list, tuple)) else found
        if first is not None:
            return StartToken(int(first), source)
    raise UnsupportedModelError(
        "The tokenizer has neither a BOS nor an EOS token, and a text that starts from nothing is scored wrongly. "
        "Pass bos_token_id=, the id of the token that the model saw at the start of its training texts."
    )


def text_config(model: Any) -> Any:
    """The config of a model's language part, where context length and vocabulary stand; None without one."""
    config: Any = getattr(model, "config", None)
    return config.get_text_config() if hasattr(config, "get_text_config") else config


def vocabulary_size(model: Any) -> int:
    """Number of logits per token, for memory budgets; a common one where the config does not say."""
    return getattr(text_config(model), "vocab_size", None) or _COMMON_VOCABULARY


def check_batch_size(batch_size: int | str) -> int | None:
    """The batch size as a number, None for "auto".

    Raises:
        InputError: It is neither.
    """
    if batch_size == "auto":
        return None
    if isinstance(batch_size, bool) or not isinstance(batch_size, int) or batch_size < 1:
        raise InputError(f'batch_size must be "auto" or a whole number of at least 1, got {batch_size!r}.')
    return batch_size


def usable_block_size(model: Any, block_size: int) -> int:
    """`block_size`, at most the model's context length.

    Raises:
        InputError: It is smaller than 3: a start token, one token of context and one to score.
    """
    if not _is_whole(block_size) or block_size <= _FEWEST_TOKENS:
        raise InputError(f"block_size must be a whole number of at least 3 tokens, got {block_size!r}.")
    context = getattr(text_config(model), "max_position_embeddings", None)
    has_limit = isinstance(context, int) and 0 < context < _UNLIMITED_CONTEXT
    return min(block_size, context) if has_limit and isinstance(context, int) else block_size


def encode(tokenizer: Any, text: str) -> list[int]:
    """Token ids of a text without special tokens, as Python integers.

    Args:
        tokenizer: Any callable with transformers' tokenizer interface; ids may be lists, arrays or tensors, also with
            a leading batch axis of one row.
        text: The text.

    Raises:
        UnsupportedModelError: The tokenizer has another interface.
    """
    try:
        return _row(tokenizer(text, add_special_tokens=False)["input_ids"])
    except (TypeError, KeyError, IndexError, AttributeError) as error:
        raise UnsupportedModelError(
            "The tokenizer must be callable as transformers' are: tokenizer(text, add_special_tokens=False) gives a "
            f'mapping whose "input_ids" are the token ids of one text. {type(tokenizer).__name__} does not '
            f"({type(error).__name__}: {error}). Load it with AutoTokenizer.from_pretrained, or wrap it in a function "
            "that does."
        ) from error


def _row(ids: Any) -> list[int]:
    """One row of ids as Python integers, taken out of a batch of one where they come as that."""
    values = _plain(ids)
    values = [_plain(value) for value in values]
    if len(values) == 1 and isinstance(values[0], (list, tuple)):
        values = [_plain(value) for value in values[0]]
    return [operator.index(value) for value in values]


def _plain(value: Any) -> Any:
    """Tensors and arrays as lists, their items as numbers."""
    return value.tolist() if hasattr(value, "tolist") else value


def pack_blocks(
    language: str,
    texts: Iterable[str],
    tokenizer: Any,
    *,
    start: StartToken,
    block_size: int,
    max_tokens: int | None = None,
) -> torch.Tensor:
    """Pack texts into blocks of equal length, each a start token and `block_size - 1` tokens of text.

    Documents follow one another with a start token between them; what is left over at the end is dropped. A
    text too short for one block becomes one shorter block.

    Args:
        language: For messages.
        texts: Documents.
        tokenizer: Any callable with transformers' tokenizer interface.
        start: The start token.
        block_size: Tokens per block, the start token included.
        max_tokens: At most so many tokens in all blocks, start tokens included; fewer than `block_size` make one
            shorter block.

    Returns:
        int64, (blocks, block_size).

    Raises:
        CorpusError: There is no text, or fewer than two tokens of it.
        InputError: `max_tokens` is no whole number or leaves no room for a start token and two tokens of text.
        UnsupportedModelError: The tokenizer has another interface.
    """
    require_limit(max_tokens, _FEWEST_TOKENS + 1)
    block_size = block_size if max_tokens is None else min(block_size, max_tokens)
    limit = None if max_tokens is None else max_tokens // block_size
    width = block_size - 1
    blocks: list[list[int]] = []
    rest: list[int] = []
    for text in texts:
        ids = encode(tokenizer, text)
        rest += [start.id, *ids] if rest and ids else ids
        full = len(rest) // width
        blocks += [[start.id, *rest[i * width : (i + 1) * width]] for i in range(full)]
        rest = rest[full * width :]
        if limit is not None and len(blocks) >= limit:
            break
    if not blocks:
        _require_tokens(language, len(rest))
        blocks.append([start.id, *rest])
    return torch.tensor(blocks[:limit], dtype=torch.int64)


def cut_text(
    language: str,
    texts: Iterable[str],
    tokenizer: Any,
    *,
    start: StartToken,
    block_size: int,
    stride: int,
    max_tokens: int | None = None,
) -> CutText:
    """Cut documents into windows in which every token is scored exactly once.

    A document that does not fit one window slides on by `stride` tokens, so that every later token has at least
    `block_size - 1 - stride` tokens of context.

    Args:
        language: For messages.
        texts: Documents; each is scored on its own.
        tokenizer: Any callable with transformers' tokenizer interface.
        start: The start token of every window.
        block_size: Tokens per window at most, the start token included.
        stride: Tokens that each further window scores.
        max_tokens: At most so many scored tokens; the last document is cut off there.

    Raises:
        CorpusError: There is no text, or fewer than two tokens to score.
        InputError: `stride` is not between 1 and `block_size - 1`, or `max_tokens` is not a positive whole number.
        UnsupportedModelError: The tokenizer has another interface.
    """
    require_limit(max_tokens, 1)
    if not _is_whole(stride) or not 1 <= stride < block_size:
        raise InputError(
            f"stride must be a whole number from 1 to block_size - 1 = {block_size - 1}, got {stride!r}: a window holds "
            "the start token besides the tokens that it scores."
        )
    windows: list[Window] = []
    extents: list[int | None] = []
    total = 0
    for text in texts:
        ids = encode(tokenizer, text)
        kept = len(ids) if max_tokens is None else min(len(ids), max_tokens - total)
        total += kept
        windows += windows_of(ids[:kept], start.id, block_size - 1, stride)
        extents.append(num_bytes(tokenizer, text, ids, kept))
        if max_tokens is not None and total >= max_tokens:
            break
    _require_tokens(language, total)
    known = [extent for extent in extents if extent is not None]
    return CutText(windows, sum(known) if len(known) == len(extents) else None)


def windows_of(ids: Sequence[int], start_id: int, width: int, stride: int) -> Iterator[Window]:
    """Windows of at most `width` tokens and a start token, in which every token of `ids` is scored once, in order."""
    done = 0
    while done < len(ids):
        end = min(len(ids), width if done == 0 else done + stride)
        begin = max(0, end - width)
        yield Window((start_id, *ids[begin:end]), 1 + done - begin)
        done = end


def _is_whole(number: object) -> bool:
    return isinstance(number, int) and not isinstance(number, bool)


def require_limit(max_tokens: int | None, fewest: int) -> None:
    """Check a limit of tokens.

    Raises:
        InputError: It is neither None nor a whole number of at least `fewest`.
    """
    if max_tokens is not None and (not _is_whole(max_tokens) or max_tokens < fewest):
        raise InputError(f"max_tokens must be at least {fewest}, a whole number, or None, got {max_tokens!r}.")


def _require_tokens(language: str, count: int) -> None:
    if count < _FEWEST_TOKENS:
        raise CorpusError(
            f"{language!r}: the texts have {count} token{'' if count == 1 else 's'} to score, at least "
            f"{_FEWEST_TOKENS} are needed. Check that the file is not empty and holds the right column."
        )
