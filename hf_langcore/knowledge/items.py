"""What is asked: facts with one right and several wrong completions, and sentences with their ungrammatical twins."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Fact:
    """A sentence that breaks off, and how it may go on.

    Attributes:
        name: The same for the same fact in other languages, such as "capital-france".
        kind: What it is about, such as "capital".
        prompt: The sentence up to where it breaks off.
        right: The completion that is true.
        wrong: Completions of the same kind that are false.
    """

    name: str
    kind: str
    prompt: str
    right: str
    wrong: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class MinimalPair:
    """Two sentences that differ in one place.

    Attributes:
        phenomenon: What they differ in, such as "gender agreement".
        grammatical: The correct sentence.
        ungrammatical: The other one.
    """

    phenomenon: str
    grammatical: str
    ungrammatical: str


@dataclass(frozen=True, slots=True)
class KnowledgeSet:
    """Facts and minimal pairs of one language.

    Attributes:
        language: Its code.
        joiner: What stands between a prompt and its completion: a space, or nothing.
        facts: May be empty.
        pairs: May be empty.
    """

    language: str
    joiner: str
    facts: tuple[Fact, ...]
    pairs: tuple[MinimalPair, ...]
