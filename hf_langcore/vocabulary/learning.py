"""Which tokens a text would gain most from, learned on top of how the tokenizer cuts it now.

This is the training of byte pair encoding, begun not with characters but with the tokens that are there: the two neighbours
that stand together most often become one token, and so on. A vocabulary that is trained from nothing and then added has
tokens that no merge ever reaches, since the old merges come first and cut the text elsewhere; these are reached by construction.
"""

from __future__ import annotations

import heapq
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

Step: TypeAlias = "tuple[str, ...]"
"""What becomes one token: two neighbours, or one character that the vocabulary lacks."""


@dataclass(frozen=True, slots=True)
class Learned:
    """What was learned.

    Attributes:
        parts: New token -> the two tokens that it is put together of, or itself where it is a character that was lacking.
        steps: All steps in their order, those to tokens that were there already included.
    """

    parts: Mapping[str, Step]
    steps: tuple[Step, ...]


def learn(
    words: Mapping[tuple[str, ...], int],
    vocabulary: Collection[str],
    *,
    num_tokens: int,
    min_frequency: int,
    forbidden: Collection[str] = (),
    join: Callable[[str, str], str] = str.__add__,
) -> Learned:
    """Learn tokens, the most useful first; ties go by the order of their characters.

    Args:
        words: Words as the tokenizer cuts them -> how often each occurs; nothing is joined across words. A symbol that
            is not in `vocabulary` is a character that has no token.
        vocabulary: The tokens that there are.
        num_tokens: How many new ones are wanted; fewer are learned where the text gives no more.
        min_frequency: Times that a token has to occur in the text.
        forbidden: What must neither be joined nor come out of joining: special tokens, bytes of a fallback.
        join: Puts two tokens together.
    """
    corpus = _Corpus(words, set(vocabulary), set(forbidden))
    parts: dict[str, Step] = {}
    steps: list[Step] = []
    while len(parts) < num_tokens:
        step = corpus.best(min_frequency)
        if step is None:
            break
        made = step[0] if len(step) == 1 else join(*step)
        if made in corpus.forbidden:
            corpus.drop(step)
            continue
        if made not in corpus.known:
            parts[made] = step
        steps.append(step)
        corpus.apply(step, made)
    return Learned(parts, tuple(steps))


class _Corpus:
    """The words as they are cut at the moment, and how often each step could be taken."""

    def __init__(self, words: Mapping[tuple[str, ...], int], known: set[str], forbidden: set[str]) -> None:
        self.known, self.forbidden = known, forbidden
        self._words = [list(word) for word in words]
        self._counts = list(words.values())
        self._frequency: Counter[Step] = Counter()
        self._places: defaultdict[Step, set[int]] = defaultdict(set)
        self._heap: list[tuple[int, Step]] = []
        for index in range(len(self._words)):
            self._count(index, 1)
        self._push(self._frequency)

    def best(self, min_frequency: int) -> Step | None:
        """The step that saves most tokens; None where no step is frequent enough."""
        while self._heap:
            gain, step = self._heap[0]
            frequency = self._frequency[step]
            if frequency >= min_frequency and gain == -frequency * _saved(step):
                return step
            heapq.heappop(self._heap)  # has changed meanwhile, and stands further down with its gain of now
        return None

    def drop(self, step: Step) -> None:
        """Never take a step."""
        del self._frequency[step]

    def apply(self, step: Step, made: str) -> None:
        """Take a step wherever it can be taken."""
        places = self._places.pop(step)
        touched = {each for index in places for each in self._count(index, -1)}
        self.known.add(made)  # only now: what is known decides what is counted
        for index in places:
            self._words[index] = _joined(self._words[index], step, made)
            touched.update(self._count(index, 1))
        self._push(touched)

    def _count(self, index: int, sign: int) -> list[Step]:
        found = list(self._steps(self._words[index]))
        for step in found:
            self._frequency[step] += sign * self._counts[index]
            if sign > 0:
                self._places[step].add(index)
        return found

    def _push(self, steps: Collection[Step]) -> None:
        for step in steps:
            if self._frequency[step] > 0:
                heapq.heappush(self._heap, (-self._frequency[step] * _saved(step), step))

    def _steps(self, symbols: Sequence[str]) -> Iterator[Step]:
        free = [symbol in self.known and symbol not in self.forbidden for symbol in symbols]
        for place, symbol in enumerate(symbols):
            if symbol not in self.known:
                yield (symbol,)
            elif place and free[place] and free[place - 1]:
                yield (symbols[place - 1], symbol)


def _saved(step: Step) -> int:
    """Tokens that a step saves where it is taken: a character without a token is three bytes or so."""
    return 1 if len(step) > 1 else max(1, len(step[0].encode()) - 1)


def _joined(symbols: Sequence[str], step: Step, made: str) -> list[str]:
    if len(step) == 1:
        return list(symbols)
    found: list[str] = []
    place = 0
    while place < len(symbols):
        is_here = tuple(symbols[place : place + 2]) == step
        found.append(made if is_here else symbols[place])
        place += 2 if is_here else 1
    return found
