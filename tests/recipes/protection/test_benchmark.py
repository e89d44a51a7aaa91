"""The methods of the retention benchmark."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from torch import nn

from hf_langcore.errors import ConfigurationError
from hf_langcore.recipes.protection import benchmark as benchmark_module
from hf_langcore.recipes.protection.adapters import adapter_config
from hf_langcore.recipes.protection.benchmark import benchmark_methods, methods_to_dict, read_methods


def no_core() -> Any:
    return None


def test_at_least_ten_methods_come_with_it() -> None:
    """Each at several rates and with options that PEFT takes; full fine-tuning and the frozen core to compare with."""
    methods = benchmark_methods(nn.Linear(2, 2))
    curves = {method.curve for method in methods}
    kinds = {method.adapter["peft_type"] for method in methods if isinstance(method.adapter, dict)}
    assert len(curves) >= 10
    assert kinds >= {"LORA", "IA3", "OFT", "OSF", "SHIRA", "PREFIX_TUNING", "PROMPT_TUNING", "P_TUNING", "CORE_REGION"}
    assert len({method.name for method in methods}) == len(methods) == 3 * len(curves)
    assert [one.frozen for one in methods if one.adapter is None] == [None] * 3 + ["core"] * 3
    for method in methods:
        if method.adapter is not None:
            assert adapter_config(method.adapter, no_core).task_type == "CAUSAL_LM"


def test_large_models_get_smaller_rates(monkeypatch: pytest.MonkeyPatch) -> None:
    """A tenth; some methods can be chosen by name."""
    small = benchmark_methods(nn.Linear(2, 2), ["LoRA", "IA3"])
    assert list(dict.fromkeys(method.curve for method in small)) == ["LoRA", "IA3"]
    monkeypatch.setattr(benchmark_module, "_LARGE_MODEL", 6)
    large = benchmark_methods(nn.Linear(2, 2), ["LoRA"])
    assert [one.learning_rate for one in large] == [pytest.approx(one.learning_rate / 10) for one in small[:3]]
    with pytest.raises(ConfigurationError, match="no method 'lora'"):
        benchmark_methods(nn.Linear(2, 2), ["lora"])


def test_a_file_says_the_same_as_code(tmp_path: Path) -> None:
    """YAML or JSON, one rate or several, rates as YAML reads them; what is written can be read again."""
    methods = benchmark_methods(nn.Linear(2, 2), ["full fine-tuning", "frozen core", "LoRA"])
    values = methods_to_dict(methods)
    for name, text in (("m.yaml", yaml.safe_dump(values)), ("m.json", json.dumps(values))):
        (tmp_path / name).write_text(text, encoding="utf-8")
        assert methods_to_dict(read_methods(tmp_path / name)) == values
    (tmp_path / "one.yaml").write_text("mine:\n  learning_rate: 1e-3\n  anchor_strength: 0.1\n", encoding="utf-8")
    (one,) = read_methods(tmp_path / "one.yaml")
    assert (one.curve, one.learning_rate, one.anchor_strength, one.adapter) == ("mine", 0.001, 0.1, None)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("- 1\n", "must map names"),
        ("{}", "must map names"),
        ("a: [", "no readable"),
        ("a: {learning_rate: fast}", "'a' needs a learning_rate"),
        ("a: {frozen: core}", "'a' needs a learning_rate"),
        ("a: {learning_rate: []}", "each once"),
        ("a: {learning_rate: [0.1, 0.1]}", "each once"),
        ("a: {learning_rate: true}", "'a' needs a learning_rate"),
        ("a: {learning_rate: 0.1, frozen: corr}", "needs frozen as one of"),
        ("a: {learning_rate: -1}", "above 0"),
        ("a: {learning_rate: 0.1, peft: LORA}", "the field 'peft'"),
    ],
)
def test_a_wrong_file_is_refused(tmp_path: Path, text: str, words: str) -> None:
    """With what is wrong, and in which method."""
    path = tmp_path / "m.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigurationError, match=words):
        read_methods(path)
    with pytest.raises(ConfigurationError, match="no readable"):
        read_methods(tmp_path / "missing.yaml")
