"""Translations share a number, whatever their place."""

from __future__ import annotations

from hf_langcore.probing.parallel import sentence_numbers
from hf_langcore.probing.treebanks import Sentence


def bank(*names: str) -> list[Sentence]:
    return [Sentence(("a",), ("X",), (-1,), ("root",), name=name) for name in names]


def numbers(**names: str) -> dict[str, list[int]]:
    """Numbers of treebanks whose sentences are named by single letters, "-" being no name."""
    treebanks = {code: bank(*listed.replace("-", " ").replace(" ", "\0")) for code, listed in names.items()}
    nameless = {code: [*map(_without_name, some)] for code, some in treebanks.items()}
    return {code: some.tolist() for code, some in sentence_numbers(nameless).items()}


def _without_name(sentence: Sentence) -> Sentence:
    return bank("")[0] if sentence.name == "\0" else sentence


def test_translations_share_a_number_in_any_order() -> None:
    assert numbers(a="abcd", b="bcd", c="dcba") == {"a": [0, 1, 2, 3], "b": [1, 2, 3], "c": [3, 2, 1, 0]}


def test_without_names_places_decide() -> None:
    """Names that a treebank has twice are none."""
    assert numbers(a="---", b="abc", c="zzz") == {code: [0, 1, 2] for code in "abc"}


def test_numbers_differ_within_a_language() -> None:
    """The place of a sentence that only one language has may be taken; its translation in a third is found all the same."""
    assert numbers(a="abc", b="xab", c="bx") == {"a": [0, 1, 2], "b": [3, 0, 1], "c": [1, 3]}
    assert sentence_numbers({}) == {}
