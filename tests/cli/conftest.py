"""A tiny model on disk, and `langcore` as a function."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from hf_langcore.cli.main import main
from hf_langcore.data.mini import mini_corpora
from hf_langcore.recipes.pretraining import TinyModel, pretrain


class Outcome(NamedTuple):
    code: int
    out: str
    err: str


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A tiny Llama and its tokenizer."""
    shape = TinyModel(vocab_size=300, hidden_size=32, intermediate_size=48, layers=2, heads=2, block_size=32, steps=3)
    model, tokenizer = pretrain(mini_corpora(["en", "zh"], sentences=40), shape=shape, progress=False)
    folder = tmp_path_factory.mktemp("model")
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="session")
def texts_folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    """One file per language."""
    folder = tmp_path_factory.mktemp("texts")
    for language, documents in mini_corpora(["en", "zh", "es"], sentences=32).items():
        (folder / f"{language}.txt").write_text("\n".join(documents), encoding="utf-8")
    return str(folder)


@pytest.fixture
def langcore(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Callable[..., Outcome]:
    """Run `langcore` in an empty folder: exit code, standard output, standard error."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: Any) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["langcore", *map(str, arguments)])
        capsys.readouterr()  # what libraries said while models were made is not the command's
        try:
            main()
            code = 0
        except SystemExit as stop:
            code = int(stop.code or 0)
        captured = capsys.readouterr()
        return Outcome(code, captured.out, captured.err)

    return run
