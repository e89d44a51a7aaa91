"""Anchors: plain, unique, and never too long for a file's name."""

from __future__ import annotations

from hf_langcore.report.anchors import Names, anchors
from hf_langcore.report.parts import Section, Texts


def _section(name: str, *parts: str) -> Section:
    return Section(name, "", (), tuple(Texts(part, "", "", {}) for part in parts))


def test_sections_and_parts() -> None:
    (name, section, parts), *_ = anchors([_section("dose", "curve", "said")])
    assert name == "dose"
    assert section.title == ""
    assert [anchor for anchor, _ in parts] == ["dose-curve", "dose-said"]


def test_none_twice_whatever_the_names() -> None:
    """Also where they differ in capitals only, in what is left out, or are one of the page's own."""
    sections = [
        _section(*names)
        for names in (("a", "b"), ("A", "b"), ("a-b",), ("a/b",), ("zoom", "汉"), ("x" * 300, "<>"), ("",))
    ]
    found = [name for own, _, parts in anchors(sections) for name in (own, *(each for each, _ in parts))]
    assert len({name.lower() for name in found}) == len(found) == 11
    assert "zoom" not in found
    assert max(map(len, found)) < 100
    assert all(name.replace("-", "").replace("_", "").isalnum() and name.isascii() for name in found)


def test_names_are_numbered() -> None:
    names = Names(["one"])
    assert [names.give(name) for name in ("one", "one", "two/../three")] == ["one-2", "one-3", "two-three"]
