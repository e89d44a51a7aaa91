from __future__ import annotations

import stat
from pathlib import Path
from typing import Any

import pytest
import torch
from card_checks import check_card, snippets
from card_models import BASE, BASE_SHA

from hf_langcore.errors import InputError
from hf_langcore.hub.sections import (
    MARKS,
    Base,
    adapter_section,
    auto_class_of,
    complete_card,
    completed,
    tuned_section,
)
from hf_langcore.masks import CoreMask, Provenance
from hf_langcore.masks.origin import HubOrigin

SHA = "c" * 40
KNOWN = Base(BASE, BASE_SHA, local="/home/me/base")
UNKNOWN = Base(local="/home/me/base")


@pytest.fixture
def mask() -> CoreMask:
    provenance = Provenance(method="taylor", tokens={"en": 9}, base_model=BASE, base_revision=BASE_SHA)
    made = CoreMask({"w": torch.tensor([True, False, False, False])}, provenance=provenance)
    return made.with_origin(HubOrigin("me/mask", SHA))


def test_the_section_of_an_adapter(mask: CoreMask) -> None:
    """What to import, how to load it at the base's revision, which mask of which commit, what is kept."""
    content = completed("", adapter_section(mask, KNOWN, repo_id="me/adapter"))
    card = check_card(content)
    for words in (
        "**Import `hf_langcore` before you load this adapter**",
        "KeyError: 'CORE_REGION'",
        f"[`me/mask`](https://huggingface.co/me/mask/tree/{SHA}) at revision `{SHA}`",
        mask.digest(),
        f"[`{BASE}`](https://huggingface.co/{BASE}/tree/{BASE_SHA})",
        "| core weights | 1 of 4 (25 %) |",
        "taylor (en)",
    ):
        assert words in content
    (code,) = snippets(content)
    compile(code, "card", "exec")
    assert code.startswith("import hf_langcore ")
    assert f'from_pretrained("{BASE}", revision="{BASE_SHA}")' in code
    assert 'PeftModel.from_pretrained(base, "me/adapter")' in code
    assert card.data.to_dict() == {"library_name": "peft", "base_model": BASE, "tags": ["core-region"]}


def test_other_adapters(mask: CoreMask) -> None:
    """In a subfolder, of another kind of model, with a mask that is not on the Hub and a base that has no name."""
    section = adapter_section(
        mask.with_origin(None), UNKNOWN, subfolder="b", auto_class="AutoModelForSequenceClassification"
    )
    content = completed("", section)
    check_card(content)
    assert 'PeftModel.from_pretrained(base, "path/to/this/model", subfolder="b")' in content
    assert 'AutoModelForSequenceClassification.from_pretrained("path/to/the/base/model")' in content
    assert "beside the adapter; it was not on the Hub" in content
    assert f"| the mask was found on | [`{BASE}`]" in content
    assert "/home" not in content


def test_the_section_of_a_fine_tuned_model(mask: CoreMask) -> None:
    """Frozen, anchored, or both: what was done and no more."""
    frozen = completed("", tuned_section(KNOWN, core_mask=mask, repo_id="me/tuned"))
    both = completed("", tuned_section(KNOWN, core_mask=mask, anchor="strength 0.1"))
    anchored = completed("", tuned_section(KNOWN, anchor="strength 0.1"))
    for content in (frozen, both, anchored):
        check_card(content)
        assert ("not one of its bits changed" in content) == (content is not anchored)
        assert ("(strength 0.1)" in content) == (content is not frozen)
        assert (mask.digest() in content) == (SHA in content) == (content is not anchored)
    assert 'AutoModelForCausalLM.from_pretrained("me/tuned")' in frozen
    assert check_card(anchored).data.tags == ["core-region"]


TRL = "This model is a fine-tuned version of [None](https://huggingface.co/None)."
PATH = "This model is a fine-tuned version of [/home/me/base](https://huggingface.co//home/me/base) on an unknown dataset."
EMPTY = "This model is a fine-tuned version of [](https://huggingface.co/) on an unknown dataset."
SCRATCH = "This model was trained from scratch on an unknown dataset."


@pytest.mark.parametrize("sentence", [TRL, PATH, EMPTY, SCRATCH])
@pytest.mark.parametrize("base, words", [(KNOWN, f"[`{BASE}`]"), (UNKNOWN, "a model that is not on the Hub")])
def test_what_others_say_of_the_base(sentence: str, base: Base, words: str) -> None:
    """Nothing, a folder and no name at all become what is known; the rest of the sentence stays."""
    content = completed(f"# Model\n\n{sentence}\n", tuned_section(base, anchor="strength 0.1"))
    check_card(content)
    said = content.partition("# Model\n\n")[2]
    assert said.startswith(f"This model is a fine-tuned version of {words}")
    assert said.rstrip().endswith(
        "on an unknown dataset." if "unknown" in sentence else (f"`{BASE_SHA}`." if base is KNOWN else "Hub.")
    )


def test_other_places_with_the_folder() -> None:
    """Wherever else the base's folder is named, it is a folder and no more."""
    content = completed(
        "It was trained from `/home/me/base`, see /home/me/base/config.json.", tuned_section(KNOWN, anchor="x")
    )
    assert "It was trained from `a local folder`, see a local folder/config.json." in content


def test_names_of_repositories_stay() -> None:
    """What others can load is nobody's mistake, and an adapter of a model from scratch says so."""
    right = "fine-tuned version of [org/other](https://huggingface.co/org/other)"
    assert right in completed(right, tuned_section(KNOWN, anchor="x"))


def test_code_of_others(mask: CoreMask) -> None:
    """TRL's example loads by the repository's name or a placeholder, and imports what an adapter needs."""
    code = '```python\nfrom transformers import pipeline\n\ngenerator = pipeline("text-generation", model="None")\n```'
    adapter = completed(code, adapter_section(mask, KNOWN, repo_id="me/adapter"), repo_id="me/adapter")
    assert "import hf_langcore  # makes PEFT know the method\nfrom transformers import pipeline\n" in adapter
    assert 'model="me/adapter"' in adapter
    tuned = completed(code, tuned_section(KNOWN, core_mask=mask))
    assert 'model="path/to/this/model"' in tuned
    assert "import hf_langcore" not in tuned
    assert completed(adapter, adapter_section(mask, KNOWN, repo_id="me/adapter"), repo_id="me/adapter") == adapter


@pytest.mark.parametrize(
    "base, before, after",
    [
        (KNOWN, "/home/me/base", BASE),
        (UNKNOWN, "/home/me/base", None),
        (UNKNOWN, "./base", None),
        (UNKNOWN, "me/named-by-hand", "me/named-by-hand"),
        (KNOWN, "me/other", BASE),
        (KNOWN, [BASE, "me/other"], [BASE, "me/other"]),
        (KNOWN, ["/home/me/base", "me/other"], BASE),
        (UNKNOWN, [], None),
    ],
)
def test_the_base_in_the_metadata(base: Base, before: Any, after: Any, mask: CoreMask) -> None:
    """A repository, never a folder; what a user named by hand stays where we know nothing better."""
    made = completed(f"---\nbase_model: {before}\nlicense: mit\n---\n", adapter_section(mask, base))
    card = check_card(made)
    assert card.data.base_model == after
    assert card.data.license == "mit"


def test_tags_with_folders(mask: CoreMask) -> None:
    """PEFT makes a tag of the base's name, which may be a folder; other tags stay in order."""
    tags = ["mine", "base_model:adapter:/home/me/base", "base_model:adapter:me/x"]
    card = check_card(completed(f"---\ntags: {tags}\n---\n", adapter_section(mask, KNOWN)))
    assert card.data.tags == [
        "mine",
        f"base_model:adapter:{BASE}",
        "base_model:adapter:me/x",
        "core-region",
    ]
    card = check_card(completed(f"---\ntags: {tags}\n---\n", adapter_section(mask, UNKNOWN)))
    assert card.data.tags == ["mine", "base_model:adapter:me/x", "core-region"]


def test_it_is_renewed_where_it_stands(mask: CoreMask, tmp_path: Path) -> None:
    """A user's words before and after it stay, the old mask is not named any more, and a third time changes nothing."""
    path = tmp_path / "README.md"
    complete_card(tmp_path, adapter_section(mask, KNOWN, repo_id="me/adapter"))
    head, mark, rest = path.read_text(encoding="utf-8").partition("<!-- core-region -->")
    path.write_text(f"{head}My words of 語.\n\n{mark}{rest}\nMore.\n", encoding="utf-8")
    path.chmod(0o644)
    complete_card(tmp_path, adapter_section(mask.complement(), KNOWN, repo_id="me/adapter"))
    text = path.read_text(encoding="utf-8")
    assert "My words of 語.\n\n<!-- core-region -->" in text
    assert text.endswith("<!-- /core-region -->\n\nMore.\n")
    assert mask.digest() not in text
    assert mask.complement().digest() in text
    complete_card(tmp_path, adapter_section(mask.complement(), KNOWN, repo_id="me/adapter"))
    assert path.read_text(encoding="utf-8") == text
    assert stat.S_IMODE(path.stat().st_mode) & 0o400
    assert [one.name for one in tmp_path.iterdir()] == ["README.md"]


def test_a_damaged_card_is_left_alone(mask: CoreMask, tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("---\n- a\n---\n")
    with pytest.raises(InputError, match="no YAML mapping"):
        complete_card(tmp_path, adapter_section(mask, KNOWN))
    assert (tmp_path / "README.md").read_text() == "---\n- a\n---\n"
    assert MARKS.of("---\n- a\n---\n") is None


def test_which_base_it_is(mask: CoreMask, tmp_path: Path) -> None:
    """The name that it was loaded by; for a folder what the mask says, if its weights were compared."""
    assert Base.of(BASE, core_mask=mask) == Base(BASE, BASE_SHA)
    assert Base.of(BASE, "d" * 40, core_mask=mask) == Base(BASE, "d" * 40)
    assert Base.of("me/other", "main", core_mask=mask) == Base("me/other")
    assert Base.of(str(tmp_path), core_mask=mask, is_same=True) == Base(BASE, BASE_SHA, local=str(tmp_path))
    assert Base.of(str(tmp_path), core_mask=mask) == Base(local=str(tmp_path))
    assert Base.of(None) == Base.of("") == Base()


@pytest.mark.parametrize(
    "name, auto",
    [
        ("LlamaForCausalLM", "AutoModelForCausalLM"), ("GPT2LMHeadModel", "AutoModelForCausalLM"),
        ("FSDPLlamaForCausalLM", "AutoModelForCausalLM"), ("BertForTokenClassification", "AutoModelForTokenClassification"),
        ("LlamaForSequenceClassification", "AutoModelForSequenceClassification"), ("LlamaModel", "AutoModel"),
        ("T5ForConditionalGeneration", "AutoModelForSeq2SeqLM"),
    ],
)  # fmt: skip
def test_which_class_loads_it(name: str, auto: str) -> None:
    assert auto_class_of(type(name, (), {})()) == auto
