"""The copy of results in a card: ours is written anew, everything else stays as it is."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from huggingface_hub import ModelCard
from hypothesis import given
from hypothesis import strategies as st

from hf_langcore.errors import InputError
from hf_langcore.hub.eval_record import EvalRecord
from hf_langcore.hub.front_matter import share_of_limits
from hf_langcore.hub.model_index import mirrored, model_index_of
from hf_langcore.hub.records import EvalResults

BASE = EvalRecord(
    model="me/model",
    condition="base",
    language="no",
    tokens=100,
    nll=1.5,
    bytes=400,
    dataset="me/texts",
    dataset_config="nob",
    dataset_split="test",
    dataset_revision="e" * 40,
)
ZEROED = replace(BASE, condition="top 3 %", nll=math.inf, core_mask="b" * 64)
ENGLISH = replace(BASE, language="en")  # the same configuration
RESULTS = EvalResults([BASE, ZEROED, ENGLISH])

FOREIGN = """\
- name: their-name
  results:
  - task:
      type: text-generation
    dataset:
      name: IFEval
      type: HuggingFaceH4/ifeval
    metrics:
    - type: accuracy
      value: 0.5
      verified: false
    source:
      name: Leaderboard
      url: https://example.org/board
"""
CARD = f"""---
# a comment
language:   [en,   "no"]
license: mit   # another
model-index:
{FOREIGN}
# after the index
tags: ["z", 'a']
inference: {{parameters: {{temperature: 0.7}}}}
---

# Title

---
Text with trailing spaces   \n\ttabs, and no line end"""


def index_of(card: str) -> Any:
    return yaml.safe_load(card.split("---")[1])["model-index"]


def test_card_round_trip(tmp_path: Path) -> None:
    """ModelCard reads every figure with condition, mask, language and data set, infinite ones as a word."""
    path = tmp_path / "README.md"
    path.write_text(mirrored(None, RESULTS, repo_id="me/core"), encoding="utf-8")
    card = ModelCard.load(path)
    assert card.data.model_name == "core"
    assert (card.data.library_name, card.data.tags) == ("hf_langcore", ["core-region-eval"])
    assert 'load_eval_results("me/core")' in card.text
    found = {
        (one.dataset_args["language"], one.metric_args["condition"], one.metric_type): one
        for one in card.data.eval_results
    }
    assert len(found) == len(card.data.eval_results) == 6
    zeroed = found["no", "top 3 %", "perplexity"]
    assert (zeroed.metric_value, zeroed.metric_args["core_mask"]) == ("inf", "b" * 64)
    english = found["en", "base", "bits_per_byte"]
    assert english.metric_value == ENGLISH.bits_per_byte
    assert english.task_type == "text-generation"
    where = (english.dataset_type, english.dataset_config, english.dataset_split, english.dataset_revision)
    assert where == ("me/texts", "nob", "test", "e" * 40)
    assert english.metric_args["language"] == "en"


def test_others_stay_byte_for_byte() -> None:
    """Comments, spaces, quotes, the order of keys and the text; the entries of others are kept."""
    card = mirrored(CARD, RESULTS, repo_id="me/core")
    start, stop = card.index("model-index:"), card.index("\n# after the index")
    assert card[:start] == CARD[: CARD.index("model-index:")]
    assert card[stop:] == CARD[CARD.index("\n# after the index") :]
    index = index_of(card)
    assert [model["name"] for model in index] == ["their-name"]
    assert index[0]["results"][0] == yaml.safe_load(FOREIGN)[0]["results"][0]
    assert len(index[0]["results"]) == 3


def test_only_ours_is_written_anew() -> None:
    """A second copy replaces the first; without records the card is as it was, but for how the index is laid out."""
    once = mirrored(CARD, RESULTS, repo_id="me/core")
    assert mirrored(once, RESULTS, repo_id="me/core") == once
    fewer = mirrored(once, [BASE], repo_id="me/core")
    assert len(index_of(fewer)[0]["results"]) == 2
    assert index_of(mirrored(once, [], repo_id="me/core")) == index_of(CARD)


def test_a_metric_of_others_beside_ours_stays() -> None:
    """Tools that load and save a card throw metrics of one data set together."""
    index = model_index_of([BASE], name="x")
    theirs = {"type": "accuracy", "value": 1}
    index[0]["results"][0]["metrics"].append(theirs)
    index.append({"name": "second", "results": [{"anything": 1}]})
    again = model_index_of([], name="x", previous=index)
    assert again[0]["results"][0]["metrics"] == [theirs]
    assert again[1] == {"name": "second", "results": [{"anything": 1}]}


def test_survives_being_saved_by_huggingface_hub() -> None:
    """After ModelCard has rewritten the card, ours is still known, and still says its language."""
    saved = ModelCard(mirrored(None, RESULTS, repo_id="me/core")).content
    languages = {metric["args"]["language"] for entry in index_of(saved)[0]["results"] for metric in entry["metrics"]}
    assert languages == {"no", "en"}
    again = mirrored(saved, RESULTS, repo_id="me/core")
    assert len(index_of(again)[0]["results"]) == 2


@pytest.mark.parametrize(
    "card",
    [
        "",
        "# Only text",
        "---\n---\n# Empty metadata",
        "---\n# a comment alone\n---\ntext",
        "---\nlicense: mit\n---",
        "---\nlicense: mit\n---\ntext",
        "\n\n---\nlicense: mit\n---\ntext",
        "\ufeff---\nlicense: mit\n---\ntext",
        "---\r\nlicense: mit\r\nmodel-index: []\r\ntags:\r\n- a\r\n---\r\ntext\r\n",
        "---\nmodel-index: []\n---\ntext",
        "---\nmodel-index:\nlicense: mit\n---\ntext",
        "---\n{license: mit, tags: [a]}\n---\ntext",
        '---\n"model-index": []\nlicense: mit\n---\ntext',
        "---\nlicense: mit\nmodel-index: &a []\nother: *a\n---\ntext",
        "---\nmodel-index: []\nmodel-index: []\nlicense: mit\n---\ntext",
        "---\nnote: |\n  model-index:\n  - x\nlicense: mit\n---\ntext",
        "---\nlicense: mit\nmodel-index: [ ]   # none yet\n\n\n# last\n---\ntext",
        "text\n---\nlicense: mit\n---\n",
    ],
)
def test_cards_of_every_form(card: str) -> None:
    """Whatever the card is like, the index is in it, the metadata and the text are those that were."""
    result = mirrored(card, [BASE], repo_id="me/core")
    before, after = ModelCard(card.removeprefix("\ufeff")), ModelCard(result.removeprefix("\ufeff"))
    assert after.text == before.text
    assert [one.metric_value for one in after.data.eval_results] == [BASE.perplexity, BASE.bits_per_byte]
    kept = {key: value for key, value in after.data.to_dict().items() if key != "model-index"}
    assert kept == {key: value for key, value in before.data.to_dict().items() if key != "model-index"}
    assert ("\r\n" in result) == ("\r\n" in card)
    assert not re.search(r"(?<!\r)\n", result) or "\r\n" not in card
    assert mirrored(result, [BASE], repo_id="me/core") == result


@pytest.mark.parametrize("index", ["{}", "text", "- text", "- name: a", "- results: []", "- {name: a, results: [1]}"])
def test_what_is_no_index(index: str) -> None:
    """An index that cannot be read is refused, not overwritten."""
    lines = "\n".join(f"  {line}" for line in index.splitlines())
    with pytest.raises(InputError, match="model-index is no list of models"):
        mirrored(f"---\nmodel-index:\n{lines}\n---\n", [BASE], repo_id="me/core")


def test_broken_metadata() -> None:
    """Metadata that are no YAML mapping are refused too."""
    with pytest.raises(InputError, match=r"README\.md is no YAML mapping"):
        mirrored("---\na: [\n---\ntext", [BASE], repo_id="me/core")


words = st.text(
    st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp"], exclude_characters="\ufeff"), min_size=1
).filter(lambda text: bool(text.strip()))


@given(
    st.lists(
        st.builds(
            EvalRecord,
            model=st.just("me/model"),
            condition=words,
            language=words,
            tokens=st.integers(1, 10**6),
            nll=st.floats(0, 800) | st.just(math.inf),
            bytes=st.none() | st.integers(1, 10**6),
            dataset=st.none() | st.sampled_from(["me/texts", "squad"]),
            dataset_split=st.none() | words,
        ),
        min_size=1,
        max_size=4,
        unique_by=lambda record: record.key,
    )
)
def test_any_words_and_figures(found: list[EvalRecord]) -> None:
    """Conditions and languages in any script, with quotes, colons and dashes, come back from the card as they were."""
    card = ModelCard(mirrored(CARD, found, repo_id="me/core"))
    said = {
        (
            one.metric_args["condition"],
            one.metric_args["language"],
            one.dataset_split,
            one.metric_type,
            one.metric_value,
        )
        for one in card.data.eval_results
        if one.metric_args
    }
    expected = {
        (one.condition, one.language, one.dataset_split, kind, "inf" if value == math.inf else value)
        for one in found
        for kind, value in (("perplexity", one.perplexity), ("bits_per_byte", one.bits_per_byte))
        if value is not None
    }
    assert said == expected


def test_accepted_by_the_hub(online: Any) -> None:
    """The Hub's own check of a card passes, for small and foreign cards."""
    for card in (None, CARD):
        ModelCard(mirrored(card, RESULTS, repo_id="me/core")).validate()


@pytest.mark.parametrize(
    ("many", "condition"),
    [(500, "mask {}"), (300, "a, b: [c], {{d}}, &e *f {}" + " , [x" * 40), (30, "語" * 300 + "{}")],
)
def test_many_records_leave_the_card_readable(many: int, condition: str) -> None:
    """Those of the model itself are copied first, and further pushes find room, whatever the words are."""
    edited = [
        replace(ZEROED, condition=condition.format(place % 14), language=f"l{place // 14}", nll=1.0)
        for place in range(many)
    ]
    results = EvalResults([*edited, BASE, ENGLISH])
    once = mirrored(CARD, results, repo_id="me/core")
    assert mirrored(once, results, repo_id="me/core") == once
    shown = [one for one in ModelCard(once).data.eval_results if one.metric_type == "perplexity"]
    assert 10 < len(shown) <= 201
    assert {one.metric_args["language"] for one in shown if one.metric_args and "base" in one.metric_name} == {
        "no",
        "en",
    }
    assert yaml.safe_load(FOREIGN)[0]["results"][0] in index_of(once)[0]["results"]
    assert share_of_limits(once.split("---")[1]) < 0.8
