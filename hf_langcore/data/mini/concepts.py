"""What the mini corpus talks about: who does what to what, where and when. Nothing here belongs to a language.

Concepts are named by English words. Every list that a meaning chooses from has a fixed length (five adjectives
for an agent, three for a thing, five places for a verb), so that meanings can be numbered without gaps.
"""

from __future__ import annotations

from typing import Literal

Tense = Literal["past", "present", "future"]

PEOPLE = (
    "woman", "man", "girl", "boy", "teacher", "doctor", "student", "farmer", "grandmother", "neighbour",
    "artist", "merchant",
)  # fmt: skip
ANIMALS = ("cat", "dog", "bird", "horse")
AGENTS = PEOPLE + ANIMALS
MASSES = ("bread", "soup", "rice", "water", "milk", "tea")

COUNTED_QUANTITIES = ("a", "this", "two", "three", "five")
MASS_QUANTITIES = ("some", "this")

TENSES: dict[str, Tense] = {
    "yesterday": "past",
    "last_week": "past",
    "this_morning": "past",
    "every_day": "present",
    "every_morning": "present",
    "tomorrow": "future",
    "next_week": "future",
    "this_evening": "future",
}
TIMES = tuple(TENSES)
# These open the sentence; the others follow. One place for each keeps the order of words free of chance.
FRONTED_TIMES = frozenset({"yesterday", "last_week", "every_morning", "tomorrow"})

# Where somebody can live; must be places of which every grammar has a phrase.
HOMES = ("village", "city")

CONNECTIVES = ("and", "but", "because")

_GROWN = ("young", "strong", "kind", "tired", "happy")
_CHILD = ("small", "strong", "kind", "tired", "happy")
_AGED = ("hungry", "strong", "kind", "tired", "happy")
_BEAST = ("small", "black", "white", "big", "hungry")

AGENT_ADJECTIVES: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(PEOPLE, _GROWN),
    **dict.fromkeys(("girl", "boy"), _CHILD),
    "grandmother": _AGED,
    **dict.fromkeys(ANIMALS, _BEAST),
}

PATIENT_ADJECTIVES: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(ANIMALS, _BEAST[:3]),
    "book": ("new", "old", "interesting"),
    "letter": ("new", "old", "interesting"),
    "newspaper": ("new", "old", "interesting"),
    "apple": ("red", "small", "fresh"),
    "flower": ("red", "white", "beautiful"),
    "car": ("new", "old", "red"),
    "house": ("big", "white", "old"),
    "table": ("new", "old", "big"),
    "shirt": ("new", "white", "red"),
    "key": ("small", "old", "new"),
    "cup": ("small", "white", "beautiful"),
    "picture": ("beautiful", "old", "big"),
    "bicycle": ("new", "red", "old"),
    "bag": ("black", "new", "big"),
    "fish": ("fresh", "big", "small"),
    "egg": ("fresh", "white", "small"),
    "bread": ("fresh", "delicious", "white"),
    "soup": ("hot", "red", "delicious"),
    "rice": ("hot", "white", "delicious"),
    "water": ("cold", "hot", "clean"),
    "milk": ("fresh", "cold", "hot"),
    "tea": ("hot", "cold", "delicious"),
}

_WARES = (
    "book", "newspaper", "apple", "flower", "car", "shirt", "bag", "bicycle", "fish", "egg", "cup", "picture",
    "bread", "milk", "tea",
)  # fmt: skip

# verb -> what people do it to
PEOPLE_EVENTS: dict[str, tuple[str, ...]] = {
    "read": ("book", "letter", "newspaper"),
    "write": ("book", "letter"),
    "buy": (*_WARES, "table"),
    "sell": (*_WARES, "soup"),
    "see": ("cat", "dog", "bird", "horse", "house", "car", "flower", "picture"),
    "eat": ("apple", "fish", "egg", "bread", "rice"),
    "drink": ("water", "milk", "tea"),
    "cook": ("fish", "egg", "soup", "rice"),
    "find": ("key", "letter", "bag", "book", "cat", "dog"),
    "hide": ("key", "letter", "bag", "book", "picture"),
    "draw": ("house", "flower", "bird", "horse", "cat", "picture"),
    "wash": ("car", "cup", "apple", "bicycle"),
    "repair": ("car", "table", "bag", "bicycle"),
    "seek": ("key", "letter", "bag", "book", "cat", "dog"),
    "open": ("letter", "bag"),
    "feed": ("cat", "dog", "bird", "horse"),
}

ANIMAL_EVENTS: dict[str, tuple[str, ...]] = {
    "see": ("cat", "dog", "bird", "horse", "house", "car", "flower"),
    "eat": ("apple", "fish", "egg", "bread", "rice"),
    "drink": ("water", "milk"),
    "find": ("apple", "fish", "egg", "bread"),
    "seek": ("apple", "fish", "egg", "bread"),
}

VERB_PLACES: dict[str, tuple[str, ...]] = {
    "read": ("garden", "school", "park", "library", "river"),
    "write": ("school", "library", "garden", "kitchen", "village"),
    "buy": ("market", "shop", "village", "city", "park"),
    "sell": ("market", "shop", "village", "city", "river"),
    "see": ("garden", "park", "village", "city", "river"),
    "eat": ("kitchen", "garden", "park", "school", "river"),
    "drink": ("kitchen", "garden", "park", "school", "river"),
    "cook": ("kitchen", "garden", "school", "village", "river"),
    "find": ("garden", "park", "kitchen", "market", "river"),
    "hide": ("garden", "kitchen", "school", "library", "shop"),
    "draw": ("garden", "park", "school", "village", "river"),
    "wash": ("garden", "park", "village", "city", "river"),
    "repair": ("garden", "village", "city", "shop", "school"),
    "seek": ("garden", "park", "kitchen", "market", "river"),
    "open": ("kitchen", "garden", "school", "library", "shop"),
    "feed": ("garden", "park", "village", "market", "river"),
}
PLACES = tuple(sorted({place for places in VERB_PLACES.values() for place in places}))
