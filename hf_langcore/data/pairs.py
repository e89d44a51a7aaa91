"""Pairs of source and target for encoder-decoder models: reading, cutting, padding.

A corpora argument for such a model maps each language to pairs: a list of (source, target) tuples or of mappings with the
two columns, a data set, a `.jsonl` or `.parquet` file, or a Hub data set with these columns. The language is that of the targets,
which are what is scored.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from hf_langcore.data.blocks import IGNORED, CutText, StartToken, Window, require_limit
from hf_langcore.data.corpora import open_rows
from hf_langcore.errors import CorpusError, UnsupportedModelError

SOURCE, TARGET = "source", "target"

_PAIR = 2
_ABSENT = -1  # of a source that is shorter than others; no id is negative


@dataclass(frozen=True, slots=True)
class PairBlocks:
    """Tokenised pairs, padded.

    Attributes:
        ids: int64, (pairs, source width + target width): sources filled up with -1, then targets filled up with -100.
        width: Width of the sources.
    """

    ids: torch.Tensor
    width: int

    @property
    def sources(self) -> torch.Tensor:
        """(pairs, source width), filled up with -1."""
        return self.ids[:, : self.width]

    @property
    def labels(self) -> torch.Tensor:
        """(pairs, target width), filled up with -100, which no loss looks at."""
        return self.ids[:, self.width :]

    @property
    def shape(self) -> torch.Size:
        """Pairs, and the tokens of the longest source and target."""
        return self.ids.shape

    def __len__(self) -> int:
        return len(self.ids)

    def numel(self) -> int:
        """Number of tokens, sources and targets together; fillings do not count."""
        return int((self.ids >= 0).sum())

    def numpy(self) -> Any:
        """The ids as numpy has them, for digests."""
        return self.ids.numpy()

    def split(self, size: int) -> list[PairBlocks]:
        """Parts of at most `size` pairs, each no wider than it has to be."""
        return [self._trimmed(part) for part in self.ids.split(size)]

    def _trimmed(self, ids: torch.Tensor) -> PairBlocks:
        used = (ids >= 0).any(0)
        width = int(used[: self.width].sum())
        return PairBlocks(ids[:, used], width)


Blocks = torch.Tensor | PairBlocks
"""What importance is computed from: packed text (blocks, block_size), or pairs."""


def num_scored(blocks: Blocks) -> int:
    """Number of tokens that have a loss."""
    if isinstance(blocks, PairBlocks):
        return int((blocks.labels != IGNORED).sum())
    return blocks.shape[0] * (blocks.shape[1] - 1)


def model_inputs(blocks: Blocks, device: torch.device) -> dict[str, Any]:
    """What a model is called with.

    Encoder-decoder models get labels and shift them right themselves, behind the token that their config names.
    """
    if not isinstance(blocks, PairBlocks):
        return {"input_ids": blocks.to(device), "use_cache": False}
    sources = blocks.sources.to(device)
    return {
        "input_ids": sources.clamp(min=0),
        "attention_mask": (sources != _ABSENT).long(),
        "labels": blocks.labels.to(device).contiguous(),  # BART views them as one row
        "use_cache": False,
    }


def predictions(model: Any, blocks: Blocks) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits and the tokens that they predict, one row each.

    Args:
        model: A causal LM for packed text, an encoder-decoder model for pairs.
        blocks: int64 ids.

    Returns:
        (scored tokens, vocabulary) in the model's dtype, and (scored tokens,).
    """
    inputs = model_inputs(blocks, next(model.parameters()).device)
    logits = model(**inputs).logits
    if isinstance(blocks, PairBlocks):
        scored = inputs["labels"] != IGNORED
        return logits[scored], inputs["labels"][scored]
    return logits[:, :-1].flatten(0, 1), inputs["input_ids"][:, 1:].flatten()


def is_encoder_decoder(model: Any) -> bool:
    """Whether a model reads a source and writes a target."""
    return bool(getattr(getattr(model, "config", None), "is_encoder_decoder", False))


def require_decoder_only(model: Any, feature: str) -> None:
    """Refuse encoder-decoder models where only one stack of layers is understood.

    Args:
        model: The bare model.
        feature: What cannot be done, as the beginning of a sentence.

    Raises:
        UnsupportedModelError: It is one.
    """
    if is_encoder_decoder(model):
        raise UnsupportedModelError(
            f"{feature} takes causal language models; {type(model).__name__} is an encoder-decoder model. Such models can be "
            "scored (evaluate_perplexity), searched (compute_core_mask), edited (perturb, scale_dimension) and frozen."
        )


def decoder_start(model: Any) -> StartToken:
    """The token that stands in front of every target.

    Raises:
        UnsupportedModelError: The config names none, or no padding token, which stands in for labels that are left out.
    """
    config = getattr(model, "config", None)
    start = getattr(config, "decoder_start_token_id", None)
    if start is None:
        raise UnsupportedModelError(
            f"The config of {type(model).__name__} has no decoder_start_token_id, so its labels cannot be shifted right. Set "
            "model.config.decoder_start_token_id (for T5 the padding token, for BART the end token)."
        )
    if getattr(config, "pad_token_id", None) is None:
        raise UnsupportedModelError(
            f"The config of {type(model).__name__} has no pad_token_id, with which targets of unequal length are filled up. Set "
            "model.config.pad_token_id to that of the tokenizer."
        )
    return StartToken(int(start), "decoder start")


def pair_texts(sources: Sequence[str], targets: Sequence[str]) -> list[dict[str, str]]:
    """Two lists as rows with `source` and `target`.

    Args:
        sources: What the model reads.
        targets: What it is to write, one for each source.

    Raises:
        CorpusError: They are of unequal number, or one is no list of texts.

    Example:
        >>> pair_texts(["translate English to German: Good."], ["Gut."])
        [{'source': 'translate English to German: Good.', 'target': 'Gut.'}]
    """
    for name, texts in (("sources", sources), ("targets", targets)):
        if isinstance(texts, (str, Mapping)) or not isinstance(texts, Sequence):
            raise CorpusError(
                f"{name} must be a list of texts, got {type(texts).__name__}. Put a single text into a list."
            )
    if len(sources) != len(targets):
        raise CorpusError(
            f"There are {len(sources):,} sources and {len(targets):,} targets. Each source needs one target: a source with "
            "several targets has to be given once for each of them."
        )
    rows = zip(sources, targets, strict=True)
    return [dict(zip((SOURCE, TARGET), _pair("pair_texts", row), strict=True)) for row in rows]


def read_pairs(
    language: str, source: Any, *, columns: tuple[str, str] = (SOURCE, TARGET), seed: int | None = None
) -> Iterator[tuple[str, str]]:
    """The pairs of one language.

    Args:
        language: For messages.
        source: Any form that the module's docstring lists.
        columns: Names of the columns of source and target.
        seed: Shuffles the pairs; None keeps their order.

    Raises:
        CorpusError: The source is missing, of an unknown form, or holds something that is no pair of texts.
    """
    rows: Iterable[Any] = open_rows(language, source, columns)
    if seed is not None:
        rows = list(rows)
        random.Random(seed).shuffle(rows)
    for row in rows:
        values = [row.get(name) for name in columns] if isinstance(row, Mapping) else row
        pair = _pair(repr(language), values)
        if pair[0].strip() and pair[1].strip():
            yield pair


def cut_pairs(
    language: str,
    pairs: Iterable[tuple[str, str]],
    tokenizer: Any,
    *,
    block_size: int,
    max_tokens: int | None = None,
) -> CutText:
    """Tokenise pairs; sources and targets are cut to `block_size` tokens each, their last token kept.

    Args:
        language: For messages.
        pairs: Source and target.
        tokenizer: Any callable with transformers' tokenizer interface; it adds the special tokens that the model expects.
        block_size: Tokens of a source, and of a target, at most.
        max_tokens: At most so many scored tokens; the pair that would pass it is left out, unless it is the first.

    Raises:
        CorpusError: There is no pair.
        InputError: `max_tokens` is no positive whole number.
        UnsupportedModelError: The tokenizer has another interface.
    """
    require_limit(max_tokens, 1)
    windows: list[Window] = []
    size, total, is_cut = 0, 0, False
    for source, target in pairs:
        read, written = _tokens(tokenizer, source, is_target=False), _tokens(tokenizer, target, is_target=True)
        ids = _cut(written, block_size)
        if windows and max_tokens is not None and total + len(ids) > max_tokens:
            break
        windows.append(Window(tuple(ids), 0, tuple(_cut(read, block_size))))
        total, is_cut = total + len(ids), is_cut or len(written) > block_size
        size += len(target.encode("utf-8", "surrogatepass"))
    if not windows:
        raise CorpusError(f"{language!r}: there is no pair of texts. Check that source and target are not empty.")
    return CutText(windows, None if is_cut else size)


def pad_pairs(windows: Sequence[Window]) -> PairBlocks:
    """Pairs side by side, filled up at the end.

    Args:
        windows: As `cut_pairs` makes them.
    """
    sources = _filled([window.source or () for window in windows], _ABSENT)
    labels = _filled([window.ids for window in windows], IGNORED)
    return PairBlocks(torch.cat([sources, labels], dim=1), sources.shape[1])


def _filled(rows: Sequence[Sequence[int]], filling: int) -> torch.Tensor:
    width = max(map(len, rows))
    return torch.tensor([[*row, *[filling] * (width - len(row))] for row in rows], dtype=torch.int64)


def _pair(name: str, row: Any) -> tuple[str, str]:
    if isinstance(row, (tuple, list)) and len(row) == _PAIR and all(isinstance(one, str) for one in row):
        return row[0], row[1]
    raise CorpusError(
        f"{name}: expected a source and a target (two texts), got {row!r:.80}. Encoder-decoder models need pairs: "
        f'[{{"{SOURCE}": "...", "{TARGET}": "..."}}, ...], as pair_texts(sources, targets) makes them.'
    )


def _tokens(tokenizer: Any, text: str, *, is_target: bool) -> list[int]:
    """Ids with the tokenizer's special tokens; some tokenizers have other ones for targets."""
    try:
        if is_target and hasattr(tokenizer, "_switch_to_target_mode"):
            found = tokenizer(text_target=text)["input_ids"]
        else:
            found = tokenizer(text)["input_ids"]
        return [int(one) for one in (found.tolist() if hasattr(found, "tolist") else found)]
    except (TypeError, KeyError, ValueError, AttributeError) as error:
        raise UnsupportedModelError(
            'The tokenizer must be callable as transformers\' are: tokenizer(text) gives a mapping whose "input_ids" are the '
            f"token ids of one text, special tokens included. {type(tokenizer).__name__} does not ({type(error).__name__}: {error})."
        ) from error


def _cut(ids: list[int], size: int) -> list[int]:
    """At most `size` ids; the last one, the end token of a text, stays."""
    return ids if len(ids) <= size else [*ids[: size - 1], ids[-1]]
