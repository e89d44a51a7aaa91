"""What the tuner says in the card of its adapters; pushes are in tests/hub/test_trainer_cards.py."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import ModelCard
from peft import LoraConfig, PeftModel, get_peft_model

from hf_langcore.hub.references import REFERENCE_FILE, read_reference
from hf_langcore.masks.origin import HubOrigin
from hf_langcore.tuner import CoreRegionConfig
from hf_langcore.tuner.card import keep_cards_complete

Wrap = Callable[..., Any]


def test_saved_adapters_have_our_section(llama: Any, make_mask: Wrap, tmp_path: Path) -> None:
    """PEFT's card begins with what to import and keeps PEFT's metadata; saving again adds nothing."""
    mask = make_mask(llama)
    model = get_peft_model(llama, CoreRegionConfig(core_mask=mask, task_type="CAUSAL_LM"))
    model.save_pretrained(str(tmp_path))
    once = (tmp_path / "README.md").read_text(encoding="utf-8")
    card = ModelCard(once)
    assert card.text.lstrip().startswith("<!-- core-region -->")
    assert card.text.index("import hf_langcore") < card.text.index("# Model Card")
    assert (card.data.library_name, card.data.pipeline_tag) == ("peft", "text-generation")
    assert mask.digest() in once
    assert "AutoModelForCausalLM.from_pretrained(" in once
    model.save_pretrained(str(tmp_path))
    assert (tmp_path / "README.md").read_text(encoding="utf-8") == once


def test_tags_and_base_of_the_user_stay(llama: Any, make_wrapped: Wrap, tmp_path: Path) -> None:
    """PEFT alone would put its own in their place."""
    (tmp_path / "README.md").write_text("---\nbase_model: me/by-hand\ntags:\n- mine\n---\nWords.\n", encoding="utf-8")
    make_wrapped(llama).save_pretrained(str(tmp_path))
    card = ModelCard.load(tmp_path / "README.md")
    assert card.data.base_model == "me/by-hand"
    assert {"mine", "core-region"} <= set(card.data.tags)
    assert "Words." in card.text


def test_every_card_names_one_mask(llama: Any, make_mask: Wrap, tmp_path: Path) -> None:
    """Of several adapters the one at the top of the folder has the card."""
    model = get_peft_model(llama, CoreRegionConfig(core_mask=make_mask(llama)))
    model.add_adapter("b", CoreRegionConfig(core_mask=make_mask(llama, "random")))
    model.set_adapter("b")
    model.save_pretrained(str(tmp_path))
    (card,) = [path.read_text(encoding="utf-8") for path in tmp_path.rglob("README.md")]
    digests = {name: config.core_mask.digest() for name, config in model.peft_config.items()}
    assert digests["default"] in card
    assert digests["b"] not in card


def test_an_adapter_in_a_subfolder(llama: Any, make_mask: Wrap, tmp_path: Path) -> None:
    """Where no adapter lies at the top, the card says where it is."""
    model = get_peft_model(llama, CoreRegionConfig(core_mask=make_mask(llama)), adapter_name="b")
    model.save_pretrained(str(tmp_path))
    assert (tmp_path / "b" / "adapter_config.json").is_file()
    assert ', subfolder="b")' in (tmp_path / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("on_hub", [True, False])
def test_the_reference_lies_beside_the_adapter(on_hub: bool, llama: Any, make_mask: Wrap, tmp_path: Path) -> None:
    """If the mask is on the Hub; the config names its place, too, and brings it back."""
    mask = make_mask(llama)
    mask._origin = HubOrigin("me/mask", "c" * 40) if on_hub else None
    get_peft_model(llama, CoreRegionConfig(core_mask=mask)).save_pretrained(str(tmp_path))
    assert (tmp_path / REFERENCE_FILE).exists() == on_hub
    if on_hub:
        read_reference(tmp_path).require_same(mask)
    assert CoreRegionConfig.from_pretrained(str(tmp_path)).core_mask.origin == mask.origin


def test_a_config_alone_has_no_card(llama: Any, make_mask: Wrap, tmp_path: Path) -> None:
    CoreRegionConfig(core_mask=make_mask(llama)).save_pretrained(str(tmp_path))
    assert not (tmp_path / "README.md").exists()


def test_other_methods_keep_their_cards(llama: Any, tmp_path: Path) -> None:
    """And PeftModel is extended once."""
    keep_cards_complete()
    assert not hasattr(PeftModel.create_or_update_model_card.__wrapped__, "completes_cards")
    get_peft_model(llama, LoraConfig(target_modules=["q_proj"])).save_pretrained(str(tmp_path))
    assert "core" not in (tmp_path / "README.md").read_text(encoding="utf-8")
