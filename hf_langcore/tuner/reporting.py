"""How many weights an adapter protects, where PEFT prints how many it trains."""

from __future__ import annotations

import functools
import math
from typing import Any

from peft import PeftModel

from hf_langcore.tuner.layer import tuner_layers


def say_how_many_are_protected() -> None:
    """Let PeftModel.print_trainable_parameters print a second line for models of this method; others stay as they are.

    PEFT prints from the PeftModel, which asks the tuner nothing, so the method itself has to be extended.
    """
    original = PeftModel.print_trainable_parameters
    if hasattr(original, "says_protected"):
        return

    @functools.wraps(original)
    def print_trainable_parameters(self: PeftModel) -> None:
        original(self)
        if hasattr(self.base_model, "get_nb_protected"):
            print(protected_line(self.base_model))  # noqa: T201 as PEFT does

    print_trainable_parameters.says_protected = True  # type: ignore[attr-defined]
    PeftModel.print_trainable_parameters = print_trainable_parameters


def protected_line(tuner: Any) -> str:
    """How many weights of the adapted layers the active adapters keep as they are."""
    protected = tuner.get_nb_protected()
    layers = [layer for layer in tuner_layers(tuner.model) if layer._here(tuner.active_adapters)]  # noqa: SLF001
    weights = sum(math.prod(layer.weight_shape) for layer in layers)
    share = 100 * protected / weights if weights else 0.0
    return f"protected params: {protected:,d} || adapted layers' params: {weights:,d} || protected%: {share:.4f}"
