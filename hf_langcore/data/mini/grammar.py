"""What all grammars share: joining clauses, setting the full stop, numbering heads."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from hf_langcore.data.mini.concepts import FRONTED_TIMES
from hf_langcore.data.mini.meaning import Clause, Meaning
from hf_langcore.data.mini.phrase import Phrase, adjunct, attach, word
from hf_langcore.data.mini.sentence import MiniSentence, MiniToken

Slot = list[tuple[str, Phrase]]
COMMA = word(",", "PUNCT", joins_left=True)


def capitalised(form: str) -> str:
    """The form with a capital first letter, the rest as it is."""
    return form[0].upper() + form[1:]


@dataclass(frozen=True, slots=True)
class Grammar:
    """How one language says a meaning.

    Attributes:
        code: ISO 639-1 code.
        clause: Puts a clause into words. The second argument is what joins it to the first clause, or "" for
            the first clause itself, the only one that says its time.
        connectives: The words for "and", "but" and "because".
        with_comma: Which of them ask for a comma.
        compose: Puts all clauses of a meaning together, where order of clauses and words do not suffice.
        stop: The full stop.
        comma: The comma.
        spaced: Whether words are parted by spaces.
        capitalise: Gives the first word its capital letter.
    """

    code: str
    clause: Callable[[Clause, str], Phrase]
    connectives: Mapping[str, Phrase]
    with_comma: frozenset[str] = frozenset({"and", "but", "because"})
    compose: Callable[[Meaning], Phrase] | None = None
    stop: str = "."
    comma: Phrase = COMMA
    spaced: bool = True
    capitalise: Callable[[str], str] = capitalised

    def sentence(self, meaning: Meaning) -> MiniSentence:
        """The meaning as a sentence of this language."""
        said = self.compose(meaning) if self.compose else self._in_order(meaning)
        return self._finished(attach(said, after=[("punct", word(self.stop, "PUNCT", joins_left=True))]))

    def _in_order(self, meaning: Meaning) -> Phrase:
        first = self.clause(meaning.clauses[0], "")
        if not meaning.connectives:
            return first
        later = [
            ("advcl" if connective == "because" else "conj", self._joined(clause, connective))
            for clause, connective in zip(meaning.clauses[1:], meaning.connectives, strict=True)
        ]
        return attach(first, after=later)

    def _joined(self, clause: Clause, connective: str) -> Phrase:
        comma: Slot = [("punct", self.comma)] if connective in self.with_comma else []
        relation = "mark" if connective == "because" else "cc"
        return attach(self.clause(clause, connective), [*comma, (relation, self.connectives[connective])])

    def _finished(self, said: Phrase) -> MiniSentence:
        words, last = said.words, len(said.words) - 1
        tokens: list[MiniToken] = []
        for at, (form, upos, deprel, distance, _, joins_right) in enumerate(words):
            space = self.spaced and not joins_right and (at == last or not words[at + 1].joins_left)
            written = form if at else self.capitalise(form)
            if at == said.root:
                tokens.append(MiniToken(written, upos, 0, "root", space))
            else:
                tokens.append(MiniToken(written, upos, at + distance + 1, deprel, space))
        return MiniSentence(self.code, tuple(tokens))


def time_slots(clause: Clause, role: str, times: Mapping[str, Phrase]) -> tuple[Slot, Slot]:
    """The time as a slot at the front and a slot later in the sentence, at most one of them filled."""
    if role:
        return [], []
    said = [adjunct(times[clause.time])]
    return (said, []) if clause.time in FRONTED_TIMES else ([], said)


def place_slot(clause: Clause, places: Mapping[str, Phrase]) -> Slot:
    """The place, if one is said."""
    return [adjunct(places[clause.place])] if clause.place else []


def adjective_slot(form: str) -> Slot:
    """An attributive adjective, if there is one."""
    return [("amod", word(form, "ADJ"))] if form else []
