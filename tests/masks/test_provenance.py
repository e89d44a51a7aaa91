"""Provenance: complete, readable, and the same after a trip through JSON."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from typing import Any

import pytest

from hf_langcore.errors import CoreMaskFormatError
from hf_langcore.masks import CoreMask, Fingerprint, Provenance


@pytest.fixture
def full(make_mask: Any) -> Provenance:
    return make_mask().provenance


def test_a_full_provenance_survives_json(full: Provenance) -> None:
    """Every field comes back equal; the fixture leaves two out."""
    values = json.loads(json.dumps(full.to_dict()))
    assert Provenance.from_dict(values) == full
    assert {item.name for item in fields(Provenance)} - set(values) == {"operation", "granularity"}
    assert values["base_fingerprint"]["total"] == full.base_fingerprint.total


def test_what_is_not_known_is_left_out() -> None:
    """No null and no empty mapping is written."""
    assert Provenance().to_dict() == {"method": "given"}
    assert Provenance.from_dict({}) == Provenance()


@pytest.mark.parametrize(
    "values",
    [
        None,
        [],
        ["method"],
        "taylor",
        {"unknown": 1},
        {"method": 3},
        {"fraction": "0.03"},
        {"method": ""},
        {"base_revision": "x" * 1000},
        {"fraction": 2.5},
        {"fraction": True},
        {"seed": True},
        {"block_size": 0},
        {"batch_size": -1},
        {"tokens": {"en": "many"}},
        {"tokens": {"en": -1}},
        {"versions": {"torch": 2}},
        {"transposed": ["a", 1]},
        {"base_model": "me/model\n"},
        {"x" * 10_000: 1},
        {"base_fingerprint": {"algorithm": "x", "tensors": {}}},
        {"base_fingerprint": {"algorithm": "x", "tensors": {"w": 1}}},
        {"base_fingerprint": {"algorithm": "x", "tensors": {"w": "0"}, "total": "of others"}},
        {"seed": 1.5},
        {"tokens": ["en"]},
        {"tokens": None},
        {"base_fingerprint": "abc"},
        {"base_fingerprint": {"tensors": {}}},
        {"base_fingerprint": {"tensors": ["a"], "algorithm": "x"}},
    ],
    ids=str,
)
def test_wrong_forms_are_refused(values: Any) -> None:
    """A file from elsewhere gives a format error and no Python one; only an empty list reads as nothing."""
    if values == []:
        assert Provenance.from_dict(values) == Provenance()
        return
    with pytest.raises(CoreMaskFormatError, match="provenance of the mask cannot be read"):
        Provenance.from_dict(values)


def test_languages_keep_their_order() -> None:
    """As they were given."""
    assert Provenance(tokens={"zh": 1, "en": 2}).languages == ("zh", "en")


@pytest.mark.parametrize(
    ("provenance", "phrase"),
    [
        (Provenance(), "given"),
        (Provenance("taylor", which="top", fraction=0.03, tokens={"ar": 1, "es": 2}), "taylor top 3 % (ar es)"),
        (Provenance("magnitude", which="bottom", fraction=0.005), "magnitude bottom 0.5 %"),
        (Provenance("combined", operation="a - b"), "(a - b)"),
    ],
)
def test_the_summary_is_one_phrase(provenance: Provenance, phrase: str) -> None:
    """Tables and cards print it."""
    assert provenance.summary() == phrase


def test_selection_is_recorded(full: Provenance) -> None:
    """A random selection records its seed; a ranked one keeps the seed of the scores."""
    ranked = full.selected(which="bottom", fraction=0.2, seed=9)
    assert (ranked.which, ranked.fraction, ranked.seed, ranked.tokens) == ("bottom", 0.2, full.seed, full.tokens)
    assert full.selected(which="random", fraction=0.2, seed=9).seed == 9


def test_a_combination_says_what_was_combined(full: Provenance) -> None:
    """Both operands are named, also where they are the same one."""
    other = replace(full, method="magnitude")
    assert full.combined("-", other).summary() == f"({full.summary()} - {other.summary()})"
    assert full.combined("-", full).summary() == f"({full.summary()} - {full.summary()})"
    assert full.combined("complement").summary() == f"({full.summary()} complement)"


def test_a_combination_keeps_the_base_that_both_share(full: Provenance) -> None:
    """Name, revision and fingerprint."""
    combined = full.combined("&", replace(full, method="magnitude"))
    assert combined.base_model == full.base_model
    assert combined.base_revision == full.base_revision
    assert combined.base_fingerprint == full.base_fingerprint


def test_a_combination_of_two_bases_has_none(full: Provenance) -> None:
    """Another fingerprint, or without fingerprints another name: then no base is claimed."""
    other = replace(full, base_fingerprint=Fingerprint({"a": "f" * 16}))
    assert full.combined("&", other).base_model is None
    assert full.combined("&", other).base_fingerprint is None
    named, elsewhere = Provenance(base_model="me/a"), Provenance(base_model="me/b")
    assert named.combined("|", elsewhere).base_model is None


def test_masks_of_different_tensors_of_one_base(full: Provenance) -> None:
    """The fingerprints of all tensors, where those that both know agree; where one differs, no base is claimed."""
    mine = replace(full, base_fingerprint=Fingerprint({"a": "0", "b": "1"}), transposed=("a",))
    other = replace(full, base_fingerprint=Fingerprint({"b": "1", "c": "2"}), transposed=("c",))
    both = mine.combined("|", other)
    assert both.base_fingerprint == Fingerprint({"a": "0", "b": "1", "c": "2"})
    assert both.transposed == ("a", "c")
    assert both.base_model == full.base_model
    for tensors, algorithm in (({"b": "x", "a": "0"}, None), ({"c": "2"}, None), ({"b": "1"}, "another")):
        print_ = Fingerprint(tensors, algorithm) if algorithm else Fingerprint(tensors)
        combined = mine.combined("|", replace(other, base_fingerprint=print_))
        assert (combined.base_fingerprint, combined.base_model, combined.transposed) == (None, None, ())


def test_one_base_under_two_names_keeps_its_fingerprint(full: Provenance) -> None:
    """A local copy and the Hub's repository hold the same weights; only the name is dropped."""
    combined = full.combined("&", replace(full, base_model="/models/copy"))
    assert combined.base_model is None
    assert combined.base_fingerprint == full.base_fingerprint


def test_set_operations_of_masks_use_it(make_mask: Any) -> None:
    """A mask minus itself names itself twice."""
    mask: CoreMask = make_mask()
    assert (mask - mask).provenance.operation == "taylor top 5 % (en zh) - taylor top 5 % (en zh)"
