from __future__ import annotations

from typing import Any

import pytest
import torch
from card_models import BASE, BASE_SHA, mask_of, tiny_llama
from loopback.card import validate

from hf_langcore.errors import InputError
from hf_langcore.hub.card_data import license_of_base, mask_metadata
from hf_langcore.hub.front_matter import join_card
from hf_langcore.masks import CoreMask, Provenance


@pytest.fixture(scope="module")
def mask() -> CoreMask:
    return mask_of(tiny_llama(), tokens={"en": 90, "pt-BR": 80, "poems": 7})


def data(core_mask: CoreMask, **options: Any) -> dict[str, Any]:
    given: dict[str, Any] = {"license": None, "base_license": {}, "datasets": (), "known": {}}
    return mask_metadata(core_mask, **(given | options))


def test_what_the_hub_reads(mask: CoreMask) -> None:
    """Library, base, tags, languages that the Hub knows, and the facts that a search shows."""
    made = data(mask, license="mit", datasets=["org/corpus:en:train"])
    assert made == {
        "library_name": "hf_langcore",
        "base_model": BASE,
        "base_model_relation": "adapter",
        "tags": ["core-mask", "taylor"],
        "language": ["en", "pt"],
        "license": "mit",
        "datasets": ["org/corpus"],
        "core_mask": {"method": "taylor", "fraction": 0.05, "digest": mask.digest(), "base_revision": BASE_SHA},
    }
    assert validate(join_card(made, "text")) == ([], [])


def test_without_a_base_and_without_languages() -> None:
    """What is not known is left out, not invented."""
    bare = CoreMask({"w": torch.tensor([True, False])}, provenance=Provenance(base_model="some/where/else"))
    assert data(bare) == {
        "library_name": "hf_langcore", "tags": ["core-mask"], "core_mask": {"method": "given", "digest": bare.digest()}
    }  # fmt: skip


def test_keys_of_the_user_stay(mask: CoreMask) -> None:
    """Tags and data sets are added to, other keys are left alone, ours are renewed."""
    known = {
        "mine": {"deep": [1, "no"]}, "tags": ["favourite", "fisher", "core-mask"], "language": ["xh"], "base_model": "old/base",
        "datasets": ["my/own"], "license": "gpl-3.0", "core_mask": {"method": "fisher", "digest": "old"}, "pipeline_tag": "other",
    }  # fmt: skip
    made = data(mask, known=known, datasets=["org/corpus"])
    assert made["mine"] == known["mine"]
    assert made["pipeline_tag"] == "other"
    assert made["tags"] == ["core-mask", "taylor", "favourite"]
    assert made["datasets"] == ["org/corpus", "my/own"]
    assert (made["language"], made["base_model"], made["license"]) == (["en", "pt"], BASE, "gpl-3.0")
    assert made["core_mask"]["digest"] == mask.digest()
    assert list(made).index("mine") > list(made).index("core_mask")


def test_odd_metadata_of_others(mask: CoreMask) -> None:
    """One tag for a list, facts that are none: read for what they are."""
    assert data(mask, known={"tags": "one", "core_mask": "nonsense", "license": None})["tags"] == [
        "core-mask",
        "taylor",
        "one",
    ]


@pytest.mark.parametrize(
    "given, known, expected",
    [
        (None, {}, {"license": "other", "license_name": "base", "license_link": "https://x.test"}),
        (None, {"license": "mit"}, {"license": "mit"}),
        ("mit", {}, {"license": "mit"}),
        ("mit", {"license": "other", "license_name": "mine"}, {"license": "mit"}),
        ("other", {"license": "other", "license_name": "mine"}, {"license": "other", "license_name": "mine"}),
    ],
)
def test_the_argument_then_the_card_then_the_base(
    given: str | None, known: dict[str, str], expected: dict[str, str], mask: CoreMask
) -> None:
    base = {"license": "other", "license_name": "base", "license_link": "https://x.test"}
    made = data(mask, license=given, base_license=base, known=known)
    assert {key: value for key, value in made.items() if key.startswith("license")} == expected


@pytest.mark.parametrize("datasets", ["org/corpus", ["/data/corpus"], ["org/cor pus"], ["a/b/c"], [""]])
def test_data_sets_are_repositories(datasets: Any, mask: CoreMask) -> None:
    with pytest.raises(InputError, match="datasets"):
        data(mask, datasets=datasets)


def test_the_license_of_the_base(online: Any) -> None:
    """From the card at the pinned commit; a link into that repository is left out."""
    card = "---\nlicense: other\nlicense_name: their own\nlicense_link: LICENSE\ntags: [x]\n---\n"
    sha = online.hub.create(BASE, files={"README.md": card})
    online.hub.commit(BASE, {"README.md": "---\nlicense: mit\n---\n"})
    mask = mask_of(tiny_llama(), revision=sha)
    assert license_of_base(mask) == {"license": "other", "license_name": "their own"}
    online.offline()  # the cache has it now
    assert license_of_base(mask)["license"] == "other"


def test_a_base_that_nobody_can_read(online: Any) -> None:
    """Missing, without a card, with a damaged one, or without a name: nothing is known, and nothing fails."""
    assert license_of_base(mask_of(tiny_llama(), name="org/missing", revision=None)) == {}
    assert license_of_base(mask_of(tiny_llama(), name=None)) == {}
    for name, files in {"org/none": {"a": "b"}, "org/bad": {"README.md": "---\n- a\n---\n"}, "org/odd": {"README.md": "---\nlicense: [mit]\n---\n"}}.items():  # fmt: skip
        online.hub.create(name, files=files)
        assert license_of_base(mask_of(tiny_llama(), name=name, revision=None)) == {}
