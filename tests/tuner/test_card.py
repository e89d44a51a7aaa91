from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import ModelCard
from peft import get_peft_model

from hf_langcore.masks import CoreMask, Provenance
from hf_langcore.tuner import CoreRegionConfig
from hf_langcore.tuner.card import write_first_lines

Wrap = Callable[..., Any]


@pytest.fixture
def mask() -> CoreMask:
    provenance = Provenance(method="taylor", base_model="me/my-model", base_revision="abc123")
    core = torch.zeros(60, 60, dtype=torch.bool)
    core[:30] = True
    return CoreMask({"w": core}, provenance=provenance)


def _card(folder: Path, text: str = "") -> Path:
    path = folder / "README.md"
    path.write_text(text, encoding="utf-8")
    return path


def test_what_to_import_comes_first(mask: CoreMask, tmp_path: Path) -> None:
    """The card says what to install and import, what is protected in which model, and the mask's digest."""
    path = _card(tmp_path, "---\nlibrary_name: peft\ntags:\n- mine\n---\n\n# Mein Modell für 語\n\nIts story.\n")
    write_first_lines(tmp_path, mask)
    card = ModelCard.load(path)
    before, _, after = card.text.partition("# Mein Modell für 語")
    for words in (
        "import hf_langcore",
        "pip install hf_langcore[train]",
        "KeyError: 'CORE_REGION'",
        "`me/my-model` at revision `abc123`",
        "1,800 of\n3,600 weights",
        mask.digest(),
    ):
        assert words in before
    assert after.strip() == "Its story."
    assert card.data.to_dict() == {"library_name": "peft", "tags": ["mine"]}


def test_the_example_in_the_card_is_code(mask: CoreMask, tmp_path: Path) -> None:
    """The Python block of the card can be compiled."""
    path = _card(tmp_path, "# A model\n")
    write_first_lines(tmp_path, mask)
    code = path.read_text(encoding="utf-8").split("```python\n")[1].split("```")[0]
    assert "import hf_langcore" in code.splitlines()[0]
    compile(code, "card", "exec")


def test_they_are_written_once(mask: CoreMask, tmp_path: Path) -> None:
    """Saving again, also with another mask, or after the user's own edits, leaves the text alone."""
    path = _card(tmp_path, "---\nlibrary_name: peft\n---\n# A model\n")
    write_first_lines(tmp_path, mask)
    once = path.read_text(encoding="utf-8")
    write_first_lines(str(tmp_path), mask)
    assert path.read_text(encoding="utf-8") == once
    path.write_text(once + "More words.\n", encoding="utf-8")
    write_first_lines(tmp_path, mask)
    assert path.read_text(encoding="utf-8") == once + "More words.\n"


def test_another_mask_replaces_them(mask: CoreMask, tmp_path: Path) -> None:
    """A card never names the digest of a mask that is not there any more."""
    path = _card(tmp_path, "---\nlibrary_name: peft\n---\n# A model\n")
    write_first_lines(tmp_path, mask)
    write_first_lines(tmp_path, mask.complement())
    text = path.read_text(encoding="utf-8")
    assert mask.complement().digest() in text
    assert mask.digest() not in text
    assert text.count("import hf_langcore ") == 1


def test_without_a_card_nothing_happens(mask: CoreMask, tmp_path: Path) -> None:
    """A config that is saved alone has no README.md, and gets none."""
    write_first_lines(tmp_path, mask)
    assert list(tmp_path.iterdir()) == []
    CoreRegionConfig(core_mask=mask).save_pretrained(str(tmp_path))
    assert not (tmp_path / "README.md").exists()


@pytest.mark.parametrize(
    "known, words",
    [
        ({"base_model": "me/my-model", "base_revision": None}, "changes `me/my-model` everywhere"),
        ({"base_model": None, "base_revision": None}, "changes `the base model` everywhere"),
    ],
)
def test_unknown_origins(known: dict[str, Any], words: str, mask: CoreMask, tmp_path: Path) -> None:
    """Without a name or a revision the sentence is still one."""
    path = _card(tmp_path, "# A model\n")
    write_first_lines(tmp_path, CoreMask(mask, provenance=replace(mask.provenance, **known)))
    assert words in path.read_text(encoding="utf-8")


@pytest.mark.parametrize("text", ["", "# A model\n", "---\nbase_model: 'me/my: model'\n---\n"])
def test_cards_of_every_kind(text: str, mask: CoreMask, tmp_path: Path) -> None:
    """Empty cards, cards without metadata and cards with odd metadata get the lines, too."""
    path = _card(tmp_path, text)
    write_first_lines(tmp_path, mask)
    written = path.read_text(encoding="utf-8")
    assert "import hf_langcore" in written
    assert ("me/my: model" in written) == ("my:" in text)


def test_saved_adapters_have_them(llama: Any, make_mask: Wrap, tmp_path: Path) -> None:
    """PEFT's card of a saved adapter begins with the lines and keeps PEFT's metadata; saving again adds nothing."""
    model = get_peft_model(llama, CoreRegionConfig(core_mask=make_mask(llama), task_type="CAUSAL_LM"))
    model.save_pretrained(str(tmp_path))
    card = ModelCard.load(tmp_path / "README.md")
    assert card.text.lstrip().startswith("<!-- core-region -->")
    assert card.text.index("import hf_langcore") < card.text.index("# Model Card")
    assert card.data.library_name == "peft"
    once = (tmp_path / "README.md").read_text(encoding="utf-8")
    model.save_pretrained(str(tmp_path))
    again = ModelCard.load(tmp_path / "README.md")
    assert again.text.strip() == card.text.strip()
    assert once.count("core-region -->") == (tmp_path / "README.md").read_text(encoding="utf-8").count(
        "core-region -->"
    )


def test_every_adapter_has_its_own_card(llama: Any, make_mask: Wrap, tmp_path: Path) -> None:
    """The card of each adapter names the digest of its own mask."""
    model = get_peft_model(llama, CoreRegionConfig(core_mask=make_mask(llama)))
    model.add_adapter("b", CoreRegionConfig(core_mask=make_mask(llama, "random")))
    model.save_pretrained(str(tmp_path))
    cards = [path.read_text(encoding="utf-8") for path in sorted(tmp_path.rglob("README.md"))]
    digests = [config.core_mask.digest() for config in model.peft_config.values()]
    assert cards
    for card in cards:
        assert sum(digest in card for digest in digests) == 1
