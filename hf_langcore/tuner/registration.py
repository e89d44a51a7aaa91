"""PEFT's tables: CORE_REGION becomes a method like the built-in ones."""

from __future__ import annotations

from typing import Any

from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING
from peft.utils import register_peft_method
from peft.utils.peft_types import PeftType

from hf_langcore.errors import ConfigurationError
from hf_langcore.tuner.card import keep_cards_complete
from hf_langcore.tuner.config import METHOD, CoreRegionConfig
from hf_langcore.tuner.model import CoreRegionModel
from hf_langcore.tuner.reporting import say_how_many_are_protected


def register() -> None:
    """Register the method; calling it again does nothing.

    Raises:
        ConfigurationError: PEFT has another method of this name.
    """
    member = ensure_peft_type()
    say_how_many_are_protected()
    keep_cards_complete()
    known = PEFT_TYPE_TO_CONFIG_MAPPING.get(member)
    if known is None:
        register_peft_method(
            name=METHOD.lower(), config_cls=CoreRegionConfig, model_cls=CoreRegionModel, prefix=CoreRegionModel.prefix
        )
    elif known.__qualname__ != CoreRegionConfig.__qualname__:
        raise ConfigurationError(
            f"PEFT already has a method called {METHOD} ({known.__module__}.{known.__qualname__}), so hf_langcore's "
            "cannot be registered. Uninstall the package that brings the other one, or update hf_langcore."
        )


def ensure_peft_type() -> Any:
    """The member CORE_REGION of PEFT's enumeration of methods, made on the first call.

    PEFT looks methods up by enumeration member, transformers reads the member's `value`, and pickled configs find
    it by value, so a plain string in its place would not do. Enumerations are closed once their class is made;
    this does by hand what their metaclass does for each member.
    """
    if METHOD not in PeftType.__members__:
        member = str.__new__(PeftType, METHOD)
        member._name_ = member._value_ = METHOD
        member._sort_order_ = len(PeftType)
        member.__objclass__ = PeftType
        type.__setattr__(PeftType, METHOD, member)
        PeftType._member_names_.append(METHOD)
        PeftType._member_map_[METHOD] = member
        PeftType._value2member_map_[METHOD] = member
        if hasattr(PeftType, "_hashable_values_"):  # Python 3.13 keeps a second list
            PeftType._hashable_values_.append(METHOD)
    return PeftType[METHOD]


register()
