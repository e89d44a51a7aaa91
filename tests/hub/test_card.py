from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from card_checks import check_card, snippets
from card_models import BASE, BASE_SHA, mask_of, tiny_llama
from huggingface_hub import ModelCard

import hf_langcore
from hf_langcore.errors import InputError
from hf_langcore.hub.card import MARKS, mask_card
from hf_langcore.hub.eval_record import EvalRecord
from hf_langcore.hub.records import EvalResults
from hf_langcore.masks import CoreMask

FOUND = {
    "tokens": {"en": 9000, "zh": 8000, "po|ems": 70},
    "block_size": 512,
    "batch_size": 8,
    "versions": {"torch": "2.13"},
}


@pytest.fixture(scope="module")
def mask() -> CoreMask:
    return mask_of(tiny_llama(), **FOUND)


def results(**figures: float) -> EvalResults:
    edits = {"base": None, "core zero": {"kind": "perturb"}}
    return EvalResults(
        EvalRecord(model=BASE, model_revision=BASE_SHA, condition=condition, language=language, tokens=100, nll=nll)
        for language, nll in figures.items()
        for condition in edits
    )


def test_a_card_says_everything(mask: CoreMask) -> None:
    """What a reader needs, in one sound card."""
    content = mask_card(mask, repo_id="me/mask", license="mit", datasets=["org/corpus"])
    card = check_card(content)
    print_ = mask.provenance.base_fingerprint
    assert print_ is not None
    for words in (
        "# Core mask of base",
        f"[`{BASE}`](https://huggingface.co/{BASE}/tree/{BASE_SHA}) at revision `{BASE_SHA}`",
        "`taylor`: abs(sum over batches of gradient * weight)",
        "5 % of every tensor, single weights, the highest scores",
        "17,070 in all: en 9,000, zh 8,000, po\\|ems 70",
        "512 tokens, start token included",
        "8 blocks",
        "torch 2.13",
        f"| core weights | {mask.count():,} |",
        f"| weights in the covered tensors | {mask.numel():,} |",
        "| `model.layers.*.self_attn.q_proj.weight` | 1 | 256 | 12 | 4.69 % |",
        f"`{BASE}` @ `{BASE_SHA}`",
        print_.total,
        mask.digest(),
        "@inproceedings{zhang-etal-2024-unveiling-linguistic",
        "10.18653/v1/2024.acl-long.338",
        f"- hf_langcore: {hf_langcore.__version__}",
        "is *not* shown",
        "## Limits",
    ):
        assert words in content, words
    assert card.data.base_model == BASE
    assert "This mask" not in content
    assert "## Results" not in content


def test_figures_of_the_results(mask: CoreMask) -> None:
    """Language by condition, also where a perplexity has no end, and mirrored in the metadata."""
    card = check_card(mask_card(mask, repo_id="me/mask", results=results(en=math.log(40), zh=float("inf"))))
    assert "## Results" in card.text
    assert "40.00" in card.text
    values = [(one.metric_args["language"], one.metric_value) for one in card.data.eval_results]
    assert ("en", pytest.approx(40)) in values
    assert "## Results" not in mask_card(mask, repo_id="me/mask", results=EvalResults())


def test_pictures(mask: CoreMask) -> None:
    content = mask_card(mask, repo_id="me/mask", figures={"figures/a.png": "The [core]\nregion", "b.svg": "B"})
    check_card(content)
    assert "![The  core  region](figures/a.png)\n\n![B](b.svg)" in content


@pytest.mark.parametrize("path", ["/a.png", "../a.png", "a.txt", "a b.png", "a.png](x", "https://x.test/a.png?b"])
def test_what_is_no_picture(path: str, mask: CoreMask) -> None:
    with pytest.raises(InputError, match="figures"):
        mask_card(mask, repo_id="me/mask", figures={path: "A"})


def test_what_users_wrote_stays(mask: CoreMask) -> None:
    """Before and after our part, and in the metadata; our part is renewed, and a third time changes nothing."""
    first = mask_card(mask, repo_id="me/mask", license="mit")
    head, mark, rest = first.partition("<!-- core-mask -->")
    edited = f"{head.replace('tags:', 'mine: no')}My words.\n\n{mark}{rest}\n## My notes\n\n{{{{ braces }}}} | bars\n"
    edited = edited.replace("mine: no\n", "mine: no\ntags:\n- favourite\n").replace(mask.digest(), "0" * 64)
    other = mask.random_like(seed=1)
    second = mask_card(other, repo_id="me/mask", previous=edited)
    assert "My words.\n\n<!-- core-mask -->" in second
    assert second.endswith("<!-- /core-mask -->\n\n## My notes\n\n{{ braces }} | bars\n")
    data = ModelCard(second).data.to_dict()
    assert (data["mine"], data["license"]) == ("no", "mit")
    assert set(data["tags"]) >= {"core-mask", "favourite"}
    assert mask.digest() not in second
    assert other.digest() in second
    assert mask_card(other, repo_id="me/mask", previous=second) == second


def test_a_card_that_somebody_else_wrote(mask: CoreMask) -> None:
    """Ours comes first, theirs stays whole; foreign line ends are read."""
    content = mask_card(mask, repo_id="me/mask", previous="---\r\nlicense: mit\r\n---\r\n# Theirs\r\n\r\nWords.\r\n")
    check_card(content)
    assert content.endswith("<!-- /core-mask -->\n\n# Theirs\n\nWords.\n")
    with pytest.raises(InputError, match="no YAML mapping"):
        mask_card(mask, repo_id="me/mask", previous="---\n- a\n---\n")


def test_foreign_results_in_the_metadata_stay(mask: CoreMask) -> None:
    metric = {"type": "accuracy", "value": 0.5}
    theirs = {"task": {"type": "text-generation"}, "dataset": {"type": "a/b", "name": "b"}, "metrics": [metric]}
    previous = "---\n" + f"model-index: {[{'name': 'x', 'results': [theirs]}]}\n---\n"
    for given in (None, results(en=1.0)):
        index = ModelCard(mask_card(mask, repo_id="me/mask", results=given, previous=previous)).data.to_dict()[
            "model-index"
        ]
        assert metric in [one for result in index[0]["results"] for one in result["metrics"]]


@pytest.mark.parametrize(
    "change",
    [
        {"base_model": None, "base_revision": None, "base_fingerprint": None},
        {"base_model": "/home/somebody/secret/model", "base_revision": None},
        {"base_revision": None},
        {"tokens": {}, "block_size": None, "batch_size": None, "versions": {}},
        {"method": "random", "which": "random", "seed": 3},
        {"method": "fisher", "granularity": "heads"},
        {"operation": "(taylor top 1 % | fisher top 1 %)", "method": "combined", "which": None, "fraction": None},
        {"method": "my own | method"},
        {"which": "bottom"},
    ],
)
def test_whatever_is_known(change: dict[str, Any], mask: CoreMask) -> None:
    """Cards of all kinds of masks are sound, and hold no folder of this machine."""
    known = replace(mask.provenance, **change)
    content = mask_card(CoreMask(mask, provenance=known), repo_id="me/mask")
    card = check_card(content)
    assert "secret" not in content
    assert ("This mask is a control" in content) == (known.method == "random" or known.which == "bottom")
    assert ("made of other masks" in content) == (known.method == "combined")
    assert ("The base model is not on the Hub" in content) == (card.data.base_model is None)
    for code in snippets(content):
        compile(code, "card", "exec")


def test_masks_of_all_shapes() -> None:
    """Vectors, stacks of experts, nothing chosen, everything chosen."""
    hot = torch.zeros(4, 32, 32, dtype=torch.bool)
    hot[1, :, 7] = True
    masks = {"a.experts": hot, "b.bias": torch.tensor([True, False]), "c.weight": torch.ones(2, 2, dtype=torch.bool)}
    content = mask_card(CoreMask(masks), repo_id="me/mask")
    check_card(content)
    assert "made by hand" in content
    assert "| `b.bias` | single weight | 0 | 1 of 1 |" in content
    assert "| `a.experts` | axis" in content
    empty = mask_card(CoreMask({"w": torch.zeros(3, 3, dtype=torch.bool)}), repo_id="me/mask")
    check_card(empty)
    assert "| density | 0 % |" in empty
    assert "concentrates" not in empty


def test_the_hub_finds_nothing_wrong(mask: CoreMask, online: Any) -> None:
    """Asked as huggingface_hub asks it."""
    ModelCard(mask_card(mask, repo_id="me/mask", license="mit", results=results(en=1.0))).validate()
    with pytest.raises(ValueError, match="license"):
        ModelCard(mask_card(mask, repo_id="me/mask", license="my own words")).validate()


def test_our_part_is_marked(mask: CoreMask) -> None:
    part = MARKS.of(mask_card(mask, repo_id="me/mask"))
    assert part is not None
    assert part.startswith("<!-- This part")
    assert "\n# Core mask of " in part
