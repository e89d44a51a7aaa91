"""Optional dependencies: there, not there, and there but broken."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from hf_langcore.errors import MissingExtraError
from hf_langcore.extras import require


def test_what_is_installed_is_imported() -> None:
    """The module itself comes back, a submodule too."""
    assert require("json", extra="train", feature="x") is sys.modules["json"]
    assert require("os.path", extra="train", feature="x") is sys.modules["os.path"]


@pytest.mark.parametrize("module", ["no_such_package", "no_such_package.part"])
def test_what_is_missing_names_its_extra(module: str) -> None:
    """The message says what was wanted, what is missing and what to type."""
    with pytest.raises(MissingExtraError, match=f"^Training needs the package '{module}'") as caught:
        require(module, extra="train", feature="Training")
    assert 'pip install "hf_langcore[train]"' in str(caught.value)
    assert isinstance(caught.value.__cause__, ModuleNotFoundError)


def test_a_broken_package_is_not_called_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package that is installed but lacks one of its own dependencies says so itself."""
    (tmp_path / "half_installed.py").write_text("import not_there_at_all\n", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="not_there_at_all") as caught:
        require("half_installed", extra="train", feature="Training")
    assert not isinstance(caught.value, MissingExtraError)


def test_other_import_errors_pass_through(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A version conflict raises ImportError without a missing module."""
    (tmp_path / "conflicting.py").write_text("raise ModuleNotFoundError('too old')\n", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="too old") as caught:
        require("conflicting", extra="train", feature="Training")
    assert not isinstance(caught.value, MissingExtraError)
