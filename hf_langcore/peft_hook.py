"""What happens in other libraries once hf_langcore is imported: PEFT knows CORE_REGION, and cards are complete.

PEFT has no entry points for methods that live in other packages, and trainers give nobody a word in the card that they write
before a push. So they are extended, right after their own code has run, and never imported for that.
"""

from __future__ import annotations

import functools
import importlib
import sys
import warnings

from hf_langcore.after_import import after_import, is_ready

_PEFT = "peft"
_TUNER = "hf_langcore.tuner"
_REGISTRATION = f"{_TUNER}.registration"
_CARDS = "hf_langcore.hub.trainer_cards"
_EXTENDED = {
    "transformers.trainer": ("Trainer", "complete_cards_of"),
    "trl.trainer.base_trainer": ("_BaseTrainer", "complete_cards_of"),
    "transformers.modeling_utils": ("PreTrainedModel", "complete_cards_of_models"),
}  # module -> class, and what extends it


def install() -> None:
    """Extend PEFT, models and trainers now where they are imported, else as soon as they are.

    Calling it again does no harm, and neither does a missing library.
    """
    after_import(_PEFT, lambda: _register())  # noqa: PLW0108 looked up when it is called
    for module, (name, extension) in _EXTENDED.items():
        after_import(module, functools.partial(_extend, module, name, extension))


def _register() -> None:
    """Import the registration; whatever goes wrong there must not break somebody's `import peft`."""
    if _TUNER in sys.modules and not is_ready(sys.modules[_TUNER]):
        return  # the tuner itself is what imports PEFT just now, and it registers when it is complete
    try:
        importlib.import_module(_REGISTRATION).register()
    except Exception as error:  # noqa: BLE001 PEFT works without this method, so PEFT's import must go through
        warnings.warn(
            f"hf_langcore could not register its method CORE_REGION with PEFT: {error!r}. PEFT works without it; to "
            "load CORE_REGION adapters install versions of peft and hf_langcore that fit together.",
            RuntimeWarning,
            stacklevel=2,
        )


def _extend(module: str, name: str, extension: str) -> None:
    """Extend a class; whatever goes wrong there must not break its import."""
    try:
        getattr(importlib.import_module(_CARDS), extension)(getattr(sys.modules[module], name))
    except Exception as error:  # noqa: BLE001 it works without this, only its card is poorer
        warnings.warn(
            f"hf_langcore could not extend {module}.{name}: {error!r}. Training works without it; cards that are pushed will "
            "not say what was protected. Install versions that fit together.",
            RuntimeWarning,
            stacklevel=2,
        )
