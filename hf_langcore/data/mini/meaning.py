"""An abstract meaning: what a sentence says, before any language says it."""

from __future__ import annotations

from typing import NamedTuple

from hf_langcore.data.mini.concepts import TENSES, Tense


class Clause(NamedTuple):
    """Somebody does something to something, somewhere, at some time; an empty string is "not said".

    Attributes:
        agent: Who does it, always definite.
        plural: Whether there are several of them.
        agent_adjective: How they are.
        home: Where they live, said in a relative clause; never together with an adjective.
        verb: What they do.
        patient: What they do it to.
        quantity: "a", "this", "two", "three" or "five"; "some" or "this" of what cannot be counted.
        patient_adjective: How it is.
        place: Where it happens.
        time: When it happens; the clauses of one sentence share it and only the first says it.
    """

    agent: str
    plural: bool
    agent_adjective: str
    home: str
    verb: str
    patient: str
    quantity: str
    patient_adjective: str
    place: str
    time: str

    @property
    def tense(self) -> Tense:
        """The tense that the time asks for."""
        return TENSES[self.time]


class Meaning(NamedTuple):
    """One or more clauses.

    Attributes:
        clauses: The clauses in order.
        connectives: What joins each later clause to what precedes: "and", "but" or "because".
    """

    clauses: tuple[Clause, ...]
    connectives: tuple[str, ...] = ()
