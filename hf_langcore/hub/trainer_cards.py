"""Trainers' cards: our section in what transformers and TRL write before each push."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from torch import nn

from hf_langcore.architecture import unwrap
from hf_langcore.hub.front_matter import CARD_FILE
from hf_langcore.hub.references import write_reference
from hf_langcore.hub.sections import Base, CardSection, auto_class_of, complete_card, tuned_section
from hf_langcore.masks import CoreMask
from hf_langcore.modes import note_training

_DONE = "completes_cards"
_NOTES = "_core_region_notes"


@dataclass(frozen=True, slots=True)
class CardNote:
    """What a callback has done to a model that is trained in place.

    Attributes:
        core_mask: What it froze; None where it froze nothing.
        anchor: How it pulled the weights towards the base, in words; None where it did not.
        is_base_checked: Whether the weights that training began with are known to be those that the mask was found on.
    """

    core_mask: CoreMask | None = None
    anchor: str | None = None
    is_base_checked: bool = False


@runtime_checkable
class WritesSection(Protocol):
    """A model with adapters that says what its card needs."""

    def card_section(self, repo_id: str | None) -> tuple[CardSection, CoreMask]:
        """The section, and the mask that belongs to the model."""


class CardNotes:
    """A callback that protects a model and says so in its card."""

    def card_note(self) -> CardNote:
        """What the callback does to the model."""
        raise NotImplementedError

    def remember_in(self, model: nn.Module) -> None:
        """Let the model know, so that its own `push_to_hub` and what is measured on it can say it; to be called when training begins."""
        bare = unwrap(model)
        note_training(bare)
        setattr(bare, _NOTES, {**getattr(bare, _NOTES, {}), type(self).__name__: self.card_note()})


def complete_cards_of(trainer_class: Any) -> None:
    """Let a trainer add our section to the cards that it pushes, where the run has something to say.

    Trainers write the card anew before each push, and give callbacks no word in it. While training runs, transformers' Trainer
    pushes without one; then ours is the first. What has been extended already, or is inherited, is left alone.

    Args:
        trainer_class: transformers' Trainer, or a class that overrides its `create_model_card`.
    """
    _extend(trainer_class, "create_model_card", after=_complete)
    _extend(trainer_class, "_push_from_checkpoint", before=_write_first)


def complete_cards_of_models(model_class: Any) -> None:
    """Let `push_to_hub` of a model that was trained under one of our callbacks write our section into its card.

    Args:
        model_class: transformers' PreTrainedModel.
    """
    upload = model_class._upload_modified_files  # noqa: SLF001 the last that is called before the upload
    if hasattr(upload, _DONE):
        return
    signature = inspect.signature(upload)

    @functools.wraps(upload)
    def upload_modified_files(self: Any, *args: Any, **kwargs: Any) -> Any:
        notes = getattr(self, _NOTES, None)
        if notes:
            given = signature.bind(self, *args, **kwargs).arguments
            write_tuned_card(given["working_dir"], self, list(notes.values()), repo_id=given["repo_id"])
        return upload(self, *args, **kwargs)

    setattr(upload_modified_files, _DONE, True)
    model_class._upload_modified_files = upload_modified_files  # noqa: SLF001


def _extend(
    trainer_class: Any, name: str, *, before: Callable[[Any], object] = bool, after: Callable[[Any], object] = bool
) -> None:
    original = trainer_class.__dict__.get(name)
    if original is None or hasattr(original, _DONE):
        return

    @functools.wraps(original)
    def extended(self: Any, *args: Any, **kwargs: Any) -> Any:
        is_main = self.is_world_process_zero()
        if is_main:
            before(self)
        made = original(self, *args, **kwargs)
        if is_main:
            after(self)
        return made

    setattr(extended, _DONE, True)
    setattr(trainer_class, name, extended)


def write_tuned_card(
    folder: str | Path,
    model: Any,
    notes: Sequence[CardNote],
    *,
    repo_id: str | None = None,
    revision: str | None = None,
    is_chat: bool = True,
) -> None:
    """Complete the card of a model that is trained in place, and name its mask beside it.

    Args:
        folder: Where the model is saved.
        model: The model, unwrapped.
        notes: What was done to it.
        repo_id: The repository that it is pushed to.
        revision: What it was loaded with, where that is known.
        is_chat: Whether its tokenizer has a chat template.
    """
    core_mask = next((note.core_mask for note in notes if note.core_mask is not None), None)
    base = Base.of(
        getattr(getattr(model, "config", None), "_name_or_path", None),
        revision,
        core_mask=core_mask,
        is_same=all(note.is_base_checked for note in notes if note.core_mask is not None),
    )
    section = tuned_section(
        base,
        core_mask=core_mask,
        anchor=next((note.anchor for note in notes if note.anchor is not None), None),
        repo_id=repo_id,
        auto_class=auto_class_of(model),
    )
    complete_card(folder, replace(section, is_chat=is_chat), repo_id=repo_id)
    write_reference(folder, core_mask)


def _complete(trainer: Any) -> None:
    model = trainer.accelerator.unwrap_model(trainer.model)
    folder = Path(trainer.args.output_dir)
    repo_id = getattr(trainer, "hub_model_id", None) or trainer.args.hub_model_id
    tuner = getattr(model, "base_model", None)
    if isinstance(tuner, WritesSection):
        section, core_mask = tuner.card_section(repo_id)
        complete_card(folder, replace(section, is_chat=_is_chat(trainer)), repo_id=repo_id)
        write_reference(folder, core_mask)
        return
    notes = [one.card_note() for one in trainer.callback_handler.callbacks if isinstance(one, CardNotes)]
    if notes:
        revision = (getattr(trainer.args, "model_init_kwargs", None) or {}).get("revision")
        write_tuned_card(folder, model, notes, repo_id=repo_id, revision=revision, is_chat=_is_chat(trainer))


def _is_chat(trainer: Any) -> bool:
    return getattr(getattr(trainer, "processing_class", None), "chat_template", None) is not None


def _write_first(trainer: Any) -> None:
    if not Path(trainer.args.output_dir, CARD_FILE).exists():
        _complete(trainer)
