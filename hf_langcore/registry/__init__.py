"""Known critical coordinates of language models, each with its source, and a measurement that says whether they hold.

    from hf_langcore import registry

    registry.lookup("mistralai/Mistral-7B-v0.1")      # what is known
    registry.verify(model, tokenizer, corpora)         # whether it holds here
    registry.register({...})                           # a coordinate of one's own

Looking up and registering load neither torch nor transformers.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from hf_langcore.registry.catalogue import entries, lookup, models
from hf_langcore.registry.entry import Activation, Effect, Entry
from hf_langcore.registry.user_file import register

if TYPE_CHECKING:
    from hf_langcore.registry.results import Verification, VerifiedEntry
    from hf_langcore.registry.scans import register_scan
    from hf_langcore.registry.verification import verify

_HEAVY = {
    "Verification": "results",
    "VerifiedEntry": "results",
    "register_scan": "scans",
    "verify": "verification",
}

__all__ = [
    "Activation",
    "Effect",
    "Entry",
    "Verification",
    "VerifiedEntry",
    "entries",
    "lookup",
    "models",
    "register",
    "register_scan",
    "verify",
]


def __getattr__(name: str) -> Any:
    """Load what needs torch when it is first used."""
    home = _HEAVY.get(name)
    if home is None:
        raise AttributeError(f"module 'hf_langcore.registry' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"hf_langcore.registry.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return list(__all__)
