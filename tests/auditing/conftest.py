"""Views of single texts, clean text in ten languages, and noise to put into it."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from hf_langcore.auditing.findings import Check, Finding
from hf_langcore.auditing.parts import Part, View
from hf_langcore.data.mini import mini_corpora


@pytest.fixture(scope="session")
def noise() -> ModuleType:
    """The module of this folder that makes noise."""
    spec = importlib.util.spec_from_file_location("noise", Path(__file__).parent / "noise.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def clean() -> dict[str, list[str]]:
    """Language -> documents of the built-in corpus; sentences differ from document to document."""
    return mini_corpora(sentences=48, sentences_per_document=6)


@pytest.fixture
def kinds() -> Callable[..., list[str]]:
    """The kinds that a check finds in one text, or in the turns of a conversation."""

    def look(check: Check, *texts: Any) -> list[str]:
        return [one.kind for one in found(check, *texts)]

    return look


def found(check: Check, *texts: Any) -> list[Finding]:
    parts = [text if isinstance(text, Part) else Part("text", text) for text in texts]
    return [*check.examine(View(0, {"text": "x"}, tuple(parts))), *check.finish()]
