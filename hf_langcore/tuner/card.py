"""The card of an adapter: what has to be imported, what is protected, and where the mask comes from."""

from __future__ import annotations

import functools
import inspect
from pathlib import Path
from typing import Any

from peft import PeftModel

from hf_langcore.architecture import unwrap
from hf_langcore.hub.front_matter import CARD_FILE, join_card, split_card, union
from hf_langcore.hub.references import commit_or_none
from hf_langcore.hub.sections import Base, CardSection, adapter_section, auto_class_of, complete_card
from hf_langcore.masks import CoreMask

_DONE = "completes_cards"
_GENERIC = "This is the model card of a 🤗 transformers model that has been pushed on the Hub."


class AdapterCard:
    """What a tuner says in the card of its adapters."""

    def card_section(self, repo_id: str | None = None) -> tuple[CardSection, CoreMask]:
        """The section of the adapter that lies at the top of the folder, and its mask.

        Args:
            repo_id: Repository that the adapter is pushed to; None where it is only saved.
        """
        tuner: Any = self
        name = (
            "default"
            if "default" in tuner.peft_config
            else next(iter(tuner.active_adapters), next(iter(tuner.peft_config)))
        )
        core_mask = tuner._mask_of(name)  # noqa: SLF001 it is mixed into the tuner
        inner = unwrap(tuner.model)
        named = getattr(getattr(inner, "config", None), "_name_or_path", None) or None
        config = tuner.peft_config[name]
        base = Base.of(
            named,
            commit_or_none(config.revision),
            core_mask=core_mask,
            is_same=config.base_check == "error" and config.method is None,
        )
        section = adapter_section(
            core_mask,
            base,
            repo_id=repo_id,
            subfolder=None if name == "default" else name,
            auto_class=auto_class_of(inner),
        )
        return section, core_mask


def keep_cards_complete() -> None:
    """Let PeftModel write our section into the cards of this method's adapters; those of others stay as they are.

    `save_pretrained` writes PEFT's card, and `push_to_hub`, which comes from transformers, puts the one that the repository
    has, or a generic one of transformers, in its place before it uploads.
    """
    if hasattr(PeftModel.create_or_update_model_card, _DONE):
        return
    written, upload = PeftModel.create_or_update_model_card, PeftModel._upload_modified_files  # noqa: SLF001
    signature = inspect.signature(upload)

    @functools.wraps(written)
    def create_or_update_model_card(self: PeftModel, output_dir: str) -> None:
        if not isinstance(self.base_model, AdapterCard):
            written(self, output_dir)
            return
        before = _metadata_of(output_dir)
        written(self, output_dir)
        _write_section(self, output_dir, before=before)

    @functools.wraps(upload)
    def upload_modified_files(self: PeftModel, *args: Any, **kwargs: Any) -> Any:
        if isinstance(self.base_model, AdapterCard):
            given = signature.bind(self, *args, **kwargs).arguments
            folder, repo_id = given["working_dir"], given["repo_id"]
            if _is_generic(folder):  # nobody has written anything yet: PEFT's card is the better one
                Path(folder, CARD_FILE).unlink()
            before = _metadata_of(folder)
            written(self, folder)
            _write_section(self, folder, before=before, repo_id=repo_id)
        return upload(self, *args, **kwargs)

    setattr(create_or_update_model_card, _DONE, True)
    PeftModel.create_or_update_model_card = create_or_update_model_card
    PeftModel._upload_modified_files = upload_modified_files  # noqa: SLF001


def _write_section(model: PeftModel, folder: str, *, before: dict[str, Any], repo_id: str | None = None) -> None:
    """Complete the card that PEFT has just written.

    Args:
        model: The model.
        folder: Of the card.
        before: The card's metadata before PEFT replaced tags and base model by its own.
        repo_id: Repository that the folder is pushed to.
    """
    path = Path(folder, CARD_FILE)
    metadata, text = split_card(path.read_text(encoding="utf-8"))
    metadata["tags"] = union(metadata.get("tags"), before.get("tags"))
    metadata["base_model"] = before.get("base_model") or metadata.get("base_model")
    path.write_text(join_card(metadata, text), encoding="utf-8")
    section, _ = model.base_model.card_section(repo_id)
    complete_card(folder, section, repo_id=repo_id)


def _metadata_of(folder: str) -> dict[str, Any]:
    path = Path(folder, CARD_FILE)
    return split_card(path.read_text(encoding="utf-8"))[0] if path.is_file() else {}


def _is_generic(folder: str) -> bool:
    path = Path(folder, CARD_FILE)
    return path.is_file() and _GENERIC in path.read_text(encoding="utf-8")
