"""What the loopback Hub makes of cards: it checks their metadata, derives tags from it, and finds models by them."""

from __future__ import annotations

import pytest
from huggingface_hub import HfApi, ModelCard, metadata_update
from loopback.switching import Online

CARD = """---
library_name: hf_langcore
base_model: org/base
base_model_relation: adapter
tags:
- core-mask
language:
- en
- 'no'
license: apache-2.0
datasets:
- org/data
model-index:
- name: core
  results:
  - task:
      type: text-generation
    dataset:
      name: Mini
      type: org/data
    metrics:
    - type: perplexity
      value: 3.5
---
# A core
"""


def test_models_are_found_by_the_tags_that_follow_from_their_cards(online: Online) -> None:
    online.hub.create("ada/core", files={"README.md": CARD})
    online.hub.create("ada/hidden", private=True, files={"README.md": CARD})
    online.hub.create(
        "bob/adapter", files={"README.md": "---\nbase_model: org/base\n---\n", "adapter_config.json": "{}"}
    )
    api = HfApi()
    assert {model.id for model in api.list_models(filter="base_model:org/base")} == {
        "ada/core",
        "ada/hidden",
        "bob/adapter",
    }
    assert {model.id for model in api.list_models(filter=["base_model:adapter:org/base", "peft"])} == {"bob/adapter"}
    [found] = HfApi(token=False).list_models(filter=["core-mask", "base_model:org/base"], cardData=True, full=True)
    assert found.card_data["base_model"] == "org/base"
    assert {"hf_langcore", "en", "no", "license:apache-2.0", "dataset:org/data", "model-index"} <= set(found.tags)
    assert found.sha == online.hub.commits("ada/core")[0]["sha"]
    [brief] = HfApi(token=False).list_models(filter="core-mask")
    assert (brief.sha, brief.card_data, brief.siblings) == (None, None, None)


def test_a_card_is_validated_and_pushed(online: Online) -> None:
    HfApi().create_repo("ada/card")
    card = ModelCard(CARD)
    card.validate()
    card.push_to_hub("ada/card")
    assert ModelCard.load("ada/card").data.to_dict() == card.data.to_dict()
    metadata_update("ada/card", {"license": "mit"}, overwrite=True)
    assert HfApi().model_info("ada/card").card_data["license"] == "mit"


@pytest.mark.parametrize(
    "line, message",
    [
        ("- just\n- a list", "type object"),
        ("license: my-own", '"license" must be one of'),
        ("license: [mit, 3]", r"license\[1\]"),
        ("language: German", '"language" with value'),
        ("language: [en, 5]", r"language\[1\]"),
        ("base_model: ./local/folder", '"base_model" with value'),
        ("base_model: {a: b}", '"base_model" must be'),
        ("base_model_relation: cousin", "base_model_relation"),
        ("tags: core-mask", '"tags" must be an array'),
        ("tags: [1]", r"tags\[0\]"),
        ("datasets: [a/b/c]", r"datasets\[0\]"),
        ("model-index: {}", '"model-index" must be an array'),
        ("model-index: [{results: []}]", r"model-index\[0\].name"),
        ("model-index: [{name: a}]", r"model-index\[0\].results"),
        ("model-index: [{name: a, results: [{}]}]", r"results\[0\].task"),
        ("a: 1\na: 2", "duplicated"),
        ("a: [", "Invalid YAML"),
    ],
)
def test_wrong_metadata_is_refused(online: Online, line: str, message: str) -> None:
    online.hub.create("ada/card")
    readme = f"---\n{line}\n---\n# Text\n"
    with pytest.raises(ValueError, match=message):
        HfApi().upload_file(path_or_fileobj=readme.encode(), path_in_repo="README.md", repo_id="ada/card")
    assert online.hub.files("ada/card") == {}
    with pytest.warns(UserWarning, match="empty or missing"):
        HfApi().upload_file(path_or_fileobj=b"# Text\n", path_in_repo="README.md", repo_id="ada/card")


def test_transformers_pushes_and_pulls(online: Online) -> None:
    from transformers import AutoConfig, LlamaConfig

    LlamaConfig(hidden_size=24, num_attention_heads=2).push_to_hub("ada/config")
    assert AutoConfig.from_pretrained("ada/config").hidden_size == 24
    with pytest.raises(OSError, match="not a valid model identifier"):
        AutoConfig.from_pretrained("ada/absent")


def test_a_language_may_be_called_no(online: Online) -> None:
    online.hub.create("ada/norwegian")
    readme = "---\nlanguage: no\n---\n"
    HfApi().upload_file(path_or_fileobj=readme.encode(), path_in_repo="README.md", repo_id="ada/norwegian")
    assert "no" in HfApi().model_info("ada/norwegian").tags
    with pytest.raises(ValueError, match="language"):
        ModelCard(readme).validate()  # huggingface_hub reads the word as False and sends that
