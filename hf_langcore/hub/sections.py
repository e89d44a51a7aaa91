"""Our section in the cards that PEFT, TRL and transformers write for adapters and fine-tuned models."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hf_langcore.files import replace_text
from hf_langcore.hub.card_facts import percent
from hf_langcore.hub.front_matter import CARD_FILE, as_list, join_card, split_card, union
from hf_langcore.hub.markdown import fence, model_link, table
from hf_langcore.hub.marks import Marks
from hf_langcore.hub.references import CoreMaskReference, commit_or_none, public_base, public_name
from hf_langcore.masks import CoreMask

MARKS = Marks("core-region")

_TAG = "core-region"
HERE = "path/to/this/model"
"""Stands in a snippet for a repository that is not known yet."""
_BASE = "path/to/the/base/model"
_NO_NAME = "a model that is not on the Hub"
_FINE_TUNED = re.compile(r"fine-tuned version of \[([^\]\n]*)\]\([^)\n]*\)")
_QUICK_START = "from transformers import pipeline\n"
_MESSAGES = 'generator([{"role": "user", "content": question}]'
_IMPORT = "import hf_langcore  # makes PEFT know the method\n"


@dataclass(frozen=True, slots=True)
class Base:
    """The model that was trained or adapted.

    Attributes:
        name: Its repository; None where others cannot load it.
        revision: Its 40-hex commit; None where it is not known.
        local: What this machine calls it, which must not be in a card.
    """

    name: str | None = None
    revision: str | None = None
    local: str | None = None

    @classmethod
    def of(
        cls, name: str | None, revision: str | None = None, *, core_mask: CoreMask | None = None, is_same: bool = False
    ) -> Base:
        """The base by what transformers calls it or, where that is a folder, by what its mask says of it.

        Args:
            name: Name or path that the model was loaded by.
            revision: What it was loaded with, where that is known.
            core_mask: A mask of it.
            is_same: Whether the mask is known to have been found on these weights, and not on some like them.
        """
        source, commit = (None, None) if core_mask is None else public_base(core_mask)
        public = public_name(name, revision or commit)
        if public is None and is_same:
            return cls(source, commit if source else None, local=name or None)
        if public is None:
            return cls(local=name or None)
        return cls(public, commit_or_none(revision) or (commit if public == source else None))

    @property
    def link(self) -> str:
        """As Markdown."""
        return model_link(self.name, self.revision, otherwise=_NO_NAME)

    @property
    def arguments(self) -> str:
        """Arguments of `from_pretrained`."""
        return f'"{self.name or _BASE}"' + (f', revision="{self.revision}"' if self.revision else "")


@dataclass(frozen=True, slots=True)
class CardSection:
    """What this library says in somebody else's card.

    Attributes:
        text: Markdown.
        base: The model that was trained or adapted.
        library_name: The library that loads the repository.
        tags: Further tags of the repository.
        is_chat: Whether its tokenizer has a chat template; TRL's quick start takes that for granted.
    """

    text: str
    base: Base
    library_name: str
    tags: tuple[str, ...] = (_TAG,)
    is_chat: bool = True


def adapter_section(
    core_mask: CoreMask,
    base: Base,
    *,
    repo_id: str | None = None,
    subfolder: str | None = None,
    auto_class: str = "AutoModelForCausalLM",
) -> CardSection:
    """The section of a CORE_REGION adapter.

    Args:
        core_mask: Its mask.
        base: The model that it adapts.
        repo_id: Repository of the adapter; None where it is only a folder.
        subfolder: Folder in it.
        auto_class: The class of transformers that loads the base.
    """
    where = f', subfolder="{subfolder}"' if subfolder else ""
    code = fence(f"""
import hf_langcore  # makes PEFT know the method
from peft import PeftModel
from transformers import {auto_class}

base = {auto_class}.from_pretrained({base.arguments})
model = PeftModel.from_pretrained(base, "{repo_id or HERE}"{where})
""")
    text = f"""
**Import `hf_langcore` before you load this adapter** (`pip install "hf_langcore[train]"`): it brings the PEFT method
CORE_REGION; without it PEFT stops with `KeyError: 'CORE_REGION'`.

{code}

## What the adapter keeps

The adapter changes {base.link} everywhere but in its core region, whose weights keep every bit.

{_facts(core_mask, base, beside="beside the adapter; it was not on the Hub")}
"""
    return CardSection(text, base, "peft")


def tuned_section(
    base: Base,
    *,
    core_mask: CoreMask | None = None,
    anchor: str | None = None,
    repo_id: str | None = None,
    auto_class: str = "AutoModelForCausalLM",
) -> CardSection:
    """The section of a model that was fine-tuned in place.

    Args:
        base: The model that training began with.
        core_mask: What was frozen; None where nothing was.
        anchor: How the weights were pulled towards the base; None where they were not.
        repo_id: Repository of the trained model; None where it is only a folder.
        auto_class: The class of transformers that loads it.
    """
    parts = []
    if core_mask is not None:
        parts.append("its core region was written back after every step, so that not one of its bits changed")
    if anchor is not None:
        parts.append(f"all weights were pulled back towards the base after every step ({anchor})")
    code = fence(f"""
from transformers import {auto_class}

model = {auto_class}.from_pretrained("{repo_id or HERE}")
""")
    facts = "" if core_mask is None else f"\n{_facts(core_mask, base, beside='not on the Hub')}\n"
    kept = f"In full fine-tuning of {base.link} {', and '.join(parts)}."
    text = f"## What was protected\n\n{kept}\n{facts}\nIt loads like any other model:\n\n{code}\n"
    return CardSection(text, base, "transformers")


def complete_card(folder: str | Path, section: CardSection, *, repo_id: str | None = None) -> None:
    """Put a section into the README.md of a folder, which is made if it is missing, and mend what cannot stand there.

    Args:
        folder: Of the adapter or model.
        section: The section.
        repo_id: Repository that the folder is pushed to, as far as it is known.

    Raises:
        InputError: The metadata of the card is no YAML mapping.
    """
    path = Path(folder, CARD_FILE)
    content = path.read_bytes().decode("utf-8", errors="replace") if path.is_file() else ""
    replace_text(path, completed(content, section, repo_id=repo_id))


def completed(content: str, section: CardSection, *, repo_id: str | None = None) -> str:
    """A card with the section in it; see `complete_card`."""
    metadata, text = split_card(content)
    mended = _mended(MARKS.put("", into=text), section, repo_id)
    return join_card(_metadata(metadata, section), MARKS.put(section.text, into=mended))


def _facts(core_mask: CoreMask, base: Base, *, beside: str) -> str:
    reference = CoreMaskReference.of(core_mask)
    source, commit = public_base(core_mask)
    count, size = core_mask.count(), core_mask.numel()
    rows = [
        (
            "core mask",
            beside if reference is None else model_link(reference.repo_id, reference.revision, otherwise=beside),
        ),
        ("its digest", f"`{core_mask.digest()}`"),
        ("how it was found", core_mask.provenance.summary()),
        ("core weights", f"{count:,} of {size:,} ({percent(count / size if size else 0.0)})"),
        ("base model", base.link),
    ]
    if source is not None and (source, commit) != (base.name, base.revision):
        rows.append(("the mask was found on", model_link(source, commit, otherwise=_NO_NAME)))
    return table(("", ""), rows)


def _metadata(metadata: Mapping[str, Any], section: CardSection) -> dict[str, Any]:
    """Metadata with our keys; names that nobody else can load go."""
    bases = [name for name in as_list(metadata.get("base_model")) if _is_public(name, section.base)]
    if section.base.name is not None and section.base.name not in bases:  # a user may have named several, for a merge
        bases = [section.base.name]
    tags = [_public_tag(tag, section.base) for tag in as_list(metadata.get("tags"))]
    merged = {
        **metadata,
        "library_name": section.library_name,
        "base_model": bases[0] if len(bases) == 1 else bases,
        "tags": union([tag for tag in tags if tag is not None], section.tags),
    }
    return {name: value for name, value in merged.items() if value not in (None, [], "")}


def _mended(text: str, section: CardSection, repo_id: str | None) -> str:
    """A card's text without links to nothing and without names of this machine."""
    base = section.base

    def named(found: re.Match[str]) -> str:
        return found[0] if _is_public(found[1], base) else f"fine-tuned version of {base.link}"

    text = _FINE_TUNED.sub(named, text)
    if section.library_name == "transformers":  # so says transformers of models from folders
        text = text.replace("was trained from scratch on", f"is a fine-tuned version of {base.link} on")
    text = text.replace('model="None"', f'model="{repo_id or HERE}"')
    if not section.is_chat:
        text = text.replace(_MESSAGES, "generator(question")
    if section.library_name == "peft":
        text = text.replace(f"```python\n{_QUICK_START}", f"```python\n{_IMPORT}{_QUICK_START}")
    if base.local is not None and re.search(r"[/\\]", base.local):
        text = text.replace(base.local, "a local folder")
    return text


def _is_public(name: Any, base: Base) -> bool:
    if not isinstance(name, str) or name in {"", "None", base.local}:
        return False
    return public_name(name) is not None or ("/" not in name and "\\" not in name)


def _public_tag(tag: Any, base: Base) -> Any:
    """PEFT's tag base_model:adapter:NAME with a name that others can load; None where there is none."""
    if not isinstance(tag, str) or not tag.startswith("base_model:"):
        return tag
    kind, _, name = tag.removeprefix("base_model:").rpartition(":")
    if _is_public(name, base):
        return tag
    return f"base_model:{kind}:{base.name}" if base.name and kind else None


def auto_class_of(model: Any) -> str:
    """The class of transformers that loads a model of this kind."""
    name = type(model).__name__.removeprefix("FSDP")
    endings = {
        ("ForCausalLM", "LMHeadModel"): "AutoModelForCausalLM",
        ("ForSequenceClassification",): "AutoModelForSequenceClassification",
        ("ForTokenClassification",): "AutoModelForTokenClassification",
        ("ForQuestionAnswering",): "AutoModelForQuestionAnswering",
        ("ForConditionalGeneration",): "AutoModelForSeq2SeqLM",
    }
    return next((auto for ends, auto in endings.items() if name.endswith(ends)), "AutoModel")
