"""Hidden states of words: one vector per layer and word, of encoders and decoders."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from tqdm.auto import tqdm

from hf_langcore.errors import CorpusError, InputError, NonFiniteError, UnsupportedModelError
from hf_langcore.modes import eval_mode
from hf_langcore.probing.parallel import sentence_numbers
from hf_langcore.probing.stacks import context_length, is_encoder, text_stack
from hf_langcore.probing.treebanks import Sentence
from hf_langcore.probing.words import WordTokens, special_tokens, word_tokens

Pooling = Literal["mean", "first", "last"]

_PUNCTUATION = "punct"


@dataclass(frozen=True, slots=True)
class WordVectors:
    """Hidden states of the words of one language, in the order of the treebank.

    Attributes:
        layers: (layers + 1, words, width), float32; layer 0 are the embeddings. Fewer layers where fewer were asked for.
        sentence: (words,), number of each word's sentence, the same for its translations in the other languages that were read
            with it (`sentence_numbers`); of one language, or where all treebanks are in the same order, its place.
        upos: Part of speech of each word.
        relations: Relation of each word to its head.
        heads: (words,), row of the head word in these arrays; -1 is the root, or a head that was left out.
        words: Form of each word.
        layer_numbers: Which layer each entry of `layers` is.
        words_cut: Number of words left out because they lie past the end of the model's context.
        words_without_tokens: Number of words left out because the tokenizer gave them no token.
    """

    layers: NDArray[np.float32]
    sentence: NDArray[np.int64]
    upos: tuple[str, ...]
    relations: tuple[str, ...]
    heads: NDArray[np.int64]
    words: tuple[str, ...] = ()
    layer_numbers: tuple[int, ...] = ()
    words_cut: int = 0
    words_without_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Labelled:
    """Vectors with labels: what a probe reads.

    Attributes:
        layers: (layers, items, width), float32.
        labels: Label of each item.
        groups: (items,), sentence of each item, for splits and intervals.
        types: Word type of each item, for control tasks; () where it is not known.
    """

    layers: NDArray[np.float32]
    labels: tuple[str, ...]
    groups: NDArray[np.int64]
    types: tuple[str, ...] = ()


def word_vectors(
    model: nn.Module,
    tokenizer: Any,
    treebanks: Mapping[str, Sequence[Sentence]],
    *,
    pooling: Pooling = "mean",
    max_sentences: int | None = None,
    batch_size: int = 16,
    layers: Sequence[int] | None = None,
    progress: bool = False,
) -> dict[str, WordVectors]:
    """Hidden states of each word in each layer, pooled over its tokens.

    The model is used as it is now: adapters in its layers and open edits count. (Prompts of PEFT's prompt methods do not:
    they are no part of the text's own states.) The last layer is what the model calls its last hidden state, after the
    final norm where there is one. Language model heads are not computed.

    Args:
        model: An encoder or a decoder of transformers, with or without a head, bare or wrapped.
        tokenizer: Any callable with transformers' tokenizer interface.
        treebanks: Language -> sentences, as from `load_treebanks`.
        pooling: "mean" over a word's tokens, or the "first" or "last" of them.
        max_sentences: Only so many of the first sentences of each language.
        batch_size: Sentences per forward pass.
        layers: Which layers to keep, 0 to the number of layers; None for all.
        progress: Show a progress bar.

    Returns:
        Language -> vectors. Memory is 4 bytes x layers x words x width for each language.

    Raises:
        CorpusError: A language has no sentence, or no word with a token.
        InputError: An option is out of range.
        NonFiniteError: Hidden states are not finite.
        UnsupportedModelError: The model gives no hidden states, or the tokenizer has another interface.
    """
    _require_options(pooling, max_sentences, batch_size)
    if not isinstance(treebanks, Mapping) or not treebanks:
        raise CorpusError('treebanks must map language codes to sentences, such as load_treebanks("folder") gives.')
    stack = text_stack(model)
    special = special_tokens(tokenizer, is_encoder=is_encoder(model))
    room = context_length(model, tokenizer)
    chosen = {language: list(sentences)[:max_sentences] for language, sentences in treebanks.items()}
    sentence_of = sentence_numbers(chosen)
    found: dict[str, WordVectors] = {}
    total = sum(map(len, chosen.values()))
    with eval_mode(model), torch.inference_mode(), tqdm(total=total, unit="sentence", disable=not progress) as bar:
        for language, sentences in chosen.items():
            tokens = [word_tokens(tokenizer, one, language, special=special, max_tokens=room) for one in sentences]
            if not any(places for one in tokens for places in one.positions):
                raise CorpusError(f"{language!r}: the treebank has no sentence with a word that the tokenizer knows.")
            _require_known(stack, tokens, language)
            reader = _Reader(stack, pooling, batch_size, _padding_of(tokenizer), keep_cache=is_encoder(model))
            states, numbers = reader.read(tokens, layers, bar)
            _require_finite(states, numbers, language)
            found[language] = _with_labels(states, numbers, sentences, sentence_of[language], tokens)
    return found


def labelled_words(vectors: WordVectors) -> Labelled:
    """Each word with its part of speech."""
    return Labelled(vectors.layers, vectors.upos, vectors.sentence, vectors.words)


def labelled_relations(vectors: WordVectors) -> Labelled:
    """h(dependent) - h(head) of each word with a head, labelled with the relation between them.

    Left out are roots, punctuation, words whose head was left out, and pairs that share all of their tokens (the two words of
    "am", or two words that the tokenizer merges): their difference is zero and says nothing.
    """
    has_head = np.array(
        [head >= 0 and name != _PUNCTUATION for head, name in zip(vectors.heads, vectors.relations, strict=True)], bool
    )
    rows = np.flatnonzero(has_head)
    difference = vectors.layers[:, rows] - vectors.layers[:, vectors.heads[rows]]
    says_something = difference.any(axis=(0, 2))
    if not says_something.all():
        rows, difference = rows[says_something], difference[:, says_something]
    return Labelled(
        layers=difference,
        labels=tuple(vectors.relations[row] for row in rows),
        groups=vectors.sentence[rows],
        types=tuple(vectors.words[row] for row in rows) if vectors.words else (),
    )


class _Reader:
    """Reads sentences through a model, those of like length together."""

    def __init__(self, stack: Any, pooling: Pooling, batch_size: int, padding: int, *, keep_cache: bool) -> None:
        self.stack = stack
        self.pooling = pooling
        self.batch_size = batch_size
        self.padding = padding
        # Encoders have no cache to switch off, and some do not know the option.
        self.options = {} if keep_cache else {"use_cache": False}

    def read(
        self, tokens: Sequence[WordTokens], layers: Sequence[int] | None, bar: Any
    ) -> tuple[NDArray[np.float32], tuple[int, ...]]:
        """States of all words that have tokens, in order: (layers, words, width), and the numbers of the layers."""
        counts = [sum(map(bool, one.positions)) for one in tokens]
        starts = np.concatenate([[0], np.cumsum(counts)])
        result: NDArray[np.float32] | None = None
        numbers: tuple[int, ...] = ()
        for batch in self._batches(tokens):
            hidden = self._states([tokens[one] for one in batch])
            if result is None:
                numbers = _layer_numbers(layers, len(hidden))
                result = np.empty((len(numbers), int(starts[-1]), hidden[0].shape[-1]), np.float32)
            rows = np.concatenate([np.arange(starts[one], starts[one + 1]) for one in batch])
            words = self._words([tokens[one] for one in batch], width=hidden[0].shape[1])
            for place, number in enumerate(numbers):
                result[place, rows] = _pooled(hidden[number], words)
            bar.update(len(batch))
        if result is None:
            raise InputError("There are no sentences to read.")
        return result, numbers

    def _batches(self, tokens: Sequence[WordTokens]) -> Iterator[list[int]]:
        """Indices of sentences, the longest first, so that a batch that does not fit into memory is the first."""
        with_words = [number for number, one in enumerate(tokens) if any(one.positions)]
        order = sorted(with_words, key=lambda one: (-len(tokens[one].ids), one))
        for begin in range(0, len(order), self.batch_size):
            yield order[begin : begin + self.batch_size]

    def _states(self, batch: Sequence[WordTokens]) -> tuple[torch.Tensor, ...]:
        longest = max(len(one.ids) for one in batch)
        ids = torch.full((len(batch), longest), self.padding)
        attention = torch.zeros_like(ids)
        for row, one in enumerate(batch):
            ids[row, : len(one.ids)] = torch.tensor(one.ids)
            attention[row, : len(one.ids)] = 1
        device = next(self.stack.parameters()).device
        output = self.stack(
            input_ids=ids.to(device), attention_mask=attention.to(device), output_hidden_states=True, **self.options
        )
        hidden = getattr(output, "hidden_states", None)
        if not hidden:
            raise UnsupportedModelError(
                f"{type(self.stack).__name__} gives no hidden states. Pass a text encoder or decoder of transformers."
            )
        return tuple(hidden)

    def _words(self, batch: Sequence[WordTokens], *, width: int) -> list[list[int]]:
        """Of each word the places of the tokens that count, in the batch laid out in one row."""
        chosen = {"mean": slice(None), "first": slice(0, 1), "last": slice(-1, None)}[self.pooling]
        return [
            [row * width + place for place in places[chosen]]
            for row, one in enumerate(batch)
            for places in one.positions
            if places
        ]


def _pooled(hidden: torch.Tensor, words: Sequence[Sequence[int]]) -> NDArray[np.float32]:
    """Mean over the tokens of each word, in float32: (words, width)."""
    tokens = torch.tensor([place for places in words for place in places], device=hidden.device)
    owners = torch.tensor([word for word, places in enumerate(words) for _ in places], device=hidden.device)
    counts = torch.tensor([[len(places)] for places in words], device=hidden.device, dtype=torch.float32)
    states = hidden.reshape(-1, hidden.shape[-1])[tokens].float()
    sums = torch.zeros(len(words), hidden.shape[-1], device=hidden.device).index_add_(0, owners, states)
    return (sums / counts).cpu().numpy()


def _with_labels(
    states: NDArray[np.float32],
    numbers: tuple[int, ...],
    sentences: Sequence[Sentence],
    sentence_of: NDArray[np.int64],
    tokens: Sequence[WordTokens],
) -> WordVectors:
    """States with what the treebank says about their words."""
    kept = [(index, word) for index, one in enumerate(tokens) for word, places in enumerate(one.positions) if places]
    rows = {place: row for row, place in enumerate(kept)}
    return WordVectors(
        layers=states,
        sentence=sentence_of[[index for index, _ in kept]],
        upos=tuple(sentences[index].upos[word] for index, word in kept),
        relations=tuple(sentences[index].relations[word] for index, word in kept),
        heads=np.array([rows.get((index, sentences[index].heads[word]), -1) for index, word in kept], np.int64),
        words=tuple(sentences[index].words[word] for index, word in kept),
        layer_numbers=numbers,
        words_cut=sum(one.words_cut for one in tokens),
        words_without_tokens=sum(one.words_without_tokens for one in tokens),
    )


def _layer_numbers(layers: Sequence[int] | None, count: int) -> tuple[int, ...]:
    numbers = tuple(range(count)) if layers is None else tuple(layers)
    if not numbers or not set(numbers) <= set(range(count)) or len(set(numbers)) < len(numbers):
        raise InputError(f"layers must be some of 0 (the embeddings) to {count - 1}, each once, got {list(numbers)}.")
    return numbers


def _padding_of(tokenizer: Any) -> int:
    """What fills short rows; it is masked, so any token will do."""
    found = getattr(tokenizer, "pad_token_id", None)
    return 0 if found is None else int(found)


def _require_options(pooling: str, max_sentences: int | None, batch_size: int) -> None:
    if pooling not in get_args(Pooling):
        raise InputError(f"pooling must be one of {', '.join(get_args(Pooling))}, got {pooling!r}.")
    for name, value in (("max_sentences", max_sentences), ("batch_size", batch_size)):
        if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
            raise InputError(f"{name} must be a whole number of at least 1, got {value!r}.")


def _require_known(stack: Any, tokens: Sequence[WordTokens], language: str) -> None:
    largest, rows = max(max(one.ids, default=0) for one in tokens), int(stack.get_input_embeddings().weight.shape[0])
    if largest >= rows:
        raise UnsupportedModelError(
            f"{language!r}: the tokenizer gives the token {largest}, and the model has embeddings of 0 to {rows - 1} only. Load the "
            "tokenizer that belongs to the model."
        )


def _require_finite(states: NDArray[np.float32], numbers: Sequence[int], language: str) -> None:
    broken = [number for number, layer in zip(numbers, states, strict=True) if not np.isfinite(layer).all()]
    if broken:
        raise NonFiniteError(
            f"{language!r}: the hidden states of layer {', '.join(map(str, broken))} have NaN or infinity in them. Load the "
            "model in float32 or bfloat16, or leave these layers out with layers=."
        )
