"""Saving a bare tuner the way PEFT saves a wrapped model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from peft import PeftModel
from peft.auto import MODEL_TYPE_TO_PEFT_MODEL_MAPPING
from torch import nn


class AdapterSaving:
    """`save_pretrained` and `push_to_hub` for a tuner.

    A tuner forwards what it does not have to the model inside, so without these it would save the whole base model.
    """

    def save_pretrained(
        self,
        save_directory: str | Path,
        *,
        selected_adapters: list[str] | None = None,
        safe_serialization: bool = True,
    ) -> None:
        """Save the adapters with their masks, as PeftModel.save_pretrained does; never the base model."""
        as_peft_model(self).save_pretrained(
            str(save_directory), selected_adapters=selected_adapters, safe_serialization=safe_serialization
        )

    def push_to_hub(
        self,
        repo_id: str,
        *,
        commit_message: str | None = None,
        private: bool | None = None,
        token: bool | str | None = None,
        revision: str | None = None,
    ) -> str:
        """Upload the adapters with their masks; never the base model.

        Returns:
            URL of the commit.
        """
        url: str = as_peft_model(self).push_to_hub(
            repo_id, commit_message=commit_message, private=private, token=token, revision=revision
        )
        return url


def as_peft_model(tuner: Any) -> PeftModel:
    """A PeftModel around a tuner, without wrapping the model a second time: PEFT's saving needs one."""
    config = next(iter(tuner.peft_config.values()))
    peft_class = MODEL_TYPE_TO_PEFT_MODEL_MAPPING.get(config.task_type, PeftModel)
    shell = peft_class.__new__(peft_class)
    nn.Module.__init__(shell)
    shell._is_prompt_learning = False  # noqa: SLF001 what PeftModel.__init__ would set
    shell._adapters_disabled = False  # noqa: SLF001
    shell.peft_type = config.peft_type
    shell.active_adapter = next(iter(tuner.active_adapters), next(iter(tuner.peft_config)))
    shell.base_model = tuner
    return shell
