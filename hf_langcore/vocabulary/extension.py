"""Extend a model's vocabulary for one language: learn tokens, give them rows, and say what became shorter."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import nn

from hf_langcore.architecture import Weight, unwrap
from hf_langcore.data import Corpora, read_texts, require_corpora
from hf_langcore.errors import CorpusError, InputError, UnsupportedModelError
from hf_langcore.modes import adapter_layers, alterations
from hf_langcore.vocabulary.lengths import Lengths, lengths
from hf_langcore.vocabulary.rows import INITIALISATIONS, Initialisation, new_rows
from hf_langcore.vocabulary.tokens import LearnedTokens, fast_backend, learn_tokens

_TEXTS = "texts"


@dataclass(frozen=True)
class VocabularyExtension:
    """What was done to a vocabulary.

    Attributes:
        tokens: The new tokens as the vocabulary writes them, the most useful first.
        first_id: Id of the first; the others follow.
        num_merges: How many merges were appended.
        rows_before: Rows of the embeddings before.
        rows_after: Rows after: old and new tokens, and padding.
        initialisation: What the new rows began with.
        is_tied: The LM head is the embeddings.
        before: Language -> how long its text is in tokens of the old tokenizer.
        after: The same with the new one.
    """

    tokens: tuple[str, ...]
    first_id: int
    num_merges: int
    rows_before: int
    rows_after: int
    initialisation: str
    is_tied: bool
    before: Mapping[str, Lengths]
    after: Mapping[str, Lengths]

    @property
    def tokens_per_byte(self) -> dict[str, tuple[float, float]]:
        """Language -> tokens per UTF-8 byte, before and after."""
        return {code: (one.tokens_per_byte, self.after[code].tokens_per_byte) for code, one in self.before.items()}

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return {**asdict(self), "tokens": list(self.tokens)}


def extend_vocabulary(
    model: nn.Module,
    tokenizer: Any,
    texts: Any,
    *,
    num_tokens: int,
    initialisation: Initialisation = "mean_of_pieces",
    min_frequency: int = 2,
    pad_to_multiple_of: int | None = None,
    measure_on: Corpora | None = None,
    text_column: str = "text",
    seed: int = 0,
) -> tuple[nn.Module, Any, VocabularyExtension]:
    """Teach a tokenizer tokens of a language, and a model rows for them.

    The model is changed in place, as `resize_token_embeddings` does, and returned too; the tokenizer is a copy, so that the
    old one can still be compared. Nothing is trained: the new rows need further pretraining on the language before the
    model is of use with the new tokenizer. Old rows and all other weights keep every bit, and core masks that do not
    cover embeddings go on fitting the model. If anything is refused, model and tokenizer are as they were.

    Args:
        model: A causal LM or an encoder-decoder of transformers, without adapters.
        tokenizer: Its fast tokenizer; see `learn_tokens` for the kinds.
        texts: Documents of the language: a list, a data set, a `.txt`, `.jsonl` or `.parquet` file.
        num_tokens: How many tokens to learn.
        initialisation: What the new rows begin with: "mean_of_pieces" (the mean of the rows of the old tokens that stood for
            the new one), "mean" (of all old rows), "normal" (drawn with the mean and the covariance of the old rows) or "zero".
        min_frequency: Times that a token has to occur in the texts.
        pad_to_multiple_of: Fills the rows up to a multiple; filled rows are the mean of the old ones.
        measure_on: Language -> texts whose length is measured before and after; the given texts if None. At most 100,000
            characters of each are looked at.
        text_column: Column of data sets, `.jsonl` and `.parquet` files.
        seed: Of "normal".

    Returns:
        The model, the new tokenizer, and what was done.

    Raises:
        InputError: A number or the initialisation is none, or the tokenizer has tokens that the model has no rows for.
        CorpusError: The texts are empty, or give fewer tokens.
        UnsupportedModelError: The tokenizer is slow; embeddings are quantised or not there; the model has adapters; or text
            would not come back from the new tokens.

    Example:
        >>> model, tokenizer, done = extend_vocabulary(model, tokenizer, "zh.txt", num_tokens=500)  # doctest: +SKIP
        >>> model.save_pretrained("extended"), tokenizer.save_pretrained("extended")  # doctest: +SKIP
    """
    _require_initialisation(initialisation)
    _require_model(model, tokenizer)
    documents = _documents(texts, text_column)
    others = {_TEXTS: documents} if measure_on is None else require_corpora(measure_on)
    measured = {code: list(read_texts(code, source, text_column=text_column)) for code, source in others.items()}
    learned = learn_tokens(tokenizer, documents, num_tokens=num_tokens, min_frequency=min_frequency)
    before = {code: lengths(tokenizer, each) for code, each in measured.items()}
    after = {code: lengths(learned.tokenizer, each, old=tokenizer) for code, each in measured.items()}
    embeddings: Any = model.get_input_embeddings()  # type: ignore[operator]
    rows = len(embeddings.weight)
    add_rows(model, learned, initialisation=initialisation, pad_to_multiple_of=pad_to_multiple_of, seed=seed)
    done = VocabularyExtension(
        tokens=learned.tokens,
        first_id=learned.first_id,
        num_merges=learned.num_merges,
        rows_before=rows,
        rows_after=len(model.get_input_embeddings().weight),  # type: ignore[operator]
        initialisation=initialisation,
        is_tied=_head(model) is None or _is_tied(model),
        before=before,
        after=after,
    )
    return model, learned.tokenizer, done


def add_rows(
    model: nn.Module,
    learned: LearnedTokens,
    *,
    initialisation: Initialisation = "mean_of_pieces",
    pad_to_multiple_of: int | None = None,
    seed: int = 0,
) -> None:
    """Give a model rows for tokens that were learned; it is changed in place. Arguments as for `extend_vocabulary`.

    Spare rows of a model that has more than its tokenizer has tokens are used first.
    """
    _require_initialisation(initialisation)
    if pad_to_multiple_of is not None and (isinstance(pad_to_multiple_of, bool) or pad_to_multiple_of < 1):
        raise InputError(
            f"pad_to_multiple_of must be a whole number of at least 1 or None, got {pad_to_multiple_of!r}."
        )
    first, pieces = learned.first_id, [learned.pieces[token] for token in learned.tokens]
    generator = torch.Generator().manual_seed(seed)
    tables = [model.get_input_embeddings().weight]  # type: ignore[operator]
    head = None if _is_tied(model) else _head(model)
    if head is not None:
        tables.append(head.weight if head.bias is None else torch.cat([head.weight, head.bias[:, None]], dim=1))
    rows = max(len(tables[0]), first + len(pieces))
    made = [new_rows(table[:first], pieces, initialisation, generator=generator) for table in tables]
    padding = [table[:first].detach().float().cpu().mean(dim=0) for table in tables]
    before = len(tables[0])
    model.resize_token_embeddings(rows, pad_to_multiple_of=pad_to_multiple_of, mean_resizing=False)  # type: ignore[operator]
    _write(model.get_input_embeddings().weight, first, made[0], before, padding[0])  # type: ignore[operator]
    if head is not None:
        grown: Any = _head(model)
        width = grown.weight.shape[1]
        _write(grown.weight, first, made[1][:, :width], before, padding[1][:width])
        if grown.bias is not None:
            _write(grown.bias[:, None], first, made[1][:, width:], before, padding[1][width:])


def _write(table: torch.Tensor, first: int, made: torch.Tensor, before: int, padding: torch.Tensor) -> None:
    with torch.no_grad():
        table[max(before, first + len(made)) :] = padding.to(table)
        table[first : first + len(made)] = made.to(table)


def _head(model: Any) -> Any:
    """The LM head; None without one."""
    find = getattr(model, "get_output_embeddings", None)
    return find() if callable(find) else None


def _is_tied(model: Any) -> bool:
    head = _head(model)
    return head is not None and head.weight is model.get_input_embeddings().weight


def _documents(texts: Any, text_column: str) -> list[str]:
    if isinstance(texts, Mapping):
        raise CorpusError(
            f"texts are those of one language, got a mapping of {list(texts)}. Pass one of them; measure_on takes a mapping."
        )
    return list(read_texts(_TEXTS, texts, text_column=text_column))


def _require_initialisation(initialisation: str) -> None:
    if initialisation not in INITIALISATIONS:
        raise InputError(f"initialisation must be one of {list(INITIALISATIONS)}, got {initialisation!r}.")


def _require_model(given: nn.Module, tokenizer: Any) -> None:
    model: Any = given
    if unwrap(given) is not given or adapter_layers(model):
        raise UnsupportedModelError(
            "The model is wrapped or has adapters, whose layers keep the size of the old vocabulary. Merge them first "
            "(model.merge_and_unload()), or extend the base model and train an adapter on that."
        )
    if alterations(model):
        raise InputError(
            f"The model has been edited: {'; '.join(alterations(model))}. Restore the edits, or load the model again."
        )
    if not callable(getattr(model, "resize_token_embeddings", None)):
        raise UnsupportedModelError(
            f"{type(model).__name__} has no resize_token_embeddings. Pass a model of transformers, such as "
            "AutoModelForCausalLM.from_pretrained gives."
        )
    tables: Sequence[Any] = [one for one in (model.get_input_embeddings(), _head(model)) if one is not None]
    for table in tables:
        _require_values(table)
    most = max(fast_backend(tokenizer).get_vocab(with_added_tokens=True).values(), default=-1)
    if most >= len(tables[0].weight):
        raise InputError(
            f"The tokenizer has tokens up to id {most} and the model {len(tables[0].weight)} rows: they do not belong together. "
            "Load both from the same place, or call model.resize_token_embeddings(len(tokenizer)) first."
        )


def _require_values(table: nn.Module) -> None:
    weight = Weight("embeddings", table.weight, table)  # type: ignore[arg-type]
    if weight.is_quantized or weight.parameter.is_meta:
        raise UnsupportedModelError(
            "The embeddings or the LM head are quantised or hold no values, so that no rows can be added. Load the model in "
            "bfloat16 on one device, extend it, save it, and quantise what was saved."
        )
