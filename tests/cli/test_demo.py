"""`langcore demo`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hf_langcore.recipes import demo as recipe


def test_options_reach_the_recipe(langcore: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command is one call of the recipe."""
    calls: list[Any] = []
    monkeypatch.setattr(recipe, "run_demo", lambda output, **options: calls.append((output, options)))
    assert langcore("demo", "-o", "here", "--overwrite", "-q").code == 0
    ((output, options),) = calls
    assert output == Path("here")
    assert (options["overwrite"], options["progress"]) == (True, False)


def test_an_existing_folder_is_refused(langcore: Any, tmp_path: Path) -> None:
    """An earlier demo is kept unless --overwrite is given, and that is known at once."""
    (tmp_path / "demo-out").mkdir()
    (tmp_path / "demo-out" / "results.json").write_text("{}")
    outcome = langcore("demo")
    assert outcome.code == 1
    assert "--overwrite" in outcome.err
    (tmp_path / "file").write_text("precious")
    assert "no folder" in langcore("demo", "-o", "file", "--overwrite").err
