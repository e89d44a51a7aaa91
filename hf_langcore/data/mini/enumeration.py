"""The numbering of all meanings: index -> meaning, shuffled by a seed, without repetition and without end.

Of four sentences three are simple while simple ones last; the fourth joins two clauses. When all simple
sentences have been said, everything is compound, first of two clauses, then of three, and so on.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from hashlib import shake_128
from typing import NamedTuple

from hf_langcore.data.mini.concepts import (
    AGENT_ADJECTIVES,
    AGENTS,
    ANIMAL_EVENTS,
    ANIMALS,
    CONNECTIVES,
    COUNTED_QUANTITIES,
    HOMES,
    MASS_QUANTITIES,
    MASSES,
    PATIENT_ADJECTIVES,
    PEOPLE_EVENTS,
    TIMES,
    VERB_PLACES,
)
from hf_langcore.data.mini.meaning import Clause, Meaning

_FEISTEL_ROUNDS = 4
_SIMPLE_OF_A_ROUND = 3
_ROUND = 4


class _Core(NamedTuple):
    """The choices that depend on each other; all other choices are free."""

    agent: str
    verb: str
    patient: str
    quantity: str
    agent_modifiers: tuple[tuple[str, str], ...]
    patient_adjectives: tuple[str, ...]
    places: tuple[str, ...]


def _core(agent: str, verb: str, patient: str, quantity: str) -> _Core:
    adjectives = [(adjective, "") for adjective in AGENT_ADJECTIVES[agent]]
    modifiers = (("", ""), *adjectives, *(("", home) for home in HOMES))
    return _Core(
        agent, verb, patient, quantity, modifiers, ("", *PATIENT_ADJECTIVES[patient]), ("", *VERB_PLACES[verb])
    )


def _cores() -> tuple[_Core, ...]:
    return tuple(
        _core(agent, verb, patient, quantity)
        for agent in AGENTS
        for verb, patients in (ANIMAL_EVENTS if agent in ANIMALS else PEOPLE_EVENTS).items()
        for patient in patients
        if patient != agent
        for quantity in (MASS_QUANTITIES if patient in MASSES else COUNTED_QUANTITIES)
    )


_CORES = _cores()
_TIMELESS = (
    len(_CORES) * 2 * len(_CORES[0].agent_modifiers) * len(_CORES[0].patient_adjectives) * len(_CORES[0].places)
)

SIMPLE_MEANINGS = _TIMELESS * len(TIMES)
# From this index on every sentence is compound.
FIRST_ALL_COMPOUND = SIMPLE_MEANINGS // _SIMPLE_OF_A_ROUND * _ROUND


def meaning_at(index: int, seed: int) -> Meaning:
    """The meaning with this index in the order that the seed gives; different indices, different meanings."""
    if index >= FIRST_ALL_COMPOUND:
        return _compound(index - FIRST_ALL_COMPOUND // _ROUND * _SIMPLE_OF_A_ROUND, seed)
    rounds, place = divmod(index, _ROUND)
    if place == _SIMPLE_OF_A_ROUND:
        return _compound(rounds, seed)
    code = shuffled(rounds * _SIMPLE_OF_A_ROUND + place, SIMPLE_MEANINGS, seed)
    rest, time = divmod(code, len(TIMES))
    return Meaning((_clause(rest, TIMES[time]),))


def _compound(ordinal: int, seed: int) -> Meaning:
    clauses, size = 2, _compound_meanings(2)
    while ordinal >= size:
        ordinal -= size
        clauses += 1
        size = _compound_meanings(clauses)
    code, time = divmod(shuffled(ordinal, size, seed), len(TIMES))
    said, connectives = [], []
    for _ in range(clauses):
        code, one = divmod(code, _TIMELESS)
        said.append(_clause(one, TIMES[time]))
    for _ in range(clauses - 1):
        code, which = divmod(code, len(CONNECTIVES))
        connectives.append(CONNECTIVES[which])
    return Meaning(tuple(said), tuple(connectives))


@cache
def _compound_meanings(clauses: int) -> int:
    return int(_TIMELESS**clauses * len(CONNECTIVES) ** (clauses - 1) * len(TIMES))


def _clause(code: int, time: str) -> Clause:
    code, which = divmod(code, len(_CORES))
    core = _CORES[which]
    code, plural = divmod(code, 2)
    code, which = divmod(code, len(core.agent_modifiers))
    adjective, home = core.agent_modifiers[which]
    place, which = divmod(code, len(core.patient_adjectives))
    return Clause(
        core.agent,
        plural == 1,
        adjective,
        home,
        core.verb,
        core.patient,
        core.quantity,
        core.patient_adjectives[which],
        core.places[place],
        time,
    )


def shuffled(value: int, size: int, seed: int) -> int:
    """The place of `value` in a seeded permutation of `range(size)`, in constant memory for any size.

    A Feistel network permutes the next power of four; walking its cycle until the result falls below `size`
    makes that a permutation of `range(size)`.
    """
    half = max(1, ((size - 1).bit_length() + 1) // 2)
    permute = _feistel(half, seed)
    value = permute(value)
    while value >= size:
        value = permute(value)
    return value


@cache
def _feistel(half: int, seed: int) -> Callable[[int], int]:
    keys = [shake_128(f"{seed}/{step}".encode()) for step in range(_FEISTEL_ROUNDS)]
    mask, length = (1 << half) - 1, (half + 7) // 8

    def permute(value: int) -> int:
        left, right = value >> half, value & mask
        for key in keys:
            digest = key.copy()
            digest.update(right.to_bytes(length, "little"))
            left, right = right, left ^ (int.from_bytes(digest.digest(length), "little") & mask)
        return left << half | right

    return permute
