"""Where a text leaves its language: window by window, first by script, then by the language identifier."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Literal

from hf_langcore.errors import InputError
from hf_langcore.language_id import is_dense, likely_languages, windows
from hf_langcore.switching.cleaning import blanked
from hf_langcore.switching.scripts import Run, runs, scripts_of

Outcome = Literal["stayed", "left", "too short", "no language"]

_DENSE_SCRIPTS = frozenset({"Han", "Hangul", "Thai", "Lao", "Khmer", "Myanmar", "Tibetan"})
_STRETCH_LETTERS, _STRETCH_WORDS = 25, 4  # of a script with capital letters
_STRETCH_WEIGHT = 40  # of one without


@dataclass(frozen=True, slots=True)
class Criteria:
    """When a text counts as having left its language.

    Attributes:
        width: Characters of a window; half as many where words have one or two letters. Windows overlap by half.
        ratio: How many times likelier than the prompt's language another one has to be.
        script_share: Share of a window's letters in scripts of other languages from which it has left; below that, such
            letters are names and terms, unless they make up a stretch of running text.
        fewest_letters: Windows with fewer letters are not judged, and neither are texts without any other; half as many are
            enough where words are short.
        among: Codes of the languages that come into question beside the prompt's; all that the identifier knows if None.
    """

    width: int = 100
    ratio: float = 10.0
    script_share: float = 0.7
    fewest_letters: int = 20
    among: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        for name, smallest in (("width", 40), ("fewest_letters", 1)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < smallest:
                raise InputError(f"{name} must be a whole number of at least {smallest}, got {value!r}.")
        if not (isinstance(self.ratio, (int, float)) and math.isfinite(self.ratio) and self.ratio >= 1):
            raise InputError(f"ratio must be a finite number of at least 1, got {self.ratio!r}.")
        if not (isinstance(self.script_share, (int, float)) and 0 < self.script_share <= 1):
            raise InputError(f"script_share must be above 0 and at most 1, got {self.script_share!r}.")


@dataclass(frozen=True, slots=True)
class Judgement:
    """What became of a text.

    Attributes:
        outcome: "stayed", "left", "too short" (too few letters to tell) or "no language" (letters that make no words).
        found: The language that most of the text outside its own is in, or, where that cannot be told, the script; its own
            language if it stayed; None if it cannot be told.
        by: "script" or "language": how the first switch was seen.
        place: Character of the text at which it leaves; where the script stays the same, the window's first.
        share: Share of the judged windows that are in another language.
    """

    outcome: Outcome
    found: str | None = None
    by: Literal["script", "language"] | None = None
    place: int | None = None
    share: float = 0.0


@dataclass(frozen=True, slots=True)
class _Switch:
    found: str
    by: Literal["script", "language"]
    place: int


def judge(text: str, language: str, criteria: Criteria | None = None) -> Judgement:
    """Whether a text is in a language throughout.

    Args:
        text: What a model wrote, without the prompt. Code, formulas and addresses in it are not looked at.
        language: Canonical code of the language that it should be in.
        criteria: When it has left it.
    """
    chosen = criteria or Criteria()
    clean = blanked(text)
    whole = list(runs(clean))
    if not _is_enough(whole, chosen):
        return Judgement("too short")
    told = [
        found for start, piece in _pieces(clean, language, chosen) for found in _judged(piece, start, language, chosen)
    ]
    switches = [one for one in told if one is not None]
    if not told:
        letters = sum(map(str.isalpha, clean)) * (2 if is_dense(clean) else 1)
        return Judgement("no language" if letters >= chosen.fewest_letters else "too short")
    if not switches:
        return Judgement("stayed", language)
    found = Counter(one.found for one in switches).most_common(1)[0][0]
    first = min(switches, key=lambda one: one.place)
    return Judgement("left", found, first.by, first.place, len(switches) / len(told))


def _pieces(text: str, language: str, criteria: Criteria) -> Iterator[tuple[int, str]]:
    """Windows that overlap by half, and one that ends where the text ends, so that a switch near the end has its own."""
    width = criteria.width // (2 if _DENSE_SCRIPTS.intersection(scripts_of(language)) else 1)
    yield from windows(text, width, width // 2)
    if len(text) > width:
        yield len(text) - width, text[-width:]


def _is_enough(found: Sequence[Run], criteria: Criteria) -> bool:
    return sum(one.weight for one in found) >= criteria.fewest_letters


def _judged(piece: str, start: int, language: str, criteria: Criteria) -> Iterator[_Switch | None]:
    """One finding, None where the window stays; nothing where it cannot be told."""
    found = list(runs(piece))
    if not _is_enough(found, criteria):
        return
    own_scripts = scripts_of(language)
    foreign = [one for one in found if one.script not in own_scripts]
    stretch = _stretch(piece, found, own_scripts)
    if stretch or sum(one.weight for one in foreign) >= criteria.script_share * sum(one.weight for one in found):
        letters = stretch or foreign
        yield _Switch(_name_of(letters, criteria), "script", start + letters[0].start)
        return
    among = None if criteria.among is None else {*criteria.among, language}
    own = _without(piece, foreign)
    likely = likely_languages(own, ratio=criteria.ratio, fewest_letters=criteria.fewest_letters, among=among)
    if likely:
        yield None if language in likely else _Switch(likely[0], "language", start)


def _stretch(piece: str, found: Sequence[Run], own_scripts: Collection[str]) -> list[Run]:
    """Letters of other scripts that are running text: many words, most of them not capitalised as names are."""
    for is_foreign, group in groupby(found, key=lambda one: one.script not in own_scripts):
        listed = list(group)
        if is_foreign and _is_running_text(piece, listed):
            return listed
    return []


def _is_running_text(piece: str, listed: Sequence[Run]) -> bool:
    weight = sum(one.weight for one in listed)
    if not all(one.is_cased for one in listed):
        return weight >= _STRETCH_WEIGHT
    last = listed[-1]
    words = piece[listed[0].start : last.start + len(last.text)].split()
    small = sum(word[0].islower() for word in words)
    return weight >= _STRETCH_LETTERS and len(words) >= _STRETCH_WORDS and 2 * small > len(words)


def _name_of(letters: Sequence[Run], criteria: Criteria) -> str:
    """The language of letters in another script, or else that script."""
    text = " ".join(one.text for one in letters)
    likely = likely_languages(text, ratio=1.0, fewest_letters=criteria.fewest_letters, among=criteria.among)
    weights: Counter[str] = Counter()
    for one in letters:
        weights[one.script] += one.weight
    script = weights.most_common(1)[0][0]
    return next((code for code in likely if script in scripts_of(code)), f"{script} letters")


def _without(piece: str, foreign: Sequence[Run]) -> str:
    """The piece with spaces in place of names and terms in other scripts, which the identifier would take for a language."""
    letters = list(piece)
    for one in foreign:
        letters[one.start : one.start + len(one.text)] = " " * len(one.text)
    return "".join(letters)
