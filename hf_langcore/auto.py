"""Which of transformers' auto classes a language model is loaded with."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSeq2SeqLM


def auto_class_of(config: Any) -> Any:
    """`AutoModelForSeq2SeqLM` for encoder-decoder models such as T5 and BART, `AutoModelForCausalLM` for all others."""
    return AutoModelForSeq2SeqLM if getattr(config, "is_encoder_decoder", False) else AutoModelForCausalLM


def auto_class_for(
    name: str | Path,
    *,
    revision: str | None = None,
    trust_remote_code: bool = False,
    choose: Callable[[Any], Any] = auto_class_of,
) -> Any:
    """The auto class for a folder or a Hub id, by its config.

    Args:
        name: The folder or the id.
        revision: Branch, tag or commit on the Hub.
        trust_remote_code: Run the code of a repository.
        choose: Config -> auto class.

    Raises:
        OSError: There is no such model.
        ValueError: Its config is of a kind that transformers does not know.
    """
    config = AutoConfig.from_pretrained(name, revision=revision or "main", trust_remote_code=trust_remote_code)
    return choose(config)
