"""The methods of the retention benchmark: those that come with it, and those of a file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from torch import nn

from hf_langcore.errors import ConfigurationError
from hf_langcore.recipes.protection.adapters import described
from hf_langcore.recipes.protection.methods import FULL, Method

_LARGE_MODEL = 100_000_000
_LARGE_SCALE = 0.1
_LINEAR = {"target_modules": "all-linear"}
_LOW_RANK = {"r": 16, "lora_alpha": 32, **_LINEAR}
_VIRTUAL = {"num_virtual_tokens": 16}

_WEIGHTS = (3e-4, 1e-3, 3e-3)
_FACTORS = (1e-3, 3e-3, 1e-2)
_VECTORS = (1e-2, 3e-2, 1e-1)

# Name -> fields of the method, with the learning rates that are tried on models of a few million parameters.
_STANDARD: dict[str, dict[str, Any]] = {
    FULL: {"learning_rate": _WEIGHTS},
    "frozen core": {"frozen": "core", "learning_rate": _WEIGHTS},
    "masked adapter": {"adapter": {"peft_type": "CORE_REGION", **_LOW_RANK}, "learning_rate": _FACTORS},
    "LoRA": {"adapter": {"peft_type": "LORA", **_LOW_RANK}, "learning_rate": _FACTORS},
    "DoRA": {"adapter": {"peft_type": "LORA", "use_dora": True, **_LOW_RANK}, "learning_rate": _FACTORS},
    "OFT": {"adapter": {"peft_type": "OFT", "r": 0, "oft_block_size": 32, **_LINEAR}, "learning_rate": _FACTORS},
    "OSF": {"adapter": {"peft_type": "OSF", **_LINEAR}, "learning_rate": _WEIGHTS},
    "SHiRA": {"adapter": {"peft_type": "SHIRA", "r": 16, **_LINEAR}, "learning_rate": _FACTORS},
    "VeRA": {"adapter": {"peft_type": "VERA", "r": 64, **_LINEAR}, "learning_rate": _VECTORS},
    "IA3": {"adapter": {"peft_type": "IA3", "feedforward_modules": [], **_LINEAR}, "learning_rate": _VECTORS},
    "norm tuning": {"adapter": {"peft_type": "LN_TUNING"}, "learning_rate": _VECTORS},
    "prefix tuning": {"adapter": {"peft_type": "PREFIX_TUNING", **_VIRTUAL}, "learning_rate": _VECTORS},
    "prompt tuning": {"adapter": {"peft_type": "PROMPT_TUNING", **_VIRTUAL}, "learning_rate": (3e-2, 1e-1, 3e-1)},
    "p-tuning": {
        "adapter": {"peft_type": "P_TUNING", "encoder_hidden_size": 128, **_VIRTUAL},
        "learning_rate": _FACTORS,
    },
}


def benchmark_methods(model: nn.Module, names: Sequence[str] | None = None) -> list[Method]:
    """The methods that come with the benchmark: each at three learning rates, of which the run takes the best.

    The rates suit models of a few million parameters; those of 100 million or more get a tenth of them. Other rates, and other
    methods, come from a file (`read_methods`).

    Args:
        model: The model that is to be trained.
        names: Some of the methods; all if None.

    Raises:
        ConfigurationError: A name is none of them.
    """
    unknown = [name for name in names or () if name not in _STANDARD]
    if unknown:
        raise ConfigurationError(f"The benchmark has no method {unknown[0]!r}. It has {', '.join(_STANDARD)}.")
    scale = _LARGE_SCALE if sum(one.numel() for one in model.parameters()) >= _LARGE_MODEL else 1.0
    return [
        method for name in (_STANDARD if names is None else names) for method in _methods(name, _STANDARD[name], scale)
    ]


def read_methods(path: str | Path) -> list[Method]:
    """Methods from a YAML or JSON file: name -> its fields.

    `learning_rate` is one rate or several, `adapter` the fields of a PEFT config with `peft_type`; beside them there may be all other
    fields of `Method`.

    Raises:
        ConfigurationError: The file cannot be read, or a method has no such field or value.
    """
    import yaml

    try:
        found = yaml.safe_load(Path(path).read_text(encoding="utf-8"))  # JSON is YAML, too
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigurationError(f"{str(path)!r} is no readable YAML or JSON file ({error}).") from error
    if not isinstance(found, dict) or not found or not all(isinstance(one, dict) for one in found.values()):
        raise ConfigurationError(
            f"{str(path)!r} must map names of methods to their fields, such as "
            '{"LoRA": {"learning_rate": [0.001, 0.003], "adapter": {"peft_type": "LORA", "r": 16}}}.'
        )
    return [method for name, values in found.items() for method in _methods(str(name), values)]


def methods_to_dict(methods: Sequence[Method]) -> dict[str, Any]:
    """Methods as such a file has them, for reports."""
    found: dict[str, Any] = {}
    for method in methods:
        known = found.setdefault(method.curve or method.name, {"learning_rate": []})
        known["learning_rate"].append(method.learning_rate)
        values = {name: getattr(method, name) for name in _OPTIONS} | {"adapter": described(method.adapter)}
        known |= {name: value for name, value in values.items() if value}
    return found


_OPTIONS = [one.name for one in fields(Method) if one.name not in {"name", "curve", "learning_rate"}]


def _methods(name: str, values: Mapping[str, Any], scale: float = 1.0) -> list[Method]:
    unknown = sorted(set(map(str, values)) - {"learning_rate", *_OPTIONS})
    if unknown:
        raise ConfigurationError(
            f"The method {name!r} has the field {unknown[0]!r}; expected learning_rate, {', '.join(_OPTIONS)}."
        )
    given = values.get("learning_rate")
    rates = [_rate(name, one) for one in (given if isinstance(given, (list, tuple)) else [given])]
    if not rates or len(set(rates)) < len(rates):
        raise ConfigurationError(f"The method {name!r} needs learning rates, each once; got {given!r}.")
    options = {key: value for key, value in values.items() if key != "learning_rate"}
    return [Method(f"{name}, learning rate {rate * scale:g}", name, rate * scale, **options) for rate in rates]


def _rate(name: str, value: Any) -> float:
    try:
        # YAML reads 1e-3 as a word; and true is no rate of 1.
        return float(str(value) if isinstance(value, bool) else value)
    except (TypeError, ValueError) as error:
        raise ConfigurationError(
            f"The method {name!r} needs a learning_rate such as 0.001 or [0.001, 0.003]; got {value!r}."
        ) from error
