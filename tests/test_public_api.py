"""The public names, and what importing them costs."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import hf_langcore

PROMISED = {
    "CoreFreezeCallback", "CoreMask", "CoreRegionConfig", "CoreRegionModel", "CoreRegionSFTConfig",
    "CoreRegionSFTTrainer", "PerplexityReport", "compute_core_mask", "compute_importance", "evaluate_perplexity",
    "find_critical_dimensions", "importance_from_checkpoints", "mix_general_data", "perturb", "scale_dimension",
    "set_dimension",
}  # fmt: skip


def test_every_promised_name_is_there() -> None:
    """`__all__` is sorted, complete, and every name can be had."""
    assert set(hf_langcore.__all__) >= PROMISED
    assert list(hf_langcore.__all__) == sorted(hf_langcore.__all__)
    for name in hf_langcore.__all__:
        assert getattr(hf_langcore, name) is not None
        assert name in dir(hf_langcore)


def test_the_lazy_table_has_a_typed_twin() -> None:
    """What loads lazily is what a type checker sees."""
    source = Path(hf_langcore.__file__).read_text(encoding="utf-8")
    imported = {
        alias.name
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.If)
        for statement in node.body
        if isinstance(statement, ast.ImportFrom)
        for alias in statement.names
    }
    assert imported == set(hf_langcore._HOME) | set(hf_langcore._MODULES)


def test_unknown_names_are_attribute_errors() -> None:
    """As for every module."""
    with pytest.raises(AttributeError, match="nonsense"):
        _ = hf_langcore.nonsense


@pytest.mark.parametrize(
    ("statement", "forbidden"),
    [
        ("import hf_langcore", {"torch", "transformers", "peft", "trl", "datasets", "numpy", "rich"}),
        ("import hf_langcore.cli.main", {"torch", "transformers", "peft", "trl", "datasets"}),
        ("from hf_langcore import registry; registry.lookup('Llama-2-13b-hf')", {"torch", "transformers", "numpy"}),
        ("from hf_langcore import CoreMask", {"transformers", "peft", "trl", "datasets"}),
        ("from hf_langcore import perturb", {"transformers", "peft", "trl", "datasets"}),
        ("from hf_langcore import evaluate_perplexity, compute_core_mask", {"peft", "trl"}),
    ],
)
def test_imports_stay_light(statement: str, forbidden: set[str]) -> None:
    """Heavy libraries are loaded only by what needs them, seen in a fresh process."""
    code = f"{statement}\nimport sys\nprint(' '.join(sorted({forbidden!r} & set(sys.modules))))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert loaded.stdout.split() == []


def test_every_public_name_is_documented() -> None:
    """Every public object has a docstring and stands in the reference."""
    reference = (Path(__file__).parent.parent / "docs" / "reference.md").read_text(encoding="utf-8")
    for name in set(hf_langcore.__all__) - {"__version__"}:
        assert getattr(hf_langcore, name).__doc__
        assert f"`{name}" in reference, f"{name} is missing in docs/reference.md"
