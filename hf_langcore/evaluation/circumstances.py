"""Under which circumstances figures were measured: which model, as it was at that moment, with what, and when."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

import torch
import transformers
from torch import nn

from hf_langcore._version import __version__
from hf_langcore.architecture import unwrap
from hf_langcore.modes import adapters_in_force, alterations, edited_masks


def circumstances(model: nn.Module) -> dict[str, Any]:
    """What a report says about the model and the moment.

    Returns:
        `model` and `revision` (what it was loaded from), `dtype`, `edits` (open edits and those kept for good, in words;
        empty for weights as they were published, as far as this library knows), `edited_masks` (digests of the masks that
        these edits are about), `adapters` (those in force), `versions`, `date` (UTC).
    """
    config = getattr(unwrap(model), "config", None)
    return {
        "model": getattr(config, "_name_or_path", None) or None,
        "revision": getattr(config, "_commit_hash", None),
        "dtype": str(next(model.parameters()).dtype).removeprefix("torch."),
        "edits": alterations(model),
        "edited_masks": edited_masks(model),
        "adapters": adapters_in_force(model),
        "versions": {
            "hf_langcore": __version__,
            "torch": torch.__version__,
            "transformers": transformers.__version__,
        },
        "date": datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
    }
